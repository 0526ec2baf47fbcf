// What the predecessor's file_sync.py does, held by its ten tests of the way back and by what its
// way out promises: change detection, deletions, state that moves only with success, the interval,
// force, the hash baseline, attempts and pauses, conflicts, new files, the lock and the size caps.

#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>

#include "sync/host_blobs.h"
#include "sync/mount_side.h"
#include "tests/sync/process.h"
#include "tests/sync/python_holder.h"
#include "tests/sync/sync_stand.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

ino_t InodeOf(const std::string& path) {
  struct stat seen = {};
  EXPECT_EQ(stat(path.c_str(), &seen), 0) << path;
  return seen.st_ino;
}

// Sets a file's times back to what they were.
void RestoreTimes(const std::string& path, const struct stat& was) {
  const timespec times[2] = {was.st_atim, was.st_mtim};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

class PredecessorTest : public SyncStand {
 protected:
  PredecessorTest() : SyncStand(RealRoot::Where::kMemory) {}

  // The pauses between attempts: those of the lock are shorter, those of a silent stream longer.
  std::vector<Duration> Pauses() const {
    std::vector<Duration> pauses;
    for (const Duration asked : clock_.asked) {
      if (asked > seconds(1) && asked < seconds(60)) pauses.push_back(asked);
    }
    return pauses;
  }
  // Of every question of this kind, for so many times.
  void BreakTransport(std::string verb, int times) {
    far().hooks.before = [this, verb, times](std::string_view asked) mutable {
      if (asked != verb) return absl::OkStatus();
      ++attempts_;
      return times-- > 0 ? Error(Reason::k_BACKEND_UNREACHABLE, "cut") : absl::OkStatus();
    };
  }

  int attempts_ = 0;
};

// The ten tests of the way back.

TEST_F(PredecessorTest, NothingComesBackWhereNothingIsAskedFor) {
  manager_ = MakeManager({}, "session");
  EXPECT_EQ(MustPull().counts, SyncCounts());
  Agree({{"a", "1"}}, {.policy = Policy::kPush});
  WriteFar("a", "theirs");
  WriteFar("b", "theirs");
  MustPull();
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}}));
  EXPECT_TRUE(far().fetched.empty());
}

TEST_F(PredecessorTest, AnUnchangedFileIsNotWritten) {
  Agree({{"cred.json", R"({"key": "val"})"}});
  const ino_t before = InodeOf(Host("cred.json"));
  EXPECT_EQ(MustPull().counts, SyncCounts());
  EXPECT_EQ(InodeOf(Host("cred.json")), before);
  EXPECT_EQ(HostFiles(), FarFiles());
}

TEST_F(PredecessorTest, AChangedFileIsApplied) {
  Agree({{"skill.py", "print('v1')"}});
  WriteFar("skill.py", "print('v2 - edited on remote')");
  EXPECT_EQ(MustPull().counts.applied, 1u);
  EXPECT_EQ(HostFiles().at("skill.py"), "print('v2 - edited on remote')");
}

TEST_F(PredecessorTest, D02ANewFileComesIntoTheMountThatItLiesIn) {
  WriteHost("skills/existing.py", "existing");
  WriteHost("cache/existing", "existing");
  WriteHost("skills-evil/x", "untouched");
  std::vector<Mount> mounts(2);
  for (int i = 0; i < 2; ++i) {
    const std::string name = i == 0 ? "/skills" : "/cache";
    mounts[i].id = name.substr(1);
    mounts[i].host_root = dir_ + "/host" + name;
    mounts[i].remote_root = dir_ + "/far" + name;
  }
  manager_ = MakeManager(mounts, "session");
  MustPush();
  WriteFar("skills/new_skill.py", "brand new");
  WriteFar("cache/deep/new", "cached");
  WriteFar("skills-evil/x", "evil");
  WriteFar("memories/x.md", "of no mount");
  MustPull();
  EXPECT_EQ(HostFiles(), (Files{{"cache/deep/new", "cached"},
                                {"cache/existing", "existing"},
                                {"skills-evil/x", "untouched"},
                                {"skills/existing.py", "existing"},
                                {"skills/new_skill.py", "brand new"}}));
}

