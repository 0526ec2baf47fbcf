// Pushes, pulls and undo of whole sessions, over directories.

#include <cerrno>
#include <filesystem>

#include "sync/quarantine.h"
#include "sync/tar_writer.h"
#include "sync/unpack/wire.h"
#include "tests/sync/fault_fs.h"
#include "tests/sync/process.h"
#include "tests/sync/sync_stand.h"
#include "tests/sync/tar_bytes.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;
class ManagerTest : public SyncStand {};

TEST_F(ManagerTest, SendsEverythingAtFirstAndThenOnlyWhatChanged) {
  WriteHost("a", "1");
  WriteHost("deep/er/b", "2");
  Open();
  EXPECT_FALSE(manager().Clean());
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"a", "1"}, {"deep/er/b", "2"}}));
  EXPECT_EQ(far().applies, 1);
  EXPECT_TRUE(manager().Clean());

  far().sent.clear();
  WriteHost("a", "3");
  EXPECT_FALSE(manager().Clean());
  MustPush();
  EXPECT_EQ(far().sent, std::vector<std::string>{"a"});
  EXPECT_EQ(far().applies, 2);
  EXPECT_EQ(FarFiles().at("a"), "3");
}

TEST_F(ManagerTest, NothingToSendAsksNothing) {
  Agree({{"a", "1"}});
  const int before = far().applies;
  for (int i = 0; i < 3; ++i) MustPush();
  EXPECT_EQ(far().applies, before);
  EXPECT_EQ(far().looks, 0);
}

TEST_F(ManagerTest, ARestartSendsNoFile) {
  Agree({{"a", "1"}, {"b/c", "2"}});
  NewDaemon();
  Open();
  MustPush();
  EXPECT_EQ(far().sent, std::vector<std::string>());
  EXPECT_EQ(far().applies, 1);  // which asked whether it is the same far end
  EXPECT_TRUE(manager().Clean());
}

TEST_F(ManagerTest, AnEmptiedFarEndGetsEverythingAgain) {
  Agree({{"a", "1"}, {"b", "2"}});
  fs::remove_all(dir_ + "/far");
  WriteHost("a", "3");
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"a", "3"}, {"b", "2"}}));
}

TEST_F(ManagerTest, AFarEndThatIsAnotherOneGetsEverythingAtTheNextStart) {
  Agree({{"a", "1"}, {"b", "2"}});
  fs::remove_all(dir_ + "/far");
  NewDaemon();
  Open();
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"a", "1"}, {"b", "2"}}));
}

TEST_F(ManagerTest, ALinkToTheHostRootIsFollowedAnewByEachSession) {
  fs::create_directory(dir_ + "/one");
  fs::create_directory(dir_ + "/two");
  Spit(dir_ + "/one/f", "1");
  Spit(dir_ + "/two/f", "2");
  const std::string link = dir_ + "/current";
  fs::create_symlink("one", link);
  Open({.host_root = link});
  MustPush();
  EXPECT_EQ(FarFiles().at("f"), "1");
  fs::remove(link);
  fs::create_symlink("two", link);
  fs::remove_all(dir_ + "/far");
  const auto later = MakeManager({{.host_root = link}}, "later");
  ASSERT_TRUE(Run(later->Push({})).ok());
  EXPECT_EQ(FarFiles().at("f"), "2");
}

TEST_F(ManagerTest, DeletionsGoOver) {
  Agree({{"a", "1"}, {"d/b", "2"}});
  fs::remove_all(Host("d"));
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"a", "1"}}));
  EXPECT_FALSE(fs::exists(Far("d")));
}

TEST_F(ManagerTest, AForeignVersionStaysAndIsTold) {
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("a", "theirs");
  WriteHost("a", "ours");
  WriteHost("b", "2");
  const auto report = Push();
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->counts.conflicts, 1u);
  EXPECT_EQ(report->counts.applied, 1u);
  EXPECT_EQ(heard_.Of("a").why, Why::kConflict);
  EXPECT_EQ(heard_.Of("a").fate, Fate::kChanged);
  EXPECT_EQ(FarFiles(), (Files{{"a", "theirs"}, {"b", "2"}}));
  EXPECT_EQ(conflicts_, 1u);
  EXPECT_TRUE(manager().Clean());  // nothing is offered twice
}

