// Landing under kill -9 at every outside effect, again while it replays; and under power cuts that
// keep or drop every unsynced call by itself.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <random>

#include "daemon/runtime/check.h"
#include "tests/sync/fault_fs.h"
#include "tests/sync/land_stand.h"
#include "tests/sync/mem_fs.h"

namespace hermes::sync {
namespace {

// Of each case: in the suite a seeded sample, with HERMES_DEEP all points.
constexpr int kSampledPoints = 12;
constexpr int kSampledCuts = 35;
bool Deep() { return std::getenv("HERMES_DEEP") != nullptr; }

// What the file system can't do.
enum class Lacks { kNothing, kExchange, kExchangeAndNoReplace };
constexpr Lacks kAllLacks[] = {Lacks::kNothing, Lacks::kExchange, Lacks::kExchangeAndNoReplace};

bool Refuses(Lacks lacks, const FsCall& call) {
  if (call.kind == FsCall::Kind::kExchange) return lacks != Lacks::kNothing;
  return call.no_replace && lacks == Lacks::kExchangeAndNoReplace;
}

enum class Job { kLand, kLandAndRevert };

struct Case {
  const Scenario* scenario;
  Lacks lacks;
  Job job;
  std::string name() const {
    return std::string(scenario->name) + (job == Job::kLand ? " land" : " revert") + " lacks " +
           std::to_string(static_cast<int>(lacks));
  }
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const Scenario& scenario : Scenarios()) {
    for (Lacks lacks : kAllLacks) {
      for (Job job : {Job::kLand, Job::kLandAndRevert}) cases.push_back({&scenario, lacks, job});
    }
  }
  return cases;
}

void DoJob(Fs& fs, int root, const Case& what) {
  auto landed = LandAll(fs, root, what.scenario->before, what.scenario->after, "s1");
  if (landed.ok() && what.job == Job::kLandAndRevert) {
    (void)UndoStore(fs, root).Revert("s1");
  }
}

void Replay(Fs& fs, int root, const Case&) { (void)Landing(fs, root).Recover(); }

// Whatever was cut, wherever: each file is one of its two versions.
void ExpectOldOrNew(const TestTree& tree, const Case& what) {
  const TestTree before = FilesOf(what.scenario->before);
  const TestTree& after = what.scenario->after;
  for (const auto& [path, file] : tree) {
    if (path.ends_with('/')) continue;
    auto old = before.find(path);
    auto now = after.find(path);
    EXPECT_TRUE((old != before.end() && file == old->second) ||
                (now != after.end() && file.SameVersion(now->second)))
        << path << " is " << file.text;
  }
  for (const auto& [path, file] : before) {
    if (after.contains(path)) EXPECT_TRUE(tree.contains(path)) << path << " is lost";
  }
}

// After the last replay: nothing is open, and the way back ends at the very tree of the beginning.
void ExpectAllComesBack(Fs& fs, int root, const Case& what) {
  ExpectOldOrNew(ReadTree(fs, root), what);
  UndoStore undo(fs, root);
  auto kept = undo.List();
  ASSERT_TRUE(kept.ok()) << kept.status();
  for (const UndoEntry& entry : *kept) {
    EXPECT_FALSE(entry.open);
    EXPECT_EQ(entry.kept, 0u);
    if (!entry.readable) continue;  // torn before it was synced, so nothing had been moved
    if (entry.in_place == 0) continue;
    auto back = undo.Revert(entry.id);
    ASSERT_TRUE(back.ok()) << back.status();
    for (const LandResult& result : back->results) {
      EXPECT_EQ(result.outcome, Outcome::kDone) << result.path.str() << " " << result.why;
    }
  }
}

using Run = void (*)(Fs&, int, const Case&);

// Runs in a child that dies before the n-th effect. True if it lived to the end.
bool RunAndDie(RealRoot& root, Run run, const Case& what, int n) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    FaultFs fs(root.fs());
    fs.skip_syncs = true;
    int left = n;
    fs.before = [&](const FsCall& call) {
      if (call.kind == FsCall::Kind::kRead) return 0;
      if (left-- == 0) _exit(9);
      return Refuses(what.lacks, call) ? -EINVAL : 0;
    };
    run(fs, root.fd(), what);
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
  return WEXITSTATUS(status) == 0;
}

// Dies before effect n of the job and before effect m of the replay. Reports whether each lived.
struct Lived {
  bool job;
  bool replay;
};
Lived KillTwice(const Case& what, int n, int m) {
  SCOPED_TRACE(what.name() + " killed at " + std::to_string(n) + " and " + std::to_string(m));
  RealRoot root;
  PutTree(root.fs(), root.fd(), what.scenario->before);
  Lived lived = {};
  lived.job = RunAndDie(root, DoJob, what, n);
  if (what.lacks == Lacks::kNothing) ExpectOldOrNew(root.tree(), what);
  lived.replay = RunAndDie(root, Replay, what, m);
  FaultFs fs(root.fs());
  fs.skip_syncs = true;
  fs.before = [&](const FsCall& call) { return Refuses(what.lacks, call) ? -EINVAL : 0; };
  auto reports = Landing(fs, root.fd()).Recover();
  EXPECT_TRUE(reports.ok()) << reports.status();
  const std::string files = Describe(FilesOf(root.tree()));
  EXPECT_TRUE(files == Describe(FilesOf(what.scenario->before)) ||
              files == Describe(what.scenario->after))
      << files;
  ExpectAllComesBack(fs, root.fd(), what);
  EXPECT_EQ(Describe(root.tree()), Describe(what.scenario->before));
  return lived;
}

constexpr int kNever = 1 << 20;

