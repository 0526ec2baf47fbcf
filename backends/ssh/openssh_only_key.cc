#include "backends/ssh/openssh_only_key.h"

#include <algorithm>
#include <iterator>

#include "backends/ssh/openssh_command.h"

namespace hermes {
namespace {

// Where a key may come from besides the one that was given.
constexpr std::string_view kKeySources[] = {"identityfile", "pkcs11provider"};
// One word each, which may have blanks.
constexpr std::string_view kPaths[] = {"bindaddress",     "certificatefile",     "identityagent",
                                       "revokedhostkeys", "securitykeyprovider", "xauthlocation"};

// Several words of that kind.
constexpr std::string_view kPathLists[] = {"globalknownhostsfile", "userknownhostsfile"};

template <size_t kSize>
bool IsIn(const std::string_view (&names)[kSize], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

std::string Quoted(std::string_view word) {
  std::string quoted = "\"";
  for (const char c : word) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

std::string Value(std::string_view name, std::string_view value) {
  if (IsIn(kPaths, name)) return Quoted(value);
  return IsIn(kPathLists, name) ? QuotedFiles(value) : std::string(value);
}

}  // namespace

std::optional<std::string> OnlyKeyConfig(const SshSpec& spec, std::string_view output) {
  if (spec.key_file.empty()) return std::nullopt;
  std::string config = "Host " + spec.host + "\n";
  std::string environment;  // ssh takes the first SetEnv only
  int sources = 0;
  while (!output.empty()) {
    const size_t end = std::min(output.find('\n'), output.size());
    const std::string_view line = output.substr(0, end);
    output.remove_prefix(std::min(end + 1, output.size()));
    const size_t blank = std::min(line.find(' '), line.size());
    const std::string_view name = line.substr(0, blank);
    const std::string_view value = line.substr(std::min(blank + 1, line.size()));
    if (IsIn(kKeySources, name)) {
      sources += value == "none" ? 0 : 1;
    } else if (name == "setenv") {
      environment += " " + Quoted(value);
    } else if (name != "host" && !name.empty()) {
      config += std::string(name) + " " + Value(name, value) + "\n";
    }
  }
  if (sources <= 1) return std::nullopt;
  if (!environment.empty()) config += "setenv" + environment + "\n";
  return config;
}

}  // namespace hermes
