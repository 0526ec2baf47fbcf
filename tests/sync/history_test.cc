// Long random lives of three sessions on one host directory, two of them with the same far end:
// edits and deletions on all sides, also in the middle of a fetch and of a landing, pushes, pulls,
// undo, dry runs, all of those at once, restarts, crashes before the base's commit, and far ends
// made anew.
//
// After each step: a version that nobody overwrote or deleted where it was seen is still somewhere,
// under its name, beside it, in the undo store or on another side; where conflicts keep both and
// nothing is undone, not even in the undo store alone. In the end: all sides are equal.

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <set>

#include "daemon/runtime/check.h"
#include "daemon/runtime/task_group.h"
#include "tests/sync/fault_fs.h"
#include "tests/sync/process.h"
#include "tests/sync/sync_stand.h"
#include "tests/sync/unpack_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

constexpr int kSteps = 80;  // of one history
constexpr int kHistories = 26;
constexpr int kDeepHistories = 390;
constexpr int kShards = 13;

const std::vector<std::string>& Names() {
  static const auto* const kNames =
      new std::vector<std::string>{"a", "b", "c.txt", "d/a", "d/b", "e/f/g", "e/f/h.tar"};
  return *kNames;
}

class History : public SyncStand {
 public:
  explicit History(uint64_t seed)
      : SyncStand(RealRoot::Where::kMemory), seed_(seed), dice_(seed * 2654435761 + 1) {
    fs::create_directory(dir_ + "/far2");
    fs::create_directory(dir_ + "/tmp");
    policy_ = Pick<ConflictPolicy>(
        {ConflictPolicy::kRemote, ConflictPolicy::kHost, ConflictPolicy::kBoth});
    landing_.skip_syncs = true;
    landing_fs_ = &landing_;
    NewDaemon();
    OpenAll();
  }
  ~History() override { CloseAll(); }
  void TestBody() override {}

  void Play() {
    for (int step = 0; step < kSteps && !HasFailure(); ++step) {
      SCOPED_TRACE("history " + std::to_string(seed_) + " step " + std::to_string(step));
      Step();
      CheckNothingIsLost();
    }
    SCOPED_TRACE("end of history " + std::to_string(seed_));
    if (!HasFailure()) Settle();
  }

 private:
  enum Side { kHost, kFar, kFar2, kSides };
  struct Session {
    std::string name;
    Side far_side;
    std::unique_ptr<SyncManager> manager;
    DirTree* far = nullptr;
    std::vector<std::string> pulls;
  };

  template <typename T>
  T Pick(std::vector<T> from) {
    return from[dice_.Below(from.size())];
  }
  Session& AnySession() { return sessions_[dice_.Below(sessions_.size())]; }
  Side AnySide() { return static_cast<Side>(dice_.Below(kSides)); }
  std::string PathOf(Side side) const {
    return dir_ + (side == kHost ? "/host" : side == kFar ? "/far" : "/far2");
  }

  void OpenAll() {
    for (const auto& [name, side] :
         {std::pair("one", kFar), std::pair("two", kFar), std::pair("three", kFar2)}) {
      Mount mount{.remote_root = PathOf(side), .conflict = policy_};
      Session& session = sessions_.emplace_back(Session{name, side, nullptr, nullptr, {}});
      session.manager = MakeManager({mount}, name, &session.far);
      session.pulls = pulls_[name];
    }
  }
  void CloseAll() {
    for (const Session& session : sessions_) pulls_[session.name] = session.pulls;
    sessions_.clear();
  }
  void Restart() {
    CloseAll();
    NewDaemon();
    OpenAll();
  }

  // Atomically, so that it is known what was there, whatever lands meanwhile.
  void Replace(Side side, const std::string& name, const std::string& bytes) {
    const std::string path = PathOf(side) + "/" + name;
    const std::string fresh = dir_ + "/tmp/fresh";
    Spit(fresh, bytes);
    for (;;) {
      if (renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) {
        live_.erase(Slurp(fresh));
        fs::remove(fresh);
        break;
      }
      CHECK(errno == ENOENT);
      std::error_code ignored;
      fs::create_directories(fs::path(path).parent_path(), ignored);
      if (renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0) break;
    }
    live_.insert(bytes);
  }
  void Edit(Side side) {
    const std::string version = "v" + std::to_string(++versions_);
    // As long as others, or not.
    const std::string bytes = dice_.Below(2) == 0 ? version : version + std::string(100, '.');
    if (in_gaps_) hasty_.insert(bytes);
    Replace(side, Pick(Names()), bytes);
  }
  void Delete(Side side) {
    const std::string path = PathOf(side) + "/" + Pick(Names());
    const std::string gone = dir_ + "/tmp/gone";
    if (rename(path.c_str(), gone.c_str()) != 0) return;
    live_.erase(Slurp(gone));
    fs::remove(gone);
  }
  void Change() {
    if (dice_.Below(4) == 0) return Delete(AnySide());
    Edit(AnySide());
  }