TEST_F(PredecessorTest, AConflictIsToldTheRemoteVersionWinsAndTheOtherIsKept) {
  Agree({{"config.json", "v1"}});
  WriteHost("config.json", "v2 of the host");
  WriteFar("config.json", "v3 of the sandbox");
  EXPECT_EQ(MustPull({.id = "y9"}).counts.conflicts, 1u);
  EXPECT_EQ(heard_.Of("config.json").why, Why::kConflict);
  EXPECT_EQ(HostFiles().at("config.json"), "v3 of the sandbox");
  ASSERT_TRUE(Revert("y9").ok());
  EXPECT_EQ(HostFiles().at("config.json"), "v2 of the host");
}

TEST_F(PredecessorTest, D14TwoFailuresAreFollowedByAThirdAttemptAfterTwoAndFourSeconds) {
  for (const char* verb : {"look", "fetch", "apply"}) {
    SCOPED_TRACE(verb);
    Empty();
    Agree({{"a", "1"}});
    attempts_ = 0;
    clock_.asked.clear();
    BreakTransport(verb, 2);
    if (std::string_view(verb) == "apply") {
      WriteHost("a", "2");
      MustPush();
    } else {
      WriteFar("a", "2");
      MustPull();
    }
    EXPECT_EQ(HostFiles(), (Files{{"a", "2"}}));
    EXPECT_EQ(FarFiles(), (Files{{"a", "2"}}));
    EXPECT_EQ(attempts_, 3);
    const std::vector<Duration> pauses = Pauses();
    ASSERT_EQ(pauses.size(), 2u);
    EXPECT_TRUE(pauses[0] >= seconds(2) && pauses[0] <= seconds(3)) << pauses[0].count();
    EXPECT_TRUE(pauses[1] >= seconds(4) && pauses[1] <= seconds(6)) << pauses[1].count();
  }
}

TEST_F(PredecessorTest, ThreeFailuresAreToldToTheCallerAndChangeNothing) {
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  BreakTransport("fetch", 99);
  EXPECT_EQ(ReasonOf(Pull().status()), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_EQ(attempts_, 3);
  EXPECT_EQ(Pauses().size(), 2u);
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}}));
  EXPECT_FALSE(manager().suspect());
  far().hooks = {};
  MustPull();
  EXPECT_EQ(HostFiles(), (Files{{"a", "2"}}));
}

TEST_F(PredecessorTest, APushLeavesTheHashOfWhatItSentAsTheBaseline) {
  Agree({{"data.txt", "hello world"}});
  NewDaemon();
  Open();
  // Only against that very hash is this no conflict.
  WriteFar("data.txt", "edited over there");
  EXPECT_EQ(MustPull().counts.conflicts, 0u);
  EXPECT_EQ(HostFiles().at("data.txt"), "edited over there");
}

TEST_F(PredecessorTest, ADeletionForgetsTheHash) {
  Agree({{"deleteme.txt", "to be deleted"}, {"b", "1"}});
  fs::remove(Host("deleteme.txt"));
  MustPush();
  EXPECT_FALSE(FarFiles().contains("deleteme.txt"));
  // Were it still known, the same bytes over there would be an unchanged file and no news.
  WriteFar("deleteme.txt", "to be deleted");
  EXPECT_EQ(MustPull().counts.conflicts, 0u);
  EXPECT_EQ(HostFiles().at("deleteme.txt"), "to be deleted");
}

TEST_F(PredecessorTest, TheLockOfALivePythonProcessIsWaitedForWhileCommandsGoOn) {
  lock_file_ = dir_ + "/home/.sync.lock";
  fs::create_directory(dir_ + "/home");
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("a", "2");
  PythonHolder python(lock_file_);
  ASSERT_TRUE(python.Says('L'));

  struct Waiter : public Heard {
    void OnPhase(std::string_view phase) override {
      Heard::OnPhase(phase);
      if (phase == "waiting") on_waiting();
    }
    std::function<void()> on_waiting;
  } waiter;
  waiter.on_waiting = [&] {
    EXPECT_EQ(HostFiles().at("a"), "1");
    WriteHost("b", "2");
    asio::co_spawn(loop_.executor(), PushWithin(), [&](const std::exception_ptr&) {
      EXPECT_EQ(FarFiles().at("b"), "2");  // the push before a command asks for no lock
      python.Tell();
    });
  };
  MustPull({.listener = &waiter});
  EXPECT_TRUE(python.Says('U'));
  EXPECT_EQ(HostFiles(), (Files{{"a", "2"}, {"b", "2"}}));
}