TEST_F(ManagerTest, TakesOnlyWhatChanged) {
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("b", "22");
  WriteFar("new/c", "3");
  const SyncReport report = MustPull();
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}, {"b", "22"}, {"new/c", "3"}}));
  EXPECT_EQ(far().fetched, (std::vector<std::string>{"b", "new/c"}));
  EXPECT_EQ(report.counts.applied, 2u);
  EXPECT_EQ(report.unsaved, 0u);
  EXPECT_TRUE(report.revertible);
  // And nothing of it is sent back.
  far().sent.clear();
  MustPush();
  EXPECT_EQ(far().sent, std::vector<std::string>());
}

TEST_F(ManagerTest, AnUnchangedFarEndCostsOneLook) {
  Agree({{"a", "1"}});
  const int before = far().applies;
  MustPull();
  EXPECT_EQ(far().looks, 1);
  EXPECT_EQ(far().applies, before);
  EXPECT_TRUE(far().fetched.empty());
}

TEST_F(ManagerTest, ADryRunTellsAndChangesNothing) {
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("a", "2");
  fs::remove(Far("b"));
  WriteFar("c", "3");
  const SyncReport report = MustPull({.dry_run = true});
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}, {"b", "1"}}));
  EXPECT_EQ(heard_.Of("a").effect, Effect::kReplace);
  EXPECT_EQ(heard_.Of("b").effect, Effect::kDelete);
  EXPECT_EQ(heard_.Of("c").effect, Effect::kCreate);
  EXPECT_EQ(heard_.Of("c").fate, Fate::kPlanned);
  EXPECT_FALSE(fs::exists(Host(".hermesd-stage")));
  EXPECT_EQ(report.counts.applied, 0u);
}

TEST_F(ManagerTest, InAConflictTheRemoteVersionWinsAndTheHostsIsKept) {
  Agree({{"a", "1"}});
  WriteHost("a", "host");
  WriteFar("a", "remote");
  const SyncReport report = MustPull();
  EXPECT_EQ(report.counts.conflicts, 1u);
  EXPECT_EQ(HostFiles(), (Files{{"a", "remote"}}));
  const auto undo = Revert("y1");
  ASSERT_TRUE(undo.ok()) << undo.status();
  EXPECT_EQ(HostFiles(), (Files{{"a", "host"}}));
  // What was taken back goes over with the next push.
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"a", "host"}}));
}

TEST_F(ManagerTest, WhereTheHostWinsItsVersionGoesOver) {
  WriteHost("a", "1");
  Open({.conflict = ConflictPolicy::kHost});
  MustPush();
  WriteHost("a", "host");
  WriteFar("a", "remote");
  MustPull();
  EXPECT_EQ(HostFiles(), (Files{{"a", "host"}}));
  EXPECT_EQ(heard_.Of("a").effect, Effect::kKeepCopy);
  const std::string note = heard_.Of("a").note;
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"a", "host"}}));
  const size_t name = note.find(".hermesd-stage/");
  ASSERT_NE(name, std::string::npos) << note;
  EXPECT_EQ(Slurp(Host(note.substr(name))), "remote");
}

TEST_F(ManagerTest, BothVersionsStayWhereThatIsThePolicy) {
  WriteHost("a.txt", "1");
  Open({.conflict = ConflictPolicy::kBoth});
  MustPush();
  WriteHost("a.txt", "host");
  WriteFar("a.txt", "remote");
  MustPull();
  Files files = HostFiles();
  EXPECT_EQ(files.size(), 2u);
  EXPECT_EQ(files.at("a.txt"), "host");
  files.erase("a.txt");
  EXPECT_EQ(files.begin()->second, "remote");
  EXPECT_EQ(files.begin()->first, heard_.Of("a.txt").aside);
  MustPush();
  EXPECT_EQ(FarFiles(), HostFiles());
}

TEST_F(ManagerTest, AnAbortedConflictIsUnsaved) {
  WriteHost("a", "1");
  Open({.conflict = ConflictPolicy::kAbort});
  MustPush();
  WriteHost("a", "host");
  WriteFar("a", "remote");
  const SyncReport report = MustPull();
  EXPECT_EQ(report.unsaved, 1u);
  EXPECT_EQ(HostFiles(), (Files{{"a", "host"}}));
  EXPECT_EQ(FarFiles(), (Files{{"a", "remote"}}));
}

TEST_F(ManagerTest, DeletionsOverThereAreTakenAndHeldBackWhenSuspicious) {
  Files files;
  for (int i = 0; i < 60; ++i) files["f" + std::to_string(i)] = "x";
  Agree(files);
  for (int i = 0; i < 15; ++i) fs::remove(Far("f" + std::to_string(i)));
  MustPull();
  EXPECT_EQ(HostFiles().size(), 45u);
  for (int i = 15; i < 40; ++i) fs::remove(Far("f" + std::to_string(i)));
  const SyncReport held = MustPull();
  EXPECT_EQ(held.counts.held, 25u);
  EXPECT_EQ(HostFiles().size(), 45u);
  MustPull({.approve_deletes = true});
  EXPECT_EQ(HostFiles().size(), 20u);
}

