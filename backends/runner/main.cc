// hermes-runner: the far side of hermesd. See README.md.

#include <unistd.h>

#include <string>
#include <string_view>

#include "backends/runner/askpass.h"
#include "backends/runner/place.h"
#include "backends/runner/serve.h"
#include "backends/runner/sys.h"

namespace hermes::runner {
namespace {

constexpr std::string_view kUsage =
    "usage: hermes-runner serve DIR [--ready-fd N]\n"
    "       hermes-runner connect DIR\n"
    "       hermes-runner probe\n"
    "       hermes-runner --version\n";

int Usage() {
  WriteAll(STDERR_FILENO, kUsage);
  return 2;
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
  if (mode == "connect" && argc == 3) return ConnectMain(argv[2]);
  if (mode != "serve" || (argc != 3 && argc != 5)) return Usage();
  int ready_fd = -1;
  if (argc == 5) {
    auto number = ParseDecimal(argv[4]);
    if (std::string_view(argv[3]) != "--ready-fd" || !number || *number > 1'000'000) return Usage();
    ready_fd = static_cast<int>(*number);
  }
  return ServeMain(argv[2], ready_fd);
}

}  // namespace
}  // namespace hermes::runner

int main(int argc, char** argv) { return hermes::runner::Main(argc, argv); }