TEST_F(PredecessorTest, ALivePythonProcessWaitsForOurLanding) {
  lock_file_ = dir_ + "/.sync.lock";
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  struct Lander : public Heard {
    void OnPhase(std::string_view phase) override {
      if (phase == "landing") on_landing();
    }
    std::function<void()> on_landing;
  } lander;
  std::optional<PythonHolder> python;
  lander.on_landing = [&] {
    python.emplace(lock_file_);
    EXPECT_TRUE(python->Says('H'));
  };
  MustPull({.listener = &lander});
  ASSERT_TRUE(python.has_value());
  EXPECT_TRUE(python->Says('L'));
}

// The way out.

TEST_F(PredecessorTest, V39FiveHundredEightyFilesGoInOnePush) {
  Files files;
  for (int i = 0; i < 580; ++i) {
    files["d" + std::to_string(i % 29) + "/f" + std::to_string(i)] =
        std::string(2048, static_cast<char>('a' + i % 26)) + std::to_string(i);
  }
  for (const auto& [name, bytes] : files) WriteHost(name, bytes);
  fs::permissions(Host("d0/f0"), fs::perms::owner_all);
  const timespec old[2] = {{1, 0}, {1'111'111'111, 222}};
  ASSERT_EQ(utimensat(AT_FDCWD, Host("d0/f0").c_str(), old, 0), 0);
  Open();
  MustPush();
  EXPECT_TRUE(FarFiles() == files);
  EXPECT_EQ(far().applies, 1);
  struct stat seen = {};
  ASSERT_EQ(stat(Far("d0/f0").c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 07777, 0755u);
  EXPECT_EQ(seen.st_mtim.tv_sec, 1'111'111'111);
  EXPECT_EQ(seen.st_mtim.tv_nsec, 222);
  ASSERT_EQ(stat(Far("d1/f1").c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 07777, 0644u);
  EXPECT_EQ(heard_.progress.files_done, 580u);
  EXPECT_EQ(heard_.progress.bytes_done, heard_.progress.bytes_total);
  WriteHost("big", std::string(kMaxHeldBytes + 1, 'x'));  // is read as it goes out
  ASSERT_EQ(utimensat(AT_FDCWD, Host("big").c_str(), old, 0), 0);
  MustPush();
  ASSERT_EQ(stat(Far("big").c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mtim.tv_sec, 1'111'111'111);
}

TEST_F(PredecessorTest, D05AnEditIsSeenBySizeByTimeAndV41ByNeither) {
  Agree({{"a", "12"}});
  WriteHost("a", "123");
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "123");
  WriteHost("a", "456");
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "456");
  struct stat was = {};
  ASSERT_EQ(stat(Host("a").c_str(), &was), 0);
  WriteHost("a", "789");
  RestoreTimes(Host("a"), was);
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "789");
}

TEST_F(PredecessorTest, V42ADeletionGoesOverAndForeignFilesStay) {
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("foreign", "theirs");
  fs::remove(Host("a"));
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"b", "1"}, {"foreign", "theirs"}}));
}

TEST_F(PredecessorTest, V43WhatFailedIsSentByTheNextPushAndTheRestIsOverThere) {
  min_interval_ = seconds(5);
  Agree({{"a", "1"}});
  clock_.ahead += seconds(6);
  fs::create_symlink("nowhere", Far("d"));
  WriteHost("a", "2");
  WriteHost("d/x", "1");
  const auto report = Push();
  EXPECT_EQ(ReasonOf(report.status()), Reason::k_SYNC_FAILED);
  EXPECT_EQ(heard_.Of("d/x").fate, Fate::kFailed);
  EXPECT_EQ(FarFiles().at("a"), "2");
  EXPECT_FALSE(manager().Clean());
  // Without a change of the host and without waiting for the interval.
  EXPECT_EQ(ReasonOf(Push().status()), Reason::k_SYNC_FAILED);
  fs::remove(Far("d"));
  far().sent.clear();
  MustPush();
  EXPECT_EQ(far().sent, std::vector<std::string>{"d/x"});
  EXPECT_EQ(FarFiles(), HostFiles());
  EXPECT_TRUE(manager().Clean());
}

TEST_F(PredecessorTest, V43AnUploadThatBreaksLeavesTheStateForTheNextOne) {
  min_interval_ = seconds(5);
  Agree({{"a", "1"}});
  clock_.ahead += seconds(6);
  WriteHost("a", "2");
  BreakTransport("apply", 3);
  EXPECT_EQ(ReasonOf(Push().status()), Reason::k_BACKEND_UNREACHABLE);
  EXPECT_EQ(FarFiles().at("a"), "1");
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "2");
}

