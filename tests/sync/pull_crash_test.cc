// A whole pull, killed or failing at every step: each outside effect of landing, each question to
// the far end, each file that is told, and so between landing and the base's commit. Then a new
// daemon goes on, and all must end as if nothing had happened. And an undo, killed at its steps,
// and a push, killed behind its apply.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <random>

#include "daemon/runtime/check.h"
#include "tests/sync/fault_fs.h"
#include "tests/sync/process.h"
#include "tests/sync/sync_stand.h"
#include "tests/sync/unpack_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

constexpr size_t kSampled = 200;
constexpr int kShards = 8;

enum class Before { kBase, kNoBase };          // what the pull stands on
enum class Job { kPull, kUndo };               // what is interrupted
enum class How { kKill, kIoError, kFull };     // what happens at the step
enum class Then { kPull, kPushFirst, kUndo };  // what follows

struct Case {
  Before before;
  How how;
  Then then;
  int step;
  std::string name() const {
    return std::to_string(static_cast<int>(before)) + std::to_string(static_cast<int>(how)) +
           std::to_string(static_cast<int>(then)) + " at step " + std::to_string(step);
  }
};

// A daemon of its own over a directory that exists, whose pull is interrupted.
class World : public SyncStand, public SyncListener {
 public:
  World(const std::string& dir, How how, int step) : SyncStand(dir), how_(how), left_(step) {
    fault_.skip_syncs = true;
    fault_.before = [this](const FsCall& call) {
      if (call.kind == FsCall::Kind::kRead || !Due()) return 0;
      return how_ == How::kIoError ? -EIO : -ENOSPC;
    };
    landing_fs_ = &fault_;
    NewDaemon();
  }
  void TestBody() override {}
  void OnEntry(const SyncEntry&) override { Due(); }

  // Steps that were gone. In a process of its own if it may be killed.
  int Interrupted(Job job, const std::string& id) {
    const int before = left_;
    Open();
    far().hooks.before = [this](std::string_view) {
      Due();
      return absl::OkStatus();
    };
    far().hooks.after_apply = [this] {
      Due();
      return absl::OkStatus();
    };
    if (job == Job::kPull) {
      static_cast<void>(Pull({.id = id, .listener = this}));
    } else {
      static_cast<void>(Run(manager().Revert(id, {}, this)));
    }
    return before - left_;
  }

  void KilledInPush() {
    Open();
    far().hooks.after_apply = []() -> absl::Status { _exit(9); };
    static_cast<void>(Push());
  }

 private:
  bool Due() {
    const bool due = left_-- == 0;
    if (due && how_ == How::kKill) _exit(9);
    return due;
  }

  FaultFs fault_{fs_};
  const How how_;
  std::atomic<int> left_;
};

class CrashStand : public SyncStand {
 protected:
  CrashStand() : SyncStand(RealRoot::Where::kMemory) {}

  // Both sides have changed since they agreed, in every way that a pull has to do with.
  void Prepare(Before before) {
    Empty();
    Agree({{"replaced", "1"},
           {"edited", "1"},
           {"both", "1"},
           {"deleted", "1"},
           {"deep/deleted", "1"},
           {"kept", "1"},
           {"turn", "1"},
           {"dir/x", "1"}});
    WriteHost("edited", "host");
    WriteHost("both", "host both");
    WriteHost("host-new", "host new");
    WriteFar("replaced", "far");
    WriteFar("both", "far both");
    WriteFar("new/deep/created", "far new");
    for (const char* gone : {"deleted", "deep"}) fs::remove_all(Far(gone));
    NewDaemon();
    if (before == Before::kNoBase) {
      fs::remove_all(dir_ + "/bases");
      fs::create_directory(dir_ + "/bases");
    } else {  // where nothing is known, a file against a directory is for people to decide
      for (const char* gone : {"turn", "dir"}) fs::remove_all(Far(gone));
      WriteFar("turn/inner", "far inner");
      WriteFar("dir", "far file");
    }
    original_ = HostFiles();
  }

