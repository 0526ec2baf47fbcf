#include "backends/runner/place.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "backends/runner/sys.h"

#ifndef HERMES_BUILD_ID
#define HERMES_BUILD_ID "unknown"
#endif

extern char** environ;

namespace hermes::runner {
namespace {

constexpr size_t kMaxPasswdBytes = 4 << 20;

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

struct Account {
  std::string user;
  std::string home = "/";
  std::string shell;
};

// Our line of /etc/passwd. An account that only a name service knows has its HOME and USER in the
// environment that started us.
Account OwnAccount() {
  std::string text = ReadSmallFile("/etc/passwd", kMaxPasswdBytes).value_or("");
  std::string uid = Decimal(getuid());
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    std::string_view fields[7];  // name, password, uid, gid, comment, home, shell
    for (std::string_view& field : fields) {
      size_t colon = std::min(line.find(':'), line.size());
      field = line.substr(0, colon);
      line.remove_prefix(std::min(colon + 1, line.size()));
    }
    if (fields[2] != uid) continue;
    Account account;
    account.user = fields[0];
    if (!fields[5].empty()) account.home = fields[5];
    account.shell = fields[6];
    return account;
  }
  return {};
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

std::string OwnHome() {
  std::string home = OwnVariable("HOME");
  return home.empty() ? OwnAccount().home : home;
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
  Account account = OwnAccount();
  place.home = OwnVariable("HOME");
  if (place.home.empty()) place.home = account.home;
  std::string user = account.user.empty() ? OwnVariable("USER") : account.user;
  std::string login_shell = account.shell.empty() ? OwnVariable("SHELL") : account.shell;
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
