#pragma once

// For tests: a session's shell as the far end keeps it, with real shells and nothing else. Run()
// does for one command what the runner does: prelude and command text on descriptors 9 and 8, the
// state's variables as the environment, capture parsed and merged after a natural end.

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "backends/engine/script.h"

namespace hermes::shell {

using EnvList = std::vector<std::pair<std::string, std::string>>;

inline constexpr std::string_view kPlaceNonce = "0123456789abcdef0123456789abcdef";

struct Ran {
  std::string out;
  std::string err;
  int code = -1;  // exit status; -1: ended by `signal`
  int signal = 0;
  std::string capture;  // as written
  std::optional<State> after;
  std::string why;  // no `after`
  double seconds = 0;
};

struct RunOptions {
  std::string cwd = {};                          // by text, as for a shell started ahead
  EnvList env = {};                              // by text
  EnvList process_env = {};                      // on top of the state's
  std::optional<std::string> capture_path = {};  // instead of a file of its own
  bool sudo_askpass = false;
  bool pipes = false;  // instead of memfds; the text is written when the shell already runs
};

class Place {
 public:
  // `shell`: the program and its options before -c.
  Place(Kind kind, std::vector<std::string> shell);
  ~Place();
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  // One command from the current state; its state is merged when it ended by itself.
  Ran Run(const std::string& script, const RunOptions& options = {});

  // The same without merging: for commands side by side.
  Ran RunOnly(const std::string& script, const RunOptions& options = {});

  // What `shell -c script` itself does in the same surroundings.
  Ran RunPlain(const std::string& script);

  // LoginCaptureText in a login shell with `home` as HOME.
  Ran RunLogin(const std::string& home);

  State state;
  Kind kind() const { return kind_; }
  const std::string& dir() const { return dir_; }  // private, removed with this

 private:
  struct Spawn;
  Ran Execute(const Spawn& spawn);

  Kind kind_;
  std::vector<std::string> shell_;
  std::string dir_;
  int serial_ = 0;
};

Place Bash();
Place Dash();
Place Ash();

void WriteFile(const std::string& path, std::string_view text);
std::string ReadFile(const std::string& path);

}  // namespace hermes::shell
