// The contract on this host.

#include <cstdlib>
#include <filesystem>
#include <utility>

#include "backends/local/local_backend.h"
#include "tests/contract/driver.h"

namespace hermes::contract {
namespace {

std::unique_ptr<Backend> LocalBackendIn(Loop& loop, Clock& clock, const std::string& dir) {
  LocalOptions options;
  options.runner_dir = dir + "/runner";
  options.runner_override =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "hermes-runner";
  return MakeLocalBackend(loop, clock, std::move(options));
}

// Its runner's program is missing until it is put there.
std::pair<std::unique_ptr<Backend>, std::function<void()>> BrokenLocalBackendIn(
    Loop& loop, Clock& clock, const std::string& dir) {
  LocalOptions options;
  options.runner_dir = dir + "/broken";
  options.runner_override = dir + "/missing-runner";
  std::function<void()> repair = [link = options.runner_override] {
    std::filesystem::create_symlink(
        std::filesystem::read_symlink("/proc/self/exe").parent_path() / "hermes-runner", link);
  };
  return {MakeLocalBackend(loop, clock, std::move(options)), std::move(repair)};
}

// A plain command begins in the account's home, which is missing until it is repaired.
std::pair<std::unique_ptr<Backend>, std::function<void()>> HomelessLocalBackendIn(
    Loop& loop, Clock& clock, const std::string& dir) {
  const std::string home = getenv("HOME");
  setenv("HOME", (dir + "/missing-home").c_str(), 1);
  return {LocalBackendIn(loop, clock, dir), [home] { setenv("HOME", home.c_str(), 1); }};
}

void KillLocalRunner(const std::string& dir) {
  KillRunnerOf(dir + "/runner/s");
  KillRunnerOf(dir + "/broken/s");
}

INSTANTIATE_TEST_SUITE_P(Local, BackendContract,
                         ::testing::Values(Place{.name = "Runner",
                                                 .engine = "runner",
                                                 .backend = LocalBackendIn,
                                                 .broken_backend = BrokenLocalBackendIn,
                                                 .kill_far_end = KillLocalRunner,
                                                 .complete = true},
                                           Place{.name = "Plain",
                                                 .engine = "plain",
                                                 .backend = LocalBackendIn,
                                                 .broken_backend = HomelessLocalBackendIn,
                                                 .scale = 10}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace hermes::contract
