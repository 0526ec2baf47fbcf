#include "sync/ignore.h"

#include <utility>

#include "daemon/runtime/status.h"

namespace hermes::sync {
namespace {

constexpr std::string_view kLockFile = ".sync.lock";

// A name as a directory that ignores case may read it (ext4, f2fs): it folds letters, also some
// from outside ASCII into it, and passes over characters that nobody sees, all of them outside. To
// drop the others as well denies too much, which is told and does no harm.
std::string Folded(std::string_view part) {
  constexpr std::pair<std::string_view, std::string_view> kLetters[] = {
      {"\u017f", "s"}, {"\u212a", "k"}, {"\u00df", "ss"}, {"\u1e9e", "ss"}, {"\ufb01", "fi"}};
  std::string folded;
  for (size_t i = 0; i < part.size(); ++i) {
    const char c = part[i];
    for (const auto& [letter, ascii] : kLetters)
      if (part.substr(i).starts_with(letter)) folded += ascii;
    const bool capital = c >= 'A' && c <= 'Z';
    if (static_cast<unsigned char>(c) < 0x80)
      folded += capital ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return folded;
}

}  // namespace

absl::Status IgnoreList::CheckPatterns(const std::vector<std::string>& patterns) {
  if (patterns.size() > kMaxIgnorePatterns)
    return BadField("ignore", "a mount has at most 256 ignore patterns");
  for (const std::string& pattern : patterns) {
    std::string_view rest = pattern;
    while (rest.ends_with('/')) rest.remove_suffix(1);
    if (rest.starts_with('/')) rest.remove_prefix(1);
    if (CheckPath(rest) != PathFault::kNone || pattern.size() > kMaxIgnoreBytes)
      return BadField("ignore", "a pattern is a name, or names with slashes, of at most 256 bytes");
  }
  return absl::OkStatus();
}

const std::vector<std::string>& SecretPatterns() {
  static const auto* const kPatterns = new std::vector<std::string>{
      ".ssh",       ".gnupg",           ".aws",  ".docker", ".env*",   ".npmrc",
      ".netrc",     ".git-credentials", "*.pem", "id_rsa*", "id_dsa*", "id_ecdsa*",
      "id_ed25519*"};
  return *kPatterns;
}

bool NamedLikeSecret(std::string_view name) {
  static const auto* const kNames = new NameFilter(SecretPatterns());
  return !name.starts_with(kOwnPrefix) && kNames->Ignores(name);
}

bool DeniedOnPull(const RelPath& path) {
  bool in_git = false;
  std::string name;
  for (const std::string_view part : path.parts()) {
    name = Folded(part);
    if (name == ".ssh") return true;
    // "commondir" says where git finds the other two.
    if (in_git && (name == "hooks" || name.starts_with("config") || name == "commondir"))
      return true;
    in_git = in_git || name == ".git";
  }
  // A file ".git" says where git finds its hooks.
  return name == ".git" || name == kLockFile;
}

}  // namespace hermes::sync
