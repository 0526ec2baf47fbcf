// hermesctl: finds the daemon's socket, connects, runs one sub-command.

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <variant>

#include "client/cli.h"
#include "client/commands.h"
#include "client/connection.h"
#include "client/terminal.h"

namespace hermes::client {
namespace {

constexpr char kSystemSocket[] = "/run/hermesd/hermes.sock";

std::string GetEnv(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

// The socket named by the user, else the first of the two usual places that exists.
void ChooseSocket(const Text& named, Connection::Options& options) {
  if (named) {
    options.socket = named->starts_with("unix:") ? named->substr(5) : *named;
    return;
  }
  options.socket = kSystemSocket;
  std::string runtime = GetEnv("XDG_RUNTIME_DIR");
  if (runtime.empty()) return;
  std::string own = runtime + "/hermesd/hermes.sock";
  if (access(own.c_str(), F_OK) == 0) {
    options.socket = own;
  } else {
    options.also_looked_at = own;
  }
}

// Escape sequences may go there.
bool IsSmart(int fd) {
  return isatty(fd) != 0 && GetEnv("NO_COLOR").empty() && GetEnv("TERM") != "dumb";
}

int Main(int argc, char** argv) {
  // A closed pipe is an error of write(), not a death in the middle of something.
  signal(SIGPIPE, SIG_IGN);
  auto parsed = ParseCommandLine(argc, argv, "hermesctl " HERMES_VERSION " (" HERMES_COMMIT ")");
  if (const int* code = std::get_if<int>(&parsed)) return *code;
  const auto& line = std::get<CommandLine>(parsed);
  Connection::Options options;
  ChooseSocket(line.socket, options);
  options.patience = line.patience;
  options.notice = [](const std::string& message) { Say(message); };
  Connection connection(options);
  Context context{connection, line.format, IsSmart(STDOUT_FILENO)};
  context.progress = line.format == Format::kTable && IsSmart(STDERR_FILENO);
  return line.run(context);
}

}  // namespace
}  // namespace hermes::client

int main(int argc, char** argv) { return hermes::client::Main(argc, argv); }