TEST_F(PredecessorTest, V44AFileThatVanishesOnItsWayIsSkippedAndReportedAndTheRestArrives) {
  const std::string big(5 << 20, 'b');  // read as it goes out
  Agree({{"a", "1"}});
  WriteHost("big", big);
  WriteHost("c", "2");
  far().hooks.before = [this](std::string_view) {
    fs::remove(Host("big"));
    return absl::OkStatus();
  };
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"a", "1"}, {"c", "2"}}));
  EXPECT_EQ(heard_.Of("big").why, Why::kGone);
  EXPECT_EQ(heard_.Of("big").fate, Fate::kChanged);
}

TEST_F(PredecessorTest, V44SoIsOneThatVanishesBeforeItIsRead) {
  WriteHost("c", "2");
  Mount mount;
  mount.id = "m";
  mount.host_root = dir_ + "/host";
  mount.remote_root = dir_ + "/far";
  const auto pair = Run(pairs_->Get(mount, "place"));
  ASSERT_TRUE(pair.ok()) << pair.status();
  const MountSide side(mount, *pair, std::make_unique<DirTree>(dir_ + "/far"));
  SyncMeter meter(&heard_);
  const std::vector<RemoteChange> changes = {
      {*RelPath::Parse("c"), std::nullopt, Content{.size = 1}},
      {*RelPath::Parse("gone"), std::nullopt, Content{.size = 1}}};
  const PushBatch batch = Run(MakeBatch(workers_, &side, &meter, changes, false));
  EXPECT_EQ(batch.changes.size(), 1u);
  EXPECT_TRUE(batch.moved);
  EXPECT_EQ(heard_.Of("gone").why, Why::kGone);
  EXPECT_EQ(heard_.entries.size(), 1u);
}

TEST_F(PredecessorTest, V45AFileThatIsRewrittenOnItsWayArrivesAsItIsInTheEnd) {
  Agree({{"a", "1"}});
  const auto version = [](int n) { return std::string(5 << 20, static_cast<char>('a' + n)); };
  WriteHost("big", version(0));
  int writes = 0;
  far().hooks.before = [&, this](std::string_view) {
    if (++writes < 3) WriteHost("big", version(writes));
    return absl::OkStatus();
  };
  MustPush();
  EXPECT_EQ(writes, 3);
  EXPECT_TRUE(FarFiles() == HostFiles());
  // What is known of it is what was sent: an edit over there is no conflict.
  far().hooks = {};
  WriteFar("big", "theirs");
  EXPECT_EQ(MustPull().counts.conflicts, 0u);
}

TEST_F(PredecessorTest, V50ANewerFileOverThereIsAConflictForBothWays) {
  for (const ConflictPolicy policy : {ConflictPolicy::kRemote, ConflictPolicy::kHost}) {
    SCOPED_TRACE(static_cast<int>(policy));
    Empty();
    Agree({{"a", "1"}}, {.conflict = policy});
    WriteFar("a", "theirs");
    WriteHost("a", "ours");
    const auto pushed = Push();
    ASSERT_TRUE(pushed.ok()) << pushed.status();
    EXPECT_EQ(pushed->counts.conflicts, 1u);
    EXPECT_EQ(FarFiles().at("a"), "theirs");
    EXPECT_EQ(MustPull().counts.conflicts, 1u);
    MustPush();
    EXPECT_EQ(HostFiles().at("a"), policy == ConflictPolicy::kHost ? "ours" : "theirs");
    EXPECT_EQ(FarFiles(), HostFiles());
    EXPECT_TRUE(IsKept(policy == ConflictPolicy::kHost ? "theirs" : "ours"));
  }
}

TEST_F(PredecessorTest, TheIntervalHoldsPushesBackAndForceDoesNotCare) {
  min_interval_ = seconds(5);
  Agree({{"a", "1"}});
  WriteHost("a", "2");
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "1");
  MustPush({.force = true});
  EXPECT_EQ(FarFiles().at("a"), "2");
  WriteHost("a", "3");
  clock_.ahead += seconds(4);
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "2");
  clock_.ahead += seconds(2);
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "3");
}