  Task<void> DoPush(Session* session) {
    PushRequest request{.force = dice_.Below(4) == 0};
    const auto report = co_await session->manager->Push(std::move(request));
    EXPECT_TRUE(report.ok()) << report.status();
  }
  Task<void> CannotPush(Session* session) {
    const auto report = co_await session->manager->Push({.force = true});
    EXPECT_TRUE(report.ok() || ReasonOf(report.status()) == Reason::k_BACKEND_UNREACHABLE)
        << report.status();
  }
  Task<void> DoPull(Session* session, PullRequest request) {
    request.id = session->name + std::to_string(++pulled_);
    if (!request.dry_run) session->pulls.push_back(request.id);
    const auto report = co_await session->manager->Pull(std::move(request));
    const bool stirred = ReasonOf(report.status()) == Reason::k_PLAN_STALE;
    EXPECT_TRUE(report.ok() || (at_once_ && stirred)) << report.status();
  }
  Task<void> Several() {
    TaskGroup group(loop_);
    for (Session& session : sessions_) {
      if (dice_.Below(3) != 0) group.Spawn("pull", DoPull(&session, {}));
      if (dice_.Below(2) != 0) group.Spawn("push", DoPush(&session));
    }
    co_await group.Join();
  }
  void Await(Task<void> task) {
    asio::co_spawn(loop_.executor(), std::move(task), [this](const std::exception_ptr& failed) {
      CHECK(failed == nullptr);
      loop_.Stop();
    });
    loop_.Run();
  }

  void Undo() {
    Session& session = AnySession();
    if (session.pulls.empty() || KeepsBoth()) return;
    const auto report = Run(session.manager->Revert(session.pulls.back(), {}, nullptr));
    const std::optional<Reason> reason = ReasonOf(report.status());
    EXPECT_TRUE(report.ok() || reason == Reason::k_RESULT_EXPIRED) << report.status();
    session.pulls.pop_back();
  }

  // What was agreed with one far end is forgotten as of `saved`.
  void SaveBases() {
    fs::remove_all(dir_ + "/saved");
    fs::copy(dir_ + "/bases", dir_ + "/saved");
  }
  void CrashWithSavedBases() {
    CloseAll();
    NewDaemon();
    if (fs::exists(dir_ + "/saved")) {
      fs::remove_all(dir_ + "/bases");
      fs::rename(dir_ + "/saved", dir_ + "/bases");
    }
    OpenAll();
  }
  void CrashBehindAPush() {
    Session& session = AnySession();
    session.far->hooks.after_apply = [this] {
      SaveBases();
      return absl::OkStatus();
    };
    Await(DoPush(&session));
    CrashWithSavedBases();
  }
  // No attempt of it hears the far end's answer, and the host moves on.
  void PushWithoutAnAnswer() {
    Session& session = AnySession();
    session.far->hooks.after_apply = [this] {
      Edit(kHost);
      return Error(Reason::k_BACKEND_UNREACHABLE, "cut");
    };
    Await(CannotPush(&session));
    session.far->hooks = {};
  }
  void CrashBehindAPull() {
    SaveBases();
    Await(DoPull(&AnySession(), {}));
    CrashWithSavedBases();
  }

  void RecreateFarEnd() {
    const Side side = Pick<Side>({kFar, kFar2});
    std::set<std::string> elsewhere;
    for (int other = 0; other < kSides; ++other) {
      if (other == side) continue;
      for (const auto& [name, bytes] : Counted(static_cast<Side>(other))) elsewhere.insert(bytes);
    }
    for (const auto& [name, bytes] : Held(side)) {
      if (!elsewhere.contains(bytes)) live_.erase(bytes);
    }
    fs::remove_all(PathOf(side));
    if (dice_.Below(2) == 0) fs::create_directory(PathOf(side));
    for (Session& session : sessions_) {
      if (session.far_side == side && dice_.Below(2) == 0) session.manager->Distrust();
    }
  }

