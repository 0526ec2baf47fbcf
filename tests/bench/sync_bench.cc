// hermes_sync_bench: what sync costs on the host, as a table; no network, no daemon. With --smoke
// the trees are small. Exit code 1: something did not work; targets that are missed are only shown.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "sync/plan.h"
#include "tests/sync/fault_fs.h"
#include "tests/sync/host_tree_stand.h"
#include "tests/sync/land_stand.h"

namespace hermes::sync {
namespace {

using Time = std::chrono::steady_clock;

double Us(Time::duration d) { return std::chrono::duration<double, std::micro>(d).count(); }

class HostBench : private HostTreeStand {
 public:
  // `files` files of `bytes` each, 10 in a directory.
  HostBench(int files, size_t bytes) : files_(files) {
    for (int i = 0; i < files; ++i)
      Write(Name(i), std::string(bytes, static_cast<char>('a' + i % 26)));
  }

  bool Run() {
    Open();
    Row("first look", Once([this] { ok_ = ok_ && tree_->Refresh(Effort::kChanges).ok(); }), 0);
    ok_ = ok_ && tree_->watching() && tree_->manifest().files.size() == static_cast<size_t>(files_);
    NoChange();
    Changes(1);
    Changes(100);
    Row("all stat keys", Once([this] { ok_ = ok_ && tree_->Refresh(Effort::kStats).ok(); }), 0);
    Row("all bytes", Once([this] { ok_ = ok_ && tree_->Refresh(Effort::kBytes).ok(); }), 0);
    Row("digest of the manifest", Once([this] { ManifestDigest(tree_->manifest().files); }), 0);
    Plans();
    return ok_;
  }

 private:
  static std::string Name(int i) {
    return "d" + std::to_string(i / 100) + "/e" + std::to_string(i / 10) + "/f" + std::to_string(i);
  }

  void Row(const std::string& what, double us, double target_us) {
    std::printf("| %6d files | %-32s | %10.2f us |", files_, what.c_str(), us);
    if (target_us > 0)
      std::printf(" <= %4.1f us | %s |", target_us, us <= target_us ? "yes" : "NO");
    std::printf("\n");
    std::fflush(stdout);
  }

  template <typename F>
  static double Once(F run) {
    const auto begin = Time::now();
    run();
    return Us(Time::now() - begin);
  }

  void NoChange() {
    ok_ = ok_ && tree_->Refresh(Effort::kChanges).ok();
    constexpr int kRounds = 20'000;
    std::vector<double> times;
    times.reserve(kRounds);
    for (int i = 0; i < kRounds; ++i)
      times.push_back(Once([this] { ok_ = tree_->Unchanged() && ok_; }));
    std::sort(times.begin(), times.end());
    Row("no change, p50", times[kRounds / 2], 1);
    Row("no change, p99", times[kRounds * 99 / 100], 5);
  }

  void Changes(int count) {
    std::vector<double> times;
    for (int round = 0; round < 20; ++round) {
      for (int i = 0; i < count; ++i) Write(Name(i), std::to_string(round));
      times.push_back(Once([this] { ok_ = tree_->Refresh(Effort::kChanges).ok() && ok_; }));
    }
    std::sort(times.begin(), times.end());
    Row("look after " + std::to_string(count) + " edits", times[times.size() / 2], 0);
  }

  void Plans() {
    const IgnoreList ignore;
    const Manifest& host = tree_->manifest();
    const PullInput input{
        .mount = mount_, .ignore = ignore, .base = host.files, .host = host, .remote = host};
    Row("plan of a pull", Once([&] { ok_ = PlanPull(input).empty() && ok_; }), 0);
    Row("plan of a push",
        Once([&] { ok_ = PlanPush(mount_, ignore, host.files, host).empty() && ok_; }), 0);
  }

  const int files_;
  bool ok_ = true;
};

double LandMs(const TestTree& before, const TestTree& after, bool durable, bool* ok) {
  RealRoot root(RealRoot::Where::kDisk);
  PutTree(root.fs(), root.fd(), before);
  root.fs().SyncAll(root.fd());
  FaultFs fs(root.fs());
  fs.skip_syncs = !durable;
  const auto begin = Time::now();
  *ok = LandAll(fs, root.fd(), before, after, "s1").ok() && *ok;
  return Us(Time::now() - begin) / 1e3;
}

// What it costs that a power cut undoes no landing: the same one with its syncs and without, in
// turn, each by its best round.
bool DurableLanding(int files, int rounds) {
  constexpr double kMaxRatio = 1.2;
  TestTree before;
  TestTree after;
  for (int i = 0; i < files; ++i) {
    const std::string number = std::to_string(i);
    const std::string text(5'780, static_cast<char>('a' + i % 26));
    before["d" + number + "/f"] = {text};
    after["d" + number + "/f"] = {text + number};
  }
  bool ok = true;
  double with = 1e9;
  double without = 1e9;
  for (int i = 0; i < rounds; ++i) {
    without = std::min(without, LandMs(before, after, false, &ok));
    with = std::min(with, LandMs(before, after, true, &ok));
  }
  std::printf("| %6d files | %-32s | %7.1f ms: %.2f x | <= %.1f x | %s |\n", files,
              "landing, durable by not", with, with / without, kMaxRatio,
              with <= kMaxRatio * without ? "yes" : "NO");
  return ok;
}

}  // namespace
}  // namespace hermes::sync

int main(int argc, char** argv) {
  const bool smoke = argc > 1 && std::strcmp(argv[1], "--smoke") == 0;
  bool ok = hermes::sync::HostBench(581, 5'780).Run();
  if (!smoke) ok = hermes::sync::HostBench(10'000, 5'900).Run() && ok;
  ok = hermes::sync::DurableLanding(581, smoke ? 3 : 15) && ok;
  return ok ? 0 : 1;
}