TEST_F(PredecessorTest, WithoutAnIntervalEveryPushSends) {
  Agree({{"a", "1"}});
  for (const char* bytes : {"2", "3", "4"}) {
    WriteHost("a", bytes);
    MustPush();
    EXPECT_EQ(FarFiles().at("a"), bytes);
  }
}

TEST_F(PredecessorTest, ForceFindsWhatNobodyNotices) {
  Agree({{"a", "1"}});
  MustPush();
  fs::create_hard_link(Host("a"), dir_ + "/elsewhere");
  WriteHost("b", "1");
  MustPush();
  Spit(dir_ + "/elsewhere", "written through another name");
  MustPush({.force = true});
  EXPECT_EQ(FarFiles().at("a"), "written through another name");
}

TEST_F(PredecessorTest, TheSizeCapsHoldOnTheWayOut) {
  Agree({{"a", "1"}}, {.max_files = 3, .max_bytes = 1000, .max_file_bytes = 100});
  WriteHost("big", std::string(101, 'x'));
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"a", "1"}}));
  for (const char* name : {"b", "c", "d"}) WriteHost(name, "1");
  EXPECT_EQ(ReasonOf(Push().status()), Reason::k_SYNC_FAILED);
  EXPECT_FALSE(manager().Clean());
  fs::remove(Host("d"));
  MustPush();
  EXPECT_EQ(FarFiles().size(), 3u);
}

TEST_F(PredecessorTest, TheSizeCapsHoldOnTheWayBack) {
  Agree({{"a", "1"}}, {.max_files = 4, .max_bytes = 150, .max_file_bytes = 100});
  WriteFar("big", std::string(101, 'x'));
  WriteFar("small", "x");
  const SyncReport report = MustPull();
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}, {"small", "x"}}));
  EXPECT_EQ(heard_.Of("big").why, Why::kOdd);
  EXPECT_EQ(report.unsaved, 1u);
  fs::remove(Far("big"));

  // More than the host's directory may hold, in files and in bytes: all of it or nothing.
  for (const char* name : {"e", "f", "g"}) WriteFar(name, "x");
  EXPECT_EQ(ReasonOf(Pull().status()), Reason::k_SYNC_FAILED);
  EXPECT_EQ(HostFiles().size(), 2u);
  for (const char* name : {"e", "f", "g"}) fs::remove(Far(name));
  for (const char* name : {"e", "f"}) WriteFar(name, std::string(90, 'x'));
  EXPECT_EQ(ReasonOf(Pull().status()), Reason::k_SYNC_FAILED);
  EXPECT_EQ(HostFiles().size(), 2u);
  EXPECT_FALSE(manager().suspect());
  fs::remove(Far("f"));
  MustPull();
  EXPECT_EQ(HostFiles(), FarFiles());
  MustPush();  // the host's directory is still one that can be looked at
}

// The opt-in profile: what the predecessor moved, and credentials one way only.
TEST_F(PredecessorTest, TheProfileMovesSkillsAndCacheBothWaysAndCredentialsOut) {
  WriteHost("skills/s.py", "1");
  WriteHost("cache/images/i", "1");
  WriteHost("auth.json", "secret");
  WriteHost("config.yaml", "the host's own");
  const absl::StatusOr<std::vector<Mount>> mounts = ExpandProfile(
      {.home = dir_ + "/host", .remote_home = dir_ + "/far", .credentials = {"auth.json"}});
  ASSERT_TRUE(mounts.ok()) << mounts.status();
  manager_ = MakeManager(*mounts, "session");
  MustPush();
  EXPECT_EQ(FarFiles(),
            (Files{{"auth.json", "secret"}, {"cache/images/i", "1"}, {"skills/s.py", "1"}}));
  struct stat seen = {};
  ASSERT_EQ(stat(Far("auth.json").c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 07777, 0600u);
  WriteFar("skills/s.py", "2");
  WriteFar("cache/new", "2");
  WriteFar("auth.json", "forged");
  WriteFar("config.yaml", "forged");
  MustPull();
  EXPECT_EQ(HostFiles(), (Files{{"auth.json", "secret"},
                                {"cache/images/i", "1"},
                                {"cache/new", "2"},
                                {"config.yaml", "the host's own"},
                                {"skills/s.py", "2"}}));
}

// A mount of one file, with other files around it on both sides.
TEST_F(PredecessorTest, AFileMountMovesThatFileAlone) {
  WriteHost("one", "1");
  WriteHost("other", "the host's");
  WriteFar("third", "the sandbox's");
  manager_ = MakeManager({{.host_root = Host("one"), .remote_root = Far("one")}}, "session", &far_);
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"one", "1"}, {"third", "the sandbox's"}}));
  WriteFar("one", "2");
  WriteFar("other", "forged");
  EXPECT_EQ(MustPull({.id = "y1"}).counts.applied, 1u);
  EXPECT_EQ(HostFiles(), (Files{{"one", "2"}, {"other", "the host's"}}));
  WriteHost("one", "3");
  MustPush();
  EXPECT_EQ(FarFiles().at("one"), "3");
  // A file mount's only file is all that there is: its deletion waits for approval.
  fs::remove(Far("one"));
  EXPECT_EQ(MustPull().counts.held, 1u);
  EXPECT_EQ(HostFiles().at("one"), "3");
  MustPull({.id = "y2", .approve_deletes = true});
  EXPECT_FALSE(HostFiles().contains("one"));
  ASSERT_TRUE(Revert("y2").ok());
  EXPECT_EQ(HostFiles().at("one"), "3");
  MustPush();
  EXPECT_EQ(FarFiles().at("one"), "3");
}