TEST_F(ManagerTest, APullMountLearnsABaseOfItsOwn) {
  WriteFar("a", "1");
  WriteFar("b", "2");
  WriteFar("c", "3");
  Open({.policy = Policy::kPull});
  MustPull();
  EXPECT_EQ(HostFiles(), FarFiles());
  fs::remove(Far("b"));
  WriteFar("a", "11");
  const SyncReport report = MustPull();
  EXPECT_EQ(report.counts.conflicts, 0u);
  EXPECT_EQ(HostFiles(), (Files{{"a", "11"}, {"c", "3"}}));
  // A pull mount sends nothing.
  WriteHost("mine", "x");
  EXPECT_TRUE(manager().Clean());
  MustPush();
  EXPECT_EQ(FarFiles(), (Files{{"a", "11"}, {"c", "3"}}));
}

TEST_F(ManagerTest, AnEditOfTheHostDuringTheDownloadIsAConflictAndKept) {
  Agree({{"a", "1"}});
  WriteFar("a", "remote");
  far().hooks.within_fetch = [this] {
    WriteHost("a", "late");
    return Nothing();
  };
  const SyncReport report = MustPull();
  EXPECT_EQ(report.counts.conflicts, 1u);
  EXPECT_EQ(HostFiles().at("a"), "remote");
  ASSERT_TRUE(Revert("y1").ok());
  EXPECT_EQ(HostFiles().at("a"), "late");
}

TEST_F(ManagerTest, APushDuringTheDownloadIsNotUndoneByIt) {
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("b", "2");
  far().hooks.within_fetch = [this] {
    WriteHost("a", "newer");
    return PushWithin();
  };
  MustPull();
  EXPECT_EQ(HostFiles(), (Files{{"a", "newer"}, {"b", "2"}}));
  EXPECT_EQ(FarFiles(), (Files{{"a", "newer"}, {"b", "2"}}));
}

TEST_F(ManagerTest, AFileOfTheFarEndThatMovesIsTakenAsItArrived) {
  Agree({{"log", "1"}});
  std::string log = "12";
  int times = 0;
  far().hooks.before = [&](std::string_view verb) {  // each look finds another one than came before
    if (verb == "look") WriteFar("log", log += "l");
    return absl::OkStatus();
  };
  far().hooks.within_fetch = [&] {
    ++times;
    WriteFar("log", log += "f");
    return Nothing();
  };
  MustPull();
  EXPECT_EQ(times, 3);
  EXPECT_EQ(HostFiles().at("log"), "12lflflf");
  EXPECT_EQ(heard_.Of("log").fate, Fate::kDone);
  EXPECT_EQ(heard_.Of("log").note, "it changed while it was fetched");
}

TEST_F(ManagerTest, AFileThatMovedOnceIsTakenAsTheNextLookFindsIt) {
  Agree({{"log", "1"}});
  WriteFar("log", "12");
  int times = 0;
  far().hooks.within_fetch = [&] {
    ++times;
    WriteFar("log", "123");
    return Nothing();
  };
  MustPull();
  EXPECT_EQ(times, 1) << "what came is what is there";
  EXPECT_EQ(HostFiles().at("log"), "123");
  EXPECT_EQ(heard_.Of("log").note, "");
}

TEST_F(ManagerTest, AFileWhoseSpecialBitsAreDroppedIsFetchedOnce) {
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  fs::permissions(Far("a"), fs::perms::all);
  far().hooks.stream = tar::File({.name = "a", .mode = "0004755"}, "2") + tar::End();
  int fetches = 0;
  far().hooks.within_fetch = [&] {
    ++fetches;
    return Nothing();
  };
  EXPECT_EQ(MustPull().unsaved, 0u);
  EXPECT_EQ(fetches, 1);
  EXPECT_EQ(HostFiles().at("a"), "2");
  EXPECT_EQ(heard_.Of("a").fate, Fate::kDone);
  EXPECT_EQ(heard_.Of("a").note, unpack::Text(unpack::Oddity::kSpecialBits));
}

TEST_F(ManagerTest, AFileThatIsGoneWhenItIsFetchedIsTold) {
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  far().hooks.look = [](RemoteLook* look) {
    look->manifest.files[*RelPath::Parse("ghost")] = {DigestOf("g"), 1};
  };
  EXPECT_EQ(MustPull().unsaved, 1u);
  EXPECT_EQ(heard_.Of("ghost").why, Why::kGone);
  EXPECT_EQ(heard_.Of("ghost").fate, Fate::kChanged);
  EXPECT_EQ(HostFiles(), (Files{{"a", "2"}}));
}

