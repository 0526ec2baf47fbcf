#include "backends/runner/place.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include <utility>

#include "backends/runner/sys.h"

#ifndef HERMES_BUILD_ID
#define HERMES_BUILD_ID "unknown"
#endif

extern char** environ;

namespace hermes::runner {
namespace {

std::string OwnVariable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

void AddOwnVariables(frames::Pairs& env) {
  for (char** at = environ; *at != nullptr; ++at) {
    std::string_view entry = *at;
    size_t equals = entry.find('=');
    if (equals == std::string_view::npos) continue;
    std::string_view name = entry.substr(0, equals);
    bool wanted =
        name == "LANG" || name == "TZ" || name == "XDG_RUNTIME_DIR" || name.substr(0, 3) == "LC_";
    if (wanted) env.emplace_back(std::string(name), std::string(entry.substr(equals + 1)));
  }
}

std::string BootId() {
  Fd file(open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  char id[36];
  ssize_t n = read(file.get(), id, sizeof id);
  return n > 0 ? std::string(id, static_cast<size_t>(n)) : "";
}

}  // namespace

std::string_view Architecture() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "unknown";
#endif
}

std::string_view BuildId() { return HERMES_BUILD_ID; }

std::string FindProgram(std::string_view name) {
  for (std::string directory :
       {"/bin/", "/usr/bin/", "/usr/local/bin/", "/run/current-system/sw/bin/"}) {
    std::string path = directory + std::string(name);
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return "";
}

std::string ExpandHome(const std::string& path, const std::string& home) {
  if (path == "~" || path.empty()) return home;
  if (path.substr(0, 2) == "~/") return home + path.substr(1);
  return path;
}

Place FindPlace(std::string directory) {
  Place place;
  place.directory = std::move(directory);
  place.run_directory = place.directory + "/run";
  passwd* account = getpwuid(getuid());
  place.home = OwnVariable("HOME");
  if (place.home.empty()) place.home = account != nullptr ? account->pw_dir : "/";
  std::string user = account != nullptr ? account->pw_name : OwnVariable("USER");
  std::string login_shell = account != nullptr ? account->pw_shell : OwnVariable("SHELL");
  place.shell_path = FindProgram("bash");
  if (!place.shell_path.empty()) place.shell = shell::Kind::kBash;
  if (place.shell_path.empty()) place.shell_path = FindProgram("sh");
  std::string path = "/usr/local/bin:/usr/bin:/bin";
  if (getuid() == 0) path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  place.clean_env = {{"HOME", place.home}, {"PATH", path}};
  if (!user.empty()) place.clean_env.emplace_back("USER", user);
  if (!user.empty()) place.clean_env.emplace_back("LOGNAME", user);
  place.clean_env.emplace_back("SHELL", login_shell.empty() ? "/bin/sh" : login_shell);
  AddOwnVariables(place.clean_env);
  place.start_token = BootId() + "." + RandomHex(8);
  return place;
}

}  // namespace hermes::runner