  void Interrupt(Job job, How how, int step) {
    if (how != How::kKill) {
      World(dir_, how, step).Interrupted(job, "y1");
      return;
    }
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      World(dir_, how, step).Interrupted(job, "y1");
      _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
  }

  // What both sides hold when nothing goes wrong, and the steps of that.
  void Learn(Before before) {
    Prepare(before);
    steps_[before] = World(dir_, How::kIoError, 1 << 20).Interrupted(Job::kPull, "y1");
    Open();
    MustPush();
    final_[before] = HostFiles();
    ASSERT_EQ(FarFiles(), HostFiles());
  }

  void ExpectOldOrNew(const Files& now, const Files& after) const {
    for (const auto& [name, bytes] : now) {
      const auto old = original_.find(name);
      const auto fresh = after.find(name);
      EXPECT_TRUE((old != original_.end() && old->second == bytes) ||
                  (fresh != after.end() && fresh->second == bytes))
          << name << " is " << bytes;
    }
    for (const auto& [name, bytes] : original_) {
      if (after.contains(name)) EXPECT_TRUE(now.contains(name)) << name << " is lost";
    }
  }

  void TakeBack(const std::string& id) {
    const auto undone = Revert(id);
    const std::optional<Reason> reason = ReasonOf(undone.status());
    EXPECT_TRUE(undone.ok() || reason == Reason::k_RESULT_EXPIRED) << id << " " << undone.status();
    if (undone.ok()) EXPECT_EQ(undone->counts.failed + undone->counts.conflicts, 0u) << id;
  }

  void RunCase(const Case& what) {
    SCOPED_TRACE(what.name());
    Prepare(what.before);
    const Files far_before = FarFiles();
    Interrupt(Job::kPull, what.how, what.step);
    ExpectOldOrNew(HostFiles(), final_[what.before]);
    EXPECT_EQ(FarFiles(), far_before);
    NewDaemon();
    Open();
    if (what.then == Then::kPushFirst) MustPush();
    MustPull({.id = "y2"});
    for (const fs::directory_entry& kept : fs::directory_iterator(Host(".hermesd-stage")))
      EXPECT_TRUE(fs::exists(kept.path() / "journal")) << "left behind: " << kept;
    if (what.then == Then::kUndo) {
      TakeBack("y2");
      TakeBack("y1");
      EXPECT_EQ(HostFiles(), original_);
      return;
    }
    EXPECT_TRUE(IsKept("host both"));
    MustPush();
    EXPECT_EQ(HostFiles(), final_[what.before]);
    EXPECT_EQ(FarFiles(), final_[what.before]);
    // And they know it: nothing is left to do.
    far().sent.clear();
    EXPECT_EQ(MustPull().counts, SyncCounts());
    MustPush();
    EXPECT_TRUE(far().sent.empty());
  }

  Files original_;  // the host's, before the pull
  std::map<Before, Files> final_;
  std::map<Before, int> steps_;
};

class PullCrashTest : public CrashStand, public ::testing::WithParamInterface<int> {};

class UndoCrashTest : public CrashStand {
 protected:
  void MustPullAnew() {
    Open();
    MustPull({.id = "y1"});
    NewDaemon();
  }
};

TEST_P(PullCrashTest, AllEndsAsIfNothingHadHappened) {
  std::vector<Case> cases;
  for (const Before before : {Before::kBase, Before::kNoBase}) {
    Learn(before);
    ASSERT_GT(steps_[before], 20);
    for (const How how : {How::kKill, How::kIoError, How::kFull}) {
      for (const Then then : {Then::kPull, Then::kPushFirst, Then::kUndo}) {
        for (int step = 0; step <= steps_[before]; ++step)
          cases.push_back({before, how, then, step});
      }
    }
  }
  std::mt19937 random(20261129);
  std::shuffle(cases.begin(), cases.end(), random);
  if (!Deep()) cases.resize(kSampled);
  for (auto i = static_cast<size_t>(GetParam()); i < cases.size(); i += kShards) {
    RunCase(cases[i]);
    ASSERT_FALSE(HasFailure());
  }
}