// Between the look and the token the place was replaced by one that holds something else.
TEST_F(ManagerTest, ABaseIsNotClaimedOfAPlaceThatNobodyHasLookedAt) {
  WriteFar("a", "1");
  WriteFar("b", "1");
  Open();
  far().hooks.within_apply = [this] {
    fs::remove_all(dir_ + "/far");
    WriteFar("b", "1");
    WriteFar(".hermesd-epoch", std::string(32, 'f'));
    return Nothing();
  };
  MustPull();
  far().hooks = {};
  MustPull();
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}, {"b", "1"}}));
}

TEST_F(ManagerTest, ABrokenTransportIsTriedThreeTimes) {
  Agree({{"a", "1"}});
  WriteHost("a", "2");
  int left = 2;
  far().hooks.before = [&](std::string_view) {
    return left-- > 0 ? Error(Reason::k_BACKEND_UNREACHABLE, "cut") : absl::OkStatus();
  };
  MustPush();
  EXPECT_EQ(FarFiles().at("a"), "2");
}

TEST_F(ManagerTest, APlaceThatLiesGivesNothingUntilItIsSalvaged) {
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  WriteFar("b", "2");
  const std::string good =
      TarHeader({.name = *RelPath::Parse("a"), .size = 1}) + "2" + std::string(TarPadding(1));
  const std::string lie = TarHeader({.name = *RelPath::Parse("unasked"), .size = 0});
  far().hooks.stream = good + lie + std::string(TarEnd());
  const auto report = Pull();
  EXPECT_EQ(ReasonOf(report.status()), Reason::k_SYNC_FAILED);
  EXPECT_TRUE(manager().suspect());
  EXPECT_EQ(HostFiles(), (Files{{"a", "1"}}));
  EXPECT_EQ(FilesBelow(dir_ + "/quarantine").size(), 1u);
  EXPECT_EQ(heard_.Of("unasked").why, Why::kLie);
  EXPECT_TRUE(heard_.Of("unasked").note.ends_with("; the stream is kept as y1.0"));

  far().hooks.stream.reset();
  EXPECT_EQ(ReasonOf(Pull().status()), Reason::k_SYNC_FAILED);
  far().hooks.stream = good + lie + std::string(TarEnd());
  EXPECT_TRUE(Pull({.salvage = true}).ok());
  EXPECT_EQ(HostFiles(), (Files{{"a", "2"}}));
  EXPECT_TRUE(manager().suspect());
  far().hooks.stream.reset();
  EXPECT_TRUE(Pull({.salvage = true}).ok());
  EXPECT_FALSE(manager().suspect());
  EXPECT_EQ(HostFiles(), (Files{{"a", "2"}, {"b", "2"}}));
}

TEST_F(ManagerTest, OfManyLiesTheNewestAreKept) {
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  far().hooks.stream =
      TarHeader({.name = *RelPath::Parse("lie"), .size = 0}) + std::string(TarEnd());
  for (size_t i = 0; i < kMaxQuarantined + 3; ++i) {
    manager().set_suspect(false);
    EXPECT_FALSE(Pull().ok());
  }
  const Files kept = FilesBelow(dir_ + "/quarantine");
  EXPECT_EQ(kept.size(), kMaxQuarantined);
  EXPECT_TRUE(kept.contains("y" + std::to_string(kMaxQuarantined + 3) + ".0"));
}

TEST_F(ManagerTest, WhatNeverTravelsIsToldToWhoAsks) {
  Agree({{"a", "1"}});
  fs::create_symlink("a", Host("link"));
  MustPush();
  EXPECT_TRUE(heard_.entries.empty());
  const auto report = Push({.tell_odd = true});
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->counts.rejected, 1u);
  EXPECT_EQ(heard_.Of("link").why, Why::kOdd);
}

TEST_F(ManagerTest, AFollowerIsOfferedOnlyWhenTheFarEndIsKnown) {
  WriteHost("a", "1");
  Open();
  far().hooks.follows = true;
  std::vector<std::string> runs;
  PushRequest request{.on_follow = [&](std::string run) { runs.push_back(run); }};
  MustPush(request);
  EXPECT_TRUE(runs.empty());
  WriteHost("a", "2");
  MustPush(request);
  EXPECT_EQ(runs.size(), 1u);
  MustPush(request);
  EXPECT_EQ(runs.size(), 1u);
}