  void PullWithEditsWithin() {
    Session& session = AnySession();
    session.far->hooks.within_fetch = [this] {
      for (uint64_t i = dice_.Below(4); i > 0; --i) Change();
      return Nothing();
    };
    at_once_ = true;  // for what does not stand still
    Await(DoPull(&session, {}));
    at_once_ = false;
    session.far->hooks = {};
  }
  // Edits of the host between any two steps of the landing, by its own thread.
  void PullWithEditsInTheGaps() {
    landing_.before = [this](const FsCall&) {
      if (dice_.Below(8) == 0) Edit(kHost);
      return 0;
    };
    in_gaps_ = true;
    Await(DoPull(&AnySession(), {}));
    in_gaps_ = false;
    landing_.before = [](const FsCall&) { return 0; };
  }
  void AllAtOnce() {
    for (Session& session : sessions_) {
      session.far->hooks.within_fetch = [this] {
        Change();
        return Nothing();
      };
    }
    at_once_ = true;
    Await(Several());
    at_once_ = false;
    for (Session& session : sessions_) session.far->hooks = {};
  }

  void Step() {
    const uint64_t roll = dice_.Below(100);
    if (roll < 41) return Change();
    if (roll < 44) return PushWithoutAnAnswer();
    if (roll < 58) return Await(DoPush(&AnySession()));
    if (roll < 70) return Await(DoPull(&AnySession(), {}));
    if (roll < 76) return PullWithEditsWithin();
    if (roll < 79) return PullWithEditsInTheGaps();
    if (roll < 83) return AllAtOnce();
    if (roll < 87) return Undo();
    if (roll < 90) return Restart();
    if (roll < 93) return CrashBehindAPush();
    if (roll < 96) return CrashBehindAPull();
    if (roll < 98) return Await(DoPull(&AnySession(), {.dry_run = true}));
    RecreateFarEnd();
  }

  void CheckNothingIsLost() {
    std::set<std::string> there;
    for (const auto& [name, bytes] : Held(kHost)) {
      if (hasty_.contains(bytes)) there.insert(bytes);
    }
    for (int side = 0; side < kSides; ++side) {
      for (const auto& [name, bytes] : Counted(static_cast<Side>(side))) there.insert(bytes);
    }
    for (const std::string& version : live_)
      EXPECT_TRUE(there.contains(version)) << version << " is lost";
  }

  bool KeepsBoth() const { return policy_ == ConflictPolicy::kBoth; }
  // With what is ours.
  Files Held(Side side) const {
    return fs::exists(PathOf(side)) ? FilesBelow(PathOf(side)) : Files();
  }
  Files FilesOf(Side side) const {
    Files files = Held(side);
    std::erase_if(
        files, [](const auto& file) { return file.first.find(".hermesd") != std::string::npos; });
    return files;
  }

  // Where a version may be and is not lost.
  Files Counted(Side side) const { return KeepsBoth() ? FilesOf(side) : Held(side); }

  // Nobody edits any more, so a few rounds bring all to the same.
  void Settle() {
    for (int round = 0; round < 4; ++round) {
      for (Session& session : sessions_) {
        Await(DoPull(&session, {.approve_deletes = true}));
        Await(DoPush(&session));
      }
    }
    CheckNothingIsLost();
    for (const Session& session : sessions_) {
      EXPECT_EQ(FilesOf(session.far_side), FilesOf(kHost)) << session.name;
      EXPECT_TRUE(session.manager->Clean());
      EXPECT_FALSE(session.manager->suspect());
    }
  }

  FaultFs landing_{fs_};
  const uint64_t seed_;
  SeededRandom dice_;
  ConflictPolicy policy_ = ConflictPolicy::kRemote;
  std::vector<Session> sessions_;
  std::map<std::string, std::vector<std::string>> pulls_;
  std::set<std::string> live_;
  std::set<std::string> hasty_;  // written in the midst of a landing: the undo store is enough
  bool in_gaps_ = false;
  int versions_ = 0;
  int pulled_ = 0;
  bool at_once_ = false;
};

class HistoryTest : public ::testing::TestWithParam<int> {};

TEST_P(HistoryTest, NoVersionIsLostAndAllSidesBecomeEqual) {
  const int all = Deep() ? kDeepHistories : kHistories;
  for (int seed = GetParam(); seed < all && !HasFailure(); seed += kShards)
    History(static_cast<uint64_t>(seed)).Play();
}

INSTANTIATE_TEST_SUITE_P(Shards, HistoryTest, ::testing::Range(0, kShards));

}  // namespace
}  // namespace hermes::sync