int CountEffects(const Case& what) {
  RealRoot root;
  PutTree(root.fs(), root.fd(), what.scenario->before);
  FaultFs fs(root.fs());
  fs.skip_syncs = true;
  int effects = 0;
  fs.before = [&](const FsCall& call) {
    if (call.kind != FsCall::Kind::kRead) ++effects;
    return Refuses(what.lacks, call) ? -EINVAL : 0;
  };
  DoJob(fs, root.fd(), what);
  return effects;
}

class LandCrashTest : public ::testing::TestWithParam<Case> {};
class LandPowerCutTest : public ::testing::TestWithParam<Case> {};

std::string NameOf(const ::testing::TestParamInfo<Case>& info) {
  std::string name = info.param.name();
  std::erase(name, ' ');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Cases, LandCrashTest, ::testing::ValuesIn(Cases()), NameOf);
INSTANTIATE_TEST_SUITE_P(Cases, LandPowerCutTest, ::testing::ValuesIn(Cases()), NameOf);

TEST_P(LandCrashTest, EachFileIsOldOrNewAndComesBackWhereverItIsKilled) {
  const Case& what = GetParam();
  if (!Deep()) {
    const auto effects = static_cast<unsigned>(CountEffects(what));
    std::mt19937 random(20261120);
    for (int i = 0; i < kSampledPoints && !HasFailure(); ++i) {
      int n = static_cast<int>(random() % effects);
      int m = static_cast<int>(random() % effects);
      KillTwice(what, n, random() % 2 == 0 ? kNever : m);
    }
    return;
  }
  int points = 0;
  for (int n = 0; !HasFailure(); ++n) {
    ++points;
    if (KillTwice(what, n, kNever).job) break;
    for (int m = 0; !KillTwice(what, n, m).replay && !HasFailure(); ++m) ++points;
  }
  std::printf("%d kill points\n", points);
  EXPECT_GE(points, 120);  // 2,000 of all cases
}

// All calls from the n-th effect on fail, as they do on a device that went away.
void RunUntilDead(MemFs& mem, Run run, const Case& what, int n) {
  FaultFs fs(mem);
  int left = n;
  bool dead = false;
  fs.before = [&](const FsCall& call) {
    if (call.kind != FsCall::Kind::kRead && left-- == 0) dead = true;
    if (dead) return -EIO;
    return Refuses(what.lacks, call) ? -EINVAL : 0;
  };
  run(fs, mem.root(), what);
}

void CutPowerTwice(const Case& what, int n, int m, uint64_t seed) {
  SCOPED_TRACE(what.name() + " cut at " + std::to_string(n) + " and " + std::to_string(m) +
               " seed " + std::to_string(seed));
  MemFs mem;
  PutTree(mem, mem.root(), what.scenario->before);
  mem.SyncAll(mem.root());
  RunUntilDead(mem, DoJob, what, n);
  mem.LosePower(seed);
  if (what.lacks == Lacks::kNothing) ExpectOldOrNew(ReadTree(mem, mem.root()), what);
  RunUntilDead(mem, Replay, what, m);
  mem.LosePower(seed + 1);
  FaultFs fs(mem);
  fs.before = [&](const FsCall& call) { return Refuses(what.lacks, call) ? -EINVAL : 0; };
  auto reports = Landing(fs, mem.root()).Recover();
  EXPECT_TRUE(reports.ok()) << reports.status();
  ExpectAllComesBack(fs, mem.root(), what);
  // A directory that was to go may have stayed, empty.
  EXPECT_EQ(Describe(FilesOf(ReadTree(fs, mem.root()))), Describe(FilesOf(what.scenario->before)));
}

TEST_P(LandPowerCutTest, EachFileIsOldOrNewAndComesBackWhateverWasNotSynced) {
  const Case& what = GetParam();
  const auto points = static_cast<unsigned>(CountEffects(what) + 1);
  std::mt19937_64 random(4711);
  if (!Deep()) {
    for (int i = 0; i < kSampledCuts && !HasFailure(); ++i) {
      int n = static_cast<int>(random() % points);
      int m = static_cast<int>(random() % points);
      CutPowerTwice(what, n, random() % 2 == 0 ? kNever : m, random());
    }
    return;
  }
  int cuts = 0;
  for (unsigned n = 0; n < points; ++n) {
    for (int round = 0; round < 40 && !HasFailure(); ++round, ++cuts) {
      int m = static_cast<int>(random() % points);
      CutPowerTwice(what, static_cast<int>(n), round % 2 == 0 ? kNever : m, random());
    }
  }
  std::printf("%d power cuts\n", cuts);
}

// What was reported as landed is landed: a cut right behind it takes nothing of it away.
TEST(LandDurabilityTest, WhatWasReportedStaysThroughAPowerCut) {
  for (const Scenario& scenario : Scenarios()) {
    for (uint64_t seed = 0; seed < 50; ++seed) {
      SCOPED_TRACE(std::string(scenario.name) + " seed " + std::to_string(seed));
      MemFs mem;
      PutTree(mem, mem.root(), scenario.before);
      mem.SyncAll(mem.root());
      ASSERT_TRUE(LandAll(mem, mem.root(), scenario.before, scenario.after, "s1").ok());
      mem.LosePower(seed);
      EXPECT_EQ(Describe(FilesOf(ReadTree(mem, mem.root()))), Describe(scenario.after));
      auto reports = Landing(mem, mem.root()).Recover();
      ASSERT_TRUE(reports.ok() && reports->empty());
      ASSERT_TRUE(UndoStore(mem, mem.root()).Revert("s1").ok());
      mem.LosePower(seed + 1000);
      EXPECT_EQ(Describe(FilesOf(ReadTree(mem, mem.root()))), Describe(FilesOf(scenario.before)));
    }
  }
}

}  // namespace
}  // namespace hermes::sync
