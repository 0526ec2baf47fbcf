#include "sync/mount.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "daemon/runtime/status.h"
#include "sync/ignore.h"
#include "sync/manifest.h"

namespace hermes::sync {
namespace {

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

bool Holds(const std::vector<std::string>& patterns, const std::string& pattern) {
  return std::find(patterns.begin(), patterns.end(), pattern) != patterns.end();
}

std::string Nth(size_t index) { return "mounts[" + std::to_string(index) + "]"; }

// About the second one; no paths in the text, they may hold any bytes.
absl::Status CheckPair(const Mount& a, const Mount& b, const std::string& first) {
  if (Related(a.remote_root, b.remote_root))
    return BadField("remote_root", "overlaps with that of " + first);
  if ((a.WritesHost() || b.WritesHost()) && Related(a.host_root, b.host_root))
    return BadField("host_root",
                    "overlaps with that of " + first + ", and one of them is written by a pull");
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
  if (mount.secrets || mount.kind == MountKind::kFile) return mount;
  for (const std::string& pattern : SecretPatterns()) {
    if (!Holds(mount.ignore, pattern)) mount.ignore.push_back(pattern);
  }
  return mount;
}

absl::Status CheckFarApart(const std::vector<Mount>& mounts, std::string_view home) {
  if (!home.starts_with('/')) return absl::OkStatus();
  while (home.ends_with('/')) home.remove_suffix(1);
  std::vector<std::string> roots;
  for (size_t i = 0; i < mounts.size(); ++i) {
    const std::string& root = mounts[i].remote_root;
    roots.push_back(root.starts_with("~/") ? std::string(home) + root.substr(1) : root);
    for (size_t j = 0; j < i; ++j) {
      if (!Related(roots[i], roots[j])) continue;
      const std::string& id = mounts[i].id;
      return Error(Reason::k_BAD_FIELD,
                   "mount '" + id + "': in the sandbox it overlaps with mount '" + mounts[j].id +
                       "', as the home there lies",
                   {{"field", Nth(i) + ".remote_root"}, {"mount", id}});
    }
  }
  return absl::OkStatus();
}

bool WithholdsSecrets(const Mount& mount) {
  const std::vector<std::string>& secrets = SecretPatterns();
  return std::all_of(secrets.begin(), secrets.end(),
                     [&mount](const std::string& pattern) { return Holds(mount.ignore, pattern); });
}

absl::StatusOr<std::vector<Mount>> ExpandProfile(const HermesProfile& profile) {
  const std::optional<std::string> home = NormalAbsolute(profile.home);
  if (!home.has_value())
    return BadField("home", "an absolute path below /, without empty, \".\" or \"..\" parts");
  const std::optional<std::string> remote_home = NormalRemote(profile.remote_home);
  if (!remote_home.has_value())
    return BadField("remote_home", "a path below / or ~/, without empty, \".\" or \"..\" parts");
  const auto mount_of = [&](const std::string& name, Policy policy) {
    Mount mount;
    mount.host_root = *home + "/" + name;
    mount.remote_root = *remote_home + "/" + name;
    mount.policy = policy;
    mount.secrets = profile.secrets && policy != Policy::kPush;  // those are named each
    return mount;
  };
  std::vector<Mount> mounts = {mount_of("skills", Policy::kTwoWay),
                               mount_of("cache", Policy::kTwoWay)};
  for (size_t i = 0; i < profile.credentials.size(); ++i) {
    const std::string& name = profile.credentials[i];
    if (const auto path = RelPath::Parse(name); !path.ok())
      return InField("credentials[" + std::to_string(i) + "]", path.status());
    Mount mount = mount_of(name, Policy::kPush);
    mount.kind = MountKind::kFile;
    mount.beneath = *home;
    mounts.push_back(std::move(mount));
  }
  for (Mount& mount : mounts) {
    ASSIGN_OR_RETURN(mount, CheckedMount(std::move(mount)));
  }
  return mounts;
}

absl::StatusOr<MountTable> MountTable::Make(std::vector<Mount> mounts) {
  if (mounts.size() > kMaxMounts) return BadField("mounts", "a session has at most 64 mounts");
  std::set<std::string> ids;
  for (size_t i = 0; i < mounts.size(); ++i) {
    Mount& mount = mounts[i];
    absl::StatusOr<Mount> checked = CheckedMount(std::move(mount));
    if (!checked.ok()) return InField(Nth(i), checked.status());
    mount = *std::move(checked);
    if (!mount.id.empty() && !ids.insert(mount.id).second)
      return BadField(Nth(i) + ".id", "is the id of another mount, too");
  }
  for (Mount& mount : mounts) {
    if (mount.id.empty()) mount.id = FreshId(mount, ids);
    ids.insert(mount.id);
  }
  for (size_t i = 0; i < mounts.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (absl::Status status = CheckPair(mounts[j], mounts[i], Nth(j)); !status.ok())
        return InField(Nth(i), status);
    }
  }
  MountTable table;
  table.mounts_ = std::move(mounts);
  return table;
}

}  // namespace hermes::sync