TEST_F(ManagerTest, SessionsOfOneRootShareWhatTheyKnow) {
  Agree({{"a", "1"}});
  DirTree* far = nullptr;
  const std::unique_ptr<SyncManager> other = MakeManager({{}}, "other", &far);
  EXPECT_TRUE(other->Clean());
  WriteHost("a", "2");
  MustPush();
  EXPECT_TRUE(other->Clean());
  EXPECT_EQ(far->applies, 0);
}

TEST_F(ManagerTest, MountsBeyondTheWatchedOnesAreScanned) {
  std::vector<Mount> mounts;
  for (size_t i = 0; i <= kMaxWatchedPairs; ++i) {
    const std::string name = "/host/m" + std::to_string(i);
    Spit(dir_ + name + "/f", "1");
    mounts.push_back(
        {.host_root = dir_ + name, .remote_root = dir_ + "/far/m" + std::to_string(i)});
    mounts.back().id = "m" + std::to_string(i);
  }
  manager_ = MakeManager(mounts, "many");
  MustPush();
  EXPECT_EQ(FarFiles().size(), mounts.size());
  EXPECT_FALSE(manager().Clean());  // the last one has to be looked at
  Spit(dir_ + "/host/m" + std::to_string(kMaxWatchedPairs) + "/f", "2");
  MustPush();
  EXPECT_EQ(FarFiles().at("m" + std::to_string(kMaxWatchedPairs) + "/f"), "2");
}

TEST_F(ManagerTest, AnUndoOnAFullDiskSaysSo) {
  FaultFs fs(fs_);
  landing_fs_ = &fs;
  NewDaemon();
  Agree({{"a", "1"}, {"b", "1"}});
  WriteFar("a", "2");
  fs::remove(Far("b"));
  MustPull({.id = "y1"});
  fs.before = [](const FsCall& call) { return call.kind == FsCall::Kind::kMove ? -ENOSPC : 0; };
  EXPECT_EQ(ReasonOf(Revert("y1").status()), Reason::k_DISK_FULL);
  EXPECT_EQ(heard_.Of("b").fate, Fate::kFailed);
  EXPECT_EQ(HostFiles(), (Files{{"a", "2"}}));
}

// As where it brings back more than the mount may have.
TEST_F(ManagerTest, AnUndoTellsItsFilesThoughTheHostCannotBeLookedAtThen) {
  Agree({{"a", "1"}, {"b", "1"}, {"c", "1"}}, {.max_files = 3});
  fs::remove(Far("a"));
  MustPull({.id = "y1"});
  WriteHost("d", "1");
  EXPECT_FALSE(Revert("y1").ok());
  EXPECT_EQ(heard_.Of("a").fate, Fate::kDone);
  EXPECT_EQ(heard_.Of("a").effect, Effect::kReplace);
  EXPECT_EQ(HostFiles().size(), 4u);
}

TEST_F(ManagerTest, AnOldUndoGoesWhenADaemonStarts) {
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  MustPull();
  EXPECT_TRUE(IsKept("1"));
  const Mount mount{.host_root = dir_ + "/host", .remote_root = dir_ + "/far"};
  NewDaemon();
  ASSERT_TRUE(Run(pairs_->Recover(mount, "", {})).ok());
  EXPECT_TRUE(IsKept("1"));
  ASSERT_TRUE(Run(pairs_->Recover(mount, "", {.max_age_s = -1})).ok());
  EXPECT_FALSE(IsKept("1"));
}

// The undo store cannot be listed once the files have landed.
class NoLists : public FaultFs {
 public:
  using FaultFs::FaultFs;
  int List(int dir, std::vector<std::string>* names) override {
    return landed_ ? -EIO : FaultFs::List(dir, names);
  }
  int SyncAll(int handle) override {
    landed_ = true;
    return FaultFs::SyncAll(handle);
  }

 private:
  bool landed_ = false;
};

TEST_F(ManagerTest, APullThatLandedIsNoFailureWhereOldUndoCannotGo) {
  NoLists fs(fs_);
  landing_fs_ = &fs;
  NewDaemon();
  Agree({{"a", "1"}});
  WriteFar("a", "2");
  EXPECT_EQ(MustPull().counts.applied, 1u);
  EXPECT_EQ(HostFiles().at("a"), "2");
}

TEST_F(ManagerTest, AnUndoOfNothingSaysSo) {
  Agree({{"a", "1"}});
  EXPECT_EQ(ReasonOf(Revert("y77").status()), Reason::k_RESULT_EXPIRED);
}

}  // namespace
}  // namespace hermes::sync
