// What durability costs: the same landing with its syncs and without, on a disk. Printed, and only
// bounded where it says that something is done once per file.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "tests/sync/fault_fs.h"
#include "tests/sync/land_stand.h"

namespace hermes::sync {
namespace {

struct Cost {
  double ms = 0;
  int syncs = 0;
};

Cost LandOnDisk(const TestTree& before, const TestTree& after, bool durable) {
  RealRoot root(RealRoot::Where::kDisk);
  PutTree(root.fs(), root.fd(), before);
  root.fs().SyncAll(root.fd());
  FaultFs fs(root.fs());
  fs.skip_syncs = !durable;
  Cost cost;
  fs.before = [&](const FsCall& call) {
    cost.syncs += call.kind == FsCall::Kind::kSync ? 1 : 0;
    return 0;
  };
  auto begin = std::chrono::steady_clock::now();
  auto report = LandAll(fs, root.fd(), before, after, "s1");
  cost.ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(Describe(FilesOf(root.tree())), Describe(after));
  return cost;
}

void Compare(const char* what, const TestTree& before, const TestTree& after, int rounds) {
  std::vector<double> with;
  std::vector<double> without;
  for (int i = 0; i < rounds; ++i) {
    without.push_back(LandOnDisk(before, after, false).ms);
    Cost cost = LandOnDisk(before, after, true);
    with.push_back(cost.ms);
    EXPECT_LE(cost.syncs, 16) << "a sync per file or per directory";
  }
  std::sort(with.begin(), with.end());
  std::sort(without.begin(), without.end());
  std::printf(
      "%s: %zu files, durable best %.1f median %.1f ms, else %.1f and %.1f, ratio %.2f of "
      "bests, %.2f of medians\n",
      what, FilesOf(after).size(), with.front(), with[with.size() / 2], without.front(),
      without[without.size() / 2], with.front() / without.front(),
      with[with.size() / 2] / without[without.size() / 2]);
}

TEST(LandCostTest, SyncsAreCountedPerBatchAndNotPerFile) {
  const bool deep = std::getenv("HERMES_DEEP") != nullptr;
  const int count = deep ? 581 : 60;
  const int rounds = deep ? 15 : 1;
  TestTree old_wide;
  TestTree new_wide;
  TestTree old_flat;
  TestTree new_flat;
  for (int i = 0; i < count; ++i) {
    std::string number = std::to_string(i);
    std::string text(5700, static_cast<char>('a' + i % 26));
    old_wide["skill" + number + "/file"] = {text};
    new_wide["skill" + number + "/file"] = {text + number};
    old_flat["dir" + std::to_string(i % 4) + "/" + number] = {text};
    new_flat["dir" + std::to_string(i % 4) + "/" + number] = {text + number};
  }
  Compare("replace, a directory each", old_wide, new_wide, rounds);
  Compare("replace, four directories", old_flat, new_flat, rounds);
  Compare("create, a directory each", {}, new_wide, rounds);
  Compare("replace one", {{"a", {"1"}}}, {{"a", {"2"}}}, rounds);
}

}  // namespace
}  // namespace hermes::sync