// V63: somebody names the same directory for both ends. On another host that cannot be seen, and
// nothing may come to harm.
TEST_F(PredecessorTest, V63ATreeThatIsItsOwnFarEndIsNotHarmed) {
  WriteHost("a", "1");
  Open({.remote_root = dir_ + "/host"});
  MustPush();
  const ino_t before = InodeOf(Host("a"));
  WriteHost("b", "2");
  MustPush();
  const SyncReport report = MustPull();
  EXPECT_EQ(report.counts.conflicts, 0u);
  EXPECT_EQ(InodeOf(Host("a")), before);
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}, {"b", "2"}}));
}

TEST_F(PredecessorTest, V63OnThisHostItIsSeenAndNothingIsMoved) {
  WriteHost("a", "1");
  WriteHost("d/b", "1");
  fs::create_symlink(dir_ + "/host", dir_ + "/link");
  far_is_here_ = true;
  far_home_ = dir_;
  for (const char* far : {"~/host", "~/link", "~/link/d/b"}) {
    const bool file = std::string_view(far).ends_with("b");
    Open({.host_root = Host(file ? "d/b" : ""), .remote_root = far});
    EXPECT_TRUE(manager().Clean()) << far;
    WriteHost("a", "2");
    EXPECT_TRUE(manager().Clean()) << far;
    MustPush({.force = true, .tell_odd = true});
    EXPECT_EQ(heard_.Of(".").why, Why::kSame);
    const SyncReport report = MustPull();
    EXPECT_EQ(heard_.Of(".").note, "both ends are one directory: nothing is moved");
    EXPECT_EQ(report.unsaved, 0u);
    EXPECT_FALSE(fs::exists(Host(".hermesd-epoch"))) << "nothing of ours is left in it";
  }
}

TEST_F(PredecessorTest, V63NoEndOfAMountMayLieInTheOther) {
  struct Nested {
    const char* host;
    const char* far;
    Policy policy;
    bool refused;
  };
  const Nested cases[] = {
      {"/host", "/host/d", Policy::kPush, true},
      {"/host", "/host/not/yet", Policy::kTwoWay, true},
      {"/host", "/link/d", Policy::kTwoWay, true},
      {"/host/d", "/host", Policy::kTwoWay, true},
      {"/host/d", "/host", Policy::kPull, true},
      {"/host/d", "/host", Policy::kPush, false},
      {"/host", "/host/d", Policy::kPull, false},
      {"/host", "/hosts", Policy::kTwoWay, false},
      {"/host", "/far", Policy::kTwoWay, false},
  };
  fs::create_directory(Host("d"));
  fs::create_symlink(dir_ + "/host", dir_ + "/link");
  far_is_here_ = true;
  for (const Nested& c : cases) {
    Mount mount{.host_root = dir_ + c.host, .remote_root = dir_ + c.far, .policy = c.policy};
    const absl::Status opened = TryManager({mount}, "s").status();
    if (c.refused) EXPECT_EQ(ReasonOf(opened), Reason::k_BAD_FIELD) << c.host << " " << c.far;
    if (!c.refused) EXPECT_TRUE(opened.ok()) << c.host << " " << c.far << " " << opened;
  }
}

}  // namespace
}  // namespace hermes::sync