// Whether the next start ends the undo or the next undo does: it is whole, and asking again is OK.
TEST_F(UndoCrashTest, AnUndoThatWasInterruptedIsEndedByWhoeverComesNext) {
  Prepare(Before::kBase);
  MustPullAnew();
  const int steps = World(dir_, How::kIoError, 1 << 20).Interrupted(Job::kUndo, "y1");
  ASSERT_GT(steps, 20);
  int half = 0;
  for (int step = 0; step <= steps; step += Deep() ? 1 : 3) {
    for (const bool restarted : {true, false}) {
      SCOPED_TRACE(step);
      Prepare(Before::kBase);
      MustPullAnew();
      const Files pulled = HostFiles();
      Interrupt(Job::kUndo, How::kKill, step);
      const Files now = HostFiles();
      half += now != pulled && now != original_ ? 1 : 0;
      NewDaemon();
      if (restarted) {
        Mount mount;
        mount.host_root = dir_ + "/host";
        ASSERT_TRUE(Run(pairs_->Recover(mount, "", {})).ok());
        EXPECT_TRUE(HostFiles() == original_ || HostFiles() == pulled);
      }
      Open();
      TakeBack("y1");
      EXPECT_EQ(HostFiles(), original_);
      ASSERT_FALSE(HasFailure());
    }
  }
  EXPECT_GT(half, 0);
}

INSTANTIATE_TEST_SUITE_P(Shards, PullCrashTest, ::testing::Range(0, kShards));

// Killed when the far end has everything and the base does not know it yet.
class PushCrashTest : public SyncStand {
 protected:
  PushCrashTest() : SyncStand(RealRoot::Where::kMemory) {}

  void CrashBehindTheApply() {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      World(dir_, How::kKill, 1 << 20).KilledInPush();
      _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    ASSERT_EQ(WEXITSTATUS(status), 9);
  }
};

TEST_F(PushCrashTest, NothingIsLostWhoeverGoesOn) {
  for (const bool first : {true, false}) {
    for (const bool host_edits : {false, true}) {
      for (const bool far_edits : {false, true}) {
        for (const bool push_first : {false, true}) {
          SCOPED_TRACE(first * 8 + host_edits * 4 + far_edits * 2 + push_first);
          Empty();
          if (!first) Agree({{"a", "1"}, {"gone", "1"}});
          NewDaemon();
          WriteHost("a", "sent");
          WriteHost("new", "sent too");
          fs::remove(Host("gone"));
          CrashBehindTheApply();
          ASSERT_EQ(FarFiles(), (Files{{"a", "sent"}, {"new", "sent too"}}));
          if (host_edits) WriteHost("a", "host");
          if (far_edits) WriteFar("a", "far");
          Open();
          if (push_first) MustPush();
          MustPull();
          MustPush();
          EXPECT_EQ(HostFiles(), FarFiles());
          EXPECT_EQ(HostFiles().at("new"), "sent too");
          EXPECT_FALSE(HostFiles().contains("gone"));
          const std::string stands = HostFiles().at("a");
          // Nobody over there wrote a version of its own, so the host's newest stands.
          if (host_edits && !far_edits) EXPECT_EQ(stands, "host");
          if (host_edits) EXPECT_TRUE(stands == "host" || IsKept("host"));
          if (far_edits) EXPECT_TRUE(stands == "far" || IsKept("far"));
          if (!host_edits && !far_edits) EXPECT_EQ(stands, "sent");
          ASSERT_FALSE(HasFailure());
        }
      }
    }
  }
}

}  // namespace
}  // namespace hermes::sync
