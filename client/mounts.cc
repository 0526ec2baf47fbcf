#include "client/mounts.h"

#include <pwd.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <vector>

namespace hermes::client {
namespace {

template <typename T>
struct Word {
  std::string_view text;
  T value;
};
constexpr std::array<Word<v1::Mount::Policy>, 3> kPolicies = {
    {{"push", v1::Mount::PUSH}, {"pull", v1::Mount::PULL}, {"two-way", v1::Mount::TWO_WAY}}};
constexpr std::array<Word<v1::Mount::Conflict>, 4> kConflicts = {
    {{"remote", v1::Mount::REMOTE_WINS},
     {"host", v1::Mount::HOST_WINS},
     {"both", v1::Mount::KEEP_BOTH},
     {"abort", v1::Mount::ABORT}}};
constexpr std::array<Word<v1::Mount::Deletes>, 3> kDeletes = {
    {{"guarded", v1::Mount::GUARDED}, {"never", v1::Mount::NEVER}, {"report", v1::Mount::REPORT}}};

// The word of a value; a newer daemon may know more values than we do.
template <typename Table>
std::string TextOf(const Table& table, decltype(table[0].value) value) {
  for (const auto& word : table) {
    if (word.value == value) return std::string(word.text);
  }
  return "?";
}

template <typename Table, typename T>
bool Read(const Table& table, std::string_view text, T* value) {
  for (const auto& word : table) {
    if (word.text != text) continue;
    *value = word.value;
    return true;
  }
  return false;
}

absl::Status BadMount(std::string_view text, const std::string& why) {
  return absl::InvalidArgumentError(
      "--mount '" + std::string(text) + "': " + why +
      "; the form is HOST:REMOTE[:push|pull|two-way[,conflict=remote|host|both|abort]"
      "[,deletes=guarded|never|report][,secrets=include]], with \\: for a colon within a path");
}

// At each colon that no backslash protects.
std::vector<std::string> SplitAtColons(std::string_view text) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (text[i] == '\\' && (next == ':' || next == '\\')) {
      parts.back() += next;
      ++i;
    } else if (text[i] == ':') {
      parts.emplace_back();
    } else {
      parts.back() += text[i];
    }
  }
  return parts;
}

std::string Protected(std::string_view path) {
  std::string out;
  for (const char c : path) {
    if (c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::vector<std::string_view> SplitAtCommas(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t comma = text.find(','); comma != text.npos; comma = text.find(',')) {
    words.push_back(text.substr(0, comma));
    text.remove_prefix(comma + 1);
  }
  words.push_back(text);
  return words;
}

// "conflict=host": false when it is not understood.
bool ReadRule(std::string_view word, v1::Mount* mount) {
  const size_t equals = word.find('=');
  if (equals == word.npos) return false;
  const std::string_view key = word.substr(0, equals);
  const std::string_view value = word.substr(equals + 1);
  v1::Mount::Conflict conflict{};
  v1::Mount::Deletes deletes{};
  if (key == "conflict" && Read(kConflicts, value, &conflict)) {
    mount->set_conflict(conflict);
    return true;
  }
  if (key == "deletes" && Read(kDeletes, value, &deletes)) {
    mount->set_deletes(deletes);
    return true;
  }
  if (key != "secrets" || value != "include") return false;
  mount->set_include_secrets(true);
  return true;
}

// The first word that is not understood.
std::optional<std::string_view> ReadRules(std::string_view text, v1::Mount* mount) {
  const std::vector<std::string_view> words = SplitAtCommas(text);
  v1::Mount::Policy policy{};
  if (!Read(kPolicies, words[0], &policy)) return words[0];
  mount->set_policy(policy);
  for (size_t i = 1; i < words.size(); ++i) {
    if (!ReadRule(words[i], mount)) return words[i];
  }
  return std::nullopt;
}

}  // namespace

Whereabouts CallersWhereabouts() {
  Whereabouts at;
  char cwd[PATH_MAX];
  if (getcwd(cwd, sizeof cwd) != nullptr) at.cwd = cwd;
  const char* home = getenv("HOME");
  const passwd* account = home == nullptr ? getpwuid(geteuid()) : nullptr;
  if (account != nullptr) home = account->pw_dir;
  if (home != nullptr && *home == '/') at.home = home;
  return at;
}

absl::StatusOr<std::string> AbsolutePath(std::string_view path, const Whereabouts& at) {
  const auto bad = [&](const std::string& why) {
    return absl::InvalidArgumentError("'" + std::string(path) + "' " + why);
  };
  if (path.empty()) return bad("is empty");
  if (path.starts_with('/')) return std::string(path);
  if (path.starts_with("~/")) {
    if (at.home.empty()) return bad("begins with ~/, and HOME does not say where that is");
    return at.home + std::string(path.substr(1));
  }
  if (path.starts_with('~')) return bad("begins with ~, of which only ~/ is understood");
  if (at.cwd.empty()) return bad("is relative, and the current directory is not known");
  const std::filesystem::path whole = std::filesystem::path(at.cwd) / std::string(path);
  std::string normal = whole.lexically_normal().string();
  while (normal.size() > 1 && normal.ends_with('/')) normal.pop_back();
  return normal;
}

absl::StatusOr<v1::Mount> ParseMount(std::string_view text, const Whereabouts& at) {
  const std::vector<std::string> parts = SplitAtColons(text);
  if (parts.size() < 2) return BadMount(text, "a colon separates HOST and REMOTE");
  if (parts.size() > 3) return BadMount(text, "there are too many colons");
  v1::Mount mount;
  const absl::StatusOr<std::string> host = AbsolutePath(parts[0], at);
  if (!host.ok()) {
    const auto why = host.status().message();
    return BadMount(text, "HOST " + std::string(why.data(), why.size()));
  }
  mount.set_host_root(*host);
  if (!parts[1].starts_with('/') && !parts[1].starts_with("~/")) {
    return BadMount(text, "REMOTE must begin with / or ~/");
  }
  mount.set_remote_root(parts[1]);
  // Far more likely a forgotten policy than the name of a directory.
  v1::Mount unused;
  if (parts.size() == 2 && ReadRule(SplitAtCommas(parts[1]).back(), &unused))
    return BadMount(text, "what follows a comma belongs behind a policy");
  if (parts.size() == 3) {
    const std::optional<std::string_view> word = ReadRules(parts[2], &mount);
    if (word) return BadMount(text, "'" + std::string(*word) + "' is not understood");
  }
  return mount;
}

std::string FormatMount(const v1::Mount& mount) {
  return Protected(mount.host_root()) + ":" + Protected(mount.remote_root()) + ":" +
         TextOf(kPolicies, mount.policy()) + ",conflict=" + TextOf(kConflicts, mount.conflict()) +
         ",deletes=" + TextOf(kDeletes, mount.deletes()) +
         (mount.include_secrets() ? ",secrets=include" : "");
}

}  // namespace hermes::client
