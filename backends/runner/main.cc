// hermes-runner: the far side of hermesd. See README.md.

#include <unistd.h>

#include <string>
#include <string_view>

#include "backends/runner/askpass.h"
#include "backends/runner/files.h"
#include "backends/runner/place.h"
#include "backends/runner/serve.h"
#include "backends/runner/sha256.h"
#include "backends/runner/sys.h"

namespace hermes::runner {
namespace {

constexpr std::string_view kUsage =
    "usage: hermes-runner serve DIR [--ready-fd N] [--idle-ms N]\n"
    "       hermes-runner connect|leave DIR\n"
    "       hermes-runner files|digest|probe|--version\n";

int Usage() {
  WriteAll(STDERR_FILENO, kUsage);
  return 2;
}

bool ParseServeOptions(int count, char** words, ServeOptions* options) {
  constexpr uint64_t kMostFd = 1'000'000;
  constexpr uint64_t kMostIdleMs = 86'400'000;  // a day
  for (int i = 0; i < count; i += 2) {
    std::string_view name = words[i];
    auto number = ParseDecimal(i + 1 < count ? words[i + 1] : "");
    if (name == "--ready-fd" && number && *number <= kMostFd) {
      options->ready_fd = static_cast<int>(*number);
    } else if (name == "--idle-ms" && number && *number <= kMostIdleMs) {
      options->idle_us = static_cast<int64_t>(*number) * 1000;
    } else {
      return false;
    }
  }
  return true;
}

// Of stdin, as sha256sum prints it: for a place that has no such program.
int DigestMain() {
  Sha256 sha;
  char piece[4096];
  ssize_t bytes;
  while ((bytes = read(STDIN_FILENO, piece, sizeof piece)) > 0) {
    sha.Update({piece, static_cast<size_t>(bytes)});
  }
  return bytes == 0 && WriteAll(STDOUT_FILENO, Hex(sha.Finish()) + "\n") ? 0 : 1;
}

int Main(int argc, char** argv) {
  std::string_view self = argc > 0 ? argv[0] : "";
  if (self.substr(self.rfind('/') + 1) == "askpass") return AskpassMain(std::string(self));
  std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "--version") {
    std::string line = "hermes-runner " + std::string(BuildId()) + "\n";
    return WriteAll(STDOUT_FILENO, line) ? 0 : 1;
  }
  if (mode == "probe") return ProbeMain();
  if (mode == "files" && argc == 2) return FilesMain();
  if (mode == "digest" && argc == 2) return DigestMain();
  if (mode == "connect" && argc == 3) return ConnectMain(argv[2]);
  if (mode == "leave" && argc == 3) return LeaveMain(argv[2]);
  ServeOptions options;
  if (mode != "serve" || argc < 3 || !ParseServeOptions(argc - 3, argv + 3, &options))
    return Usage();
  return ServeMain(argv[2], options);
}

}  // namespace
}  // namespace hermes::runner

int main(int argc, char** argv) { return hermes::runner::Main(argc, argv); }
