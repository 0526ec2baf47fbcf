#include "sync/mount.h"

#include <array>
#include <set>
#include <utility>

#include "daemon/runtime/status.h"
#include "sync/ignore.h"
#include "sync/manifest.h"

namespace hermes::sync {
namespace {

template <typename T>
struct Word {
  std::string_view text;
  T value;
};
constexpr std::array<Word<Policy>, 3> kPolicies = {
    {{"push", Policy::kPush}, {"pull", Policy::kPull}, {"two-way", Policy::kTwoWay}}};
constexpr std::array<Word<ConflictPolicy>, 4> kConflicts = {{{"remote", ConflictPolicy::kRemote},
                                                             {"host", ConflictPolicy::kHost},
                                                             {"both", ConflictPolicy::kBoth},
                                                             {"abort", ConflictPolicy::kAbort}}};
constexpr std::array<Word<DeletePolicy>, 3> kDeletes = {{{"guarded", DeletePolicy::kGuarded},
                                                         {"never", DeletePolicy::kNever},
                                                         {"report", DeletePolicy::kReport}}};

template <typename Table>
std::string_view TextOf(const Table& table, decltype(table[0].value) value) {
  for (const auto& word : table) {
    if (word.value == value) return word.text;
  }
  return "";
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

// "/a/b/" -> "/a/b". nullopt: not absolute, the root itself, or with an odd part.
std::optional<std::string> NormalAbsolute(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  if (!path.starts_with('/') || CheckPath(path.substr(1)) != PathFault::kNone) return std::nullopt;
  return std::string(path);
}

std::optional<std::string> NormalRemote(std::string_view path) {
  if (!path.starts_with("~/")) return NormalAbsolute(path);
  std::optional<std::string> below_home = NormalAbsolute(path.substr(1));
  if (!below_home.has_value()) return std::nullopt;
  return "~" + *below_home;
}

std::string_view Leaf(std::string_view path) { return path.substr(path.rfind('/') + 1); }

absl::Status CheckRules(const Mount& mount) {
  if (mount.conflict == ConflictPolicy::kBoth && !mount.WritesHost())
    return BadField("conflict", "both: a push mount never writes to the host");
  if (mount.links == LinkPolicy::kFollowHost && mount.WritesHost())
    return BadField("links", "links are followed out of the root by push mounts only");
  if (mount.max_files == 0 || mount.max_bytes == 0 || mount.max_file_bytes == 0)
    return BadField("max_files", "the limits of a mount are at least 1");
  if (mount.kind == MountKind::kFile && Leaf(mount.host_root) != Leaf(mount.remote_root))
    return BadField("remote_root", "a file keeps its name: both paths end with the same part");
  return IgnoreList::CheckPatterns(mount.ignore);
}

absl::Status ReadRules(std::string_view text, Mount* mount) {
  bool first = true;
  for (bool last = false; !last; first = false) {
    const size_t comma = text.find(',');
    last = comma == text.npos;
    const std::string_view word = text.substr(0, comma);
    if (!last) text.remove_prefix(comma + 1);
    const size_t equals = word.find('=');
    const std::string_view key = word.substr(0, equals);
    const std::string_view value = equals == word.npos ? "" : word.substr(equals + 1);
    bool known = false;
    if (first) {
      known = Read(kPolicies, word, &mount->policy);
    } else if (key == "conflict") {
      known = Read(kConflicts, value, &mount->conflict);
    } else if (key == "deletes") {
      known = Read(kDeletes, value, &mount->deletes);
    }
    if (!known)
      return BadField("mount", "'" + std::string(word) +
                                   "' is not understood: the form is HOST:REMOTE"
                                   "[:push|pull|two-way[,conflict=remote|host|both|abort]"
                                   "[,deletes=guarded|never|report]]");
  }
  return absl::OkStatus();
}

Mount ProfileMount(const HermesProfile& profile, const std::string& name, Policy policy) {
  Mount mount;
  mount.host_root = profile.home + "/" + name;
  mount.remote_root = profile.remote_home + "/" + name;
  mount.policy = policy;
  return mount;
}

// A fit id made of the last part of the remote root, and not yet in `taken`.
std::string FreshId(const Mount& mount, const std::set<std::string>& taken) {
  constexpr size_t kMaxStem = 48;
  std::string stem;
  for (const char c : Leaf(mount.remote_root).substr(0, kMaxStem)) {
    const char low = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    const bool word = (low >= 'a' && low <= 'z') || (low >= '0' && low <= '9');
    if (word || (!stem.empty() && stem.back() != '-')) stem.push_back(word ? low : '-');
  }
  while (stem.ends_with('-')) stem.pop_back();
  if (stem.empty()) stem = "mount";
  std::string id = stem;
  for (int number = 2; taken.contains(id); ++number) id = stem + "-" + std::to_string(number);
  return id;
}

absl::Status CheckPair(const Mount& a, const Mount& b) {
  if (Related(a.remote_root, b.remote_root))
    return BadField("remote_root", a.remote_root + " and " + b.remote_root + " overlap");
  if ((a.WritesHost() || b.WritesHost()) && Related(a.host_root, b.host_root))
    return BadField("host_root", a.host_root + " and " + b.host_root +
                                     " overlap, and one of them is written by a pull");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Mount> CheckedMount(Mount mount) {
  const std::optional<std::string> host = NormalAbsolute(mount.host_root);
  if (!host.has_value())
    return BadField("host_root", "an absolute path below /, without empty, \".\" or \"..\" parts");
  const std::optional<std::string> remote = NormalRemote(mount.remote_root);
  if (!remote.has_value())
    return BadField(
        "remote_root",
        "a path below / or ~/, without empty, \".\" or \"..\" parts; not a home itself");
  mount.host_root = *host;
  mount.remote_root = *remote;
  RETURN_IF_ERROR(CheckRules(mount));
  return mount;
}

absl::StatusOr<Mount> ParseMount(std::string_view text, std::string_view host_home) {
  const size_t first = text.find(':');
  if (first == text.npos) return BadField("mount", "HOST:REMOTE, with a colon between");
  const size_t second = text.find(':', first + 1);
  Mount mount;
  mount.host_root = text.substr(0, first);
  if (mount.host_root.starts_with("~/") && !host_home.empty())
    mount.host_root = std::string(host_home) + mount.host_root.substr(1);
  mount.remote_root = text.substr(first + 1, second == text.npos ? second : second - first - 1);
  if (second != text.npos) RETURN_IF_ERROR(ReadRules(text.substr(second + 1), &mount));
  return CheckedMount(std::move(mount));
}

std::string FormatMount(const Mount& mount) {
  std::string text = mount.host_root + ":" + mount.remote_root + ":";
  text.append(TextOf(kPolicies, mount.policy));
  text.append(",conflict=").append(TextOf(kConflicts, mount.conflict));
  return text.append(",deletes=").append(TextOf(kDeletes, mount.deletes));
}

absl::StatusOr<std::vector<Mount>> ExpandProfile(const HermesProfile& profile) {
  std::vector<Mount> mounts = {ProfileMount(profile, "skills", Policy::kTwoWay),
                               ProfileMount(profile, "cache", Policy::kTwoWay)};
  for (const std::string& name : profile.credentials) {
    RETURN_IF_ERROR(RelPath::Parse(name).status());
    Mount mount = ProfileMount(profile, name, Policy::kPush);
    mount.kind = MountKind::kFile;
    mount.beneath = profile.home;
    mounts.push_back(std::move(mount));
  }
  for (Mount& mount : mounts) {
    ASSIGN_OR_RETURN(mount, CheckedMount(std::move(mount)));
  }
  return mounts;
}

absl::StatusOr<MountTable> MountTable::Make(std::vector<Mount> mounts,
                                            std::string_view remote_home) {
  if (mounts.size() > kMaxMounts) return BadField("mounts", "a session has at most 64 mounts");
  std::set<std::string> ids;
  for (Mount& mount : mounts) {
    ASSIGN_OR_RETURN(mount, CheckedMount(std::move(mount)));
    if (!remote_home.empty() && mount.remote_root.starts_with("~/"))
      mount.remote_root = std::string(remote_home) + mount.remote_root.substr(1);
    if (!mount.id.empty() && !ids.insert(mount.id).second)
      return BadField("id", "two mounts are named " + mount.id);
  }
  for (Mount& mount : mounts) {
    if (mount.id.empty()) mount.id = FreshId(mount, ids);
    ids.insert(mount.id);
  }
  for (size_t i = 0; i < mounts.size(); ++i) {
    for (size_t j = 0; j < i; ++j) RETURN_IF_ERROR(CheckPair(mounts[j], mounts[i]));
  }
  MountTable table;
  table.mounts_ = std::move(mounts);
  return table;
}

std::optional<MountTable::Place> MountTable::Find(std::string_view remote_path) const {
  for (const Mount& mount : mounts_) {
    const std::string& root = mount.remote_root;
    if (!remote_path.starts_with(root)) continue;
    const bool itself = remote_path.size() == root.size();
    if (mount.kind == MountKind::kFile) {
      if (itself) return Place{&mount, *RelPath::Parse(Leaf(root))};
      continue;
    }
    if (itself || remote_path[root.size()] != '/') continue;
    const absl::StatusOr<RelPath> path = RelPath::Parse(remote_path.substr(root.size() + 1));
    if (path.ok()) return Place{&mount, *path};
  }
  return std::nullopt;
}

}  // namespace hermes::sync
