#include "sync/host_root.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <utility>

#include "daemon/runtime/status.h"
#include "sync/manifest.h"

namespace hermes::sync {
namespace {

constexpr uid_t kFirstPerson = 1000;  // lower ids, but root's, are those of services
constexpr uid_t kNobody = 65534;
constexpr size_t kMaxAncestors = 4096;  // more is a loop of mounts: refused as if fenced

struct Identity {
  dev_t device;
  ino_t inode;
  bool operator==(const Identity&) const = default;
};

std::optional<Identity> IdentityOf(int fd) {
  struct stat seen;
  if (fstat(fd, &seen) != 0) return std::nullopt;
  return Identity{seen.st_dev, seen.st_ino};
}

std::string Resolved(const std::string& path) {
  const std::unique_ptr<char, decltype(&free)> real(realpath(path.c_str(), nullptr), &free);
  return real ? real.get() : "";
}

// The directory itself and all above it. Empty: unknown.
std::vector<Identity> Chain(const std::string& directory) {
  std::vector<Identity> chain;
  Fd at(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  while (at.valid() && chain.size() < kMaxAncestors) {
    const std::optional<Identity> identity = IdentityOf(at.get());
    if (!identity || (!chain.empty() && chain.back() == *identity)) break;
    chain.push_back(*identity);
    at = Fd(openat(at.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  return chain;
}

bool Holds(const std::vector<Identity>& chain, const Identity& identity) {
  return std::find(chain.begin(), chain.end(), identity) != chain.end();
}

// By text and, as bind mounts give one directory several paths, by identity.
bool IsAtOrAbove(const std::string& above, const std::string& below) {
  if (above == "/" || (Related(above, below) && above.size() <= below.size())) return true;
  const std::vector<Identity> chain = Chain(above);
  return !chain.empty() && Holds(Chain(below), chain.front());
}

// "\\040" is a space, as the kernel writes paths.
std::string Unescaped(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escaped = text[i] == '\\' && i + 3 < text.size();
    plain += escaped ? static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 |
                                         (text[i + 3] - '0'))
                     : text[i];
    i += escaped ? 3 : 0;
  }
  return plain;
}

// The device and the path in it, which no bind mount changes; empty: unknown.
std::string OnDisk(const std::string& path) {
  std::ifstream mounts("/proc/self/mountinfo");
  std::string found;
  size_t longest = 0;
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string id, parent, device, root, point;
    if (!(fields >> id >> parent >> device >> root >> point)) continue;
    root = Unescaped(root);
    point = Unescaped(point);
    if (point == "/") point.clear();
    if (root == "/") root.clear();
    const bool holds =
        path.starts_with(point) && (path.size() == point.size() || path[point.size()] == '/');
    if (!holds || point.size() < longest) continue;
    longest = point.size();
    found = "/";
    found.append(device).append(root).append(path.substr(point.size()));
  }
  return found;
}

absl::Status Refuse(const std::string& what) { return BadField("host_root", what); }

absl::Status CheckFence(const std::string& directory, bool whole, const HostFence& fence) {
  std::vector<std::string> closed;
  for (const std::string& own : fence.own) closed.push_back(own);
  for (const std::string& home : fence.homes) {
    const std::string real = Resolved(home);
    if (real.empty() || real == "/") continue;
    if (whole && IsAtOrAbove(directory, real))
      return Refuse(directory + " is a home or lies above one: mount a directory in it");
    closed.push_back(real + "/.ssh");
  }
  for (const std::string& path : closed) {
    std::string real = Resolved(path);
    if (real.empty()) real = path;
    if ((whole && IsAtOrAbove(directory, real)) || IsAtOrAbove(real, directory))
      return Refuse(std::string(directory).append(" reaches ").append(real) +
                    ", which no mount may");
  }
  struct stat seen;
  if (whole && lstat((directory + "/.ssh").c_str(), &seen) == 0)
    return Refuse(directory + " has a .ssh in it");
  return absl::OkStatus();
}

// The resolved path of the mount's end and what is there.
absl::StatusOr<std::string> Resolve(const Mount& mount, struct stat* seen) {
  std::string real = Resolved(mount.host_root);
  if (real.empty() && errno == ENOENT && mount.WritesHost() && mount.kind != MountKind::kFile) {
    if (mkdir(mount.host_root.c_str(), 0700) == 0) real = Resolved(mount.host_root);
  }
  if (real.empty() || stat(real.c_str(), seen) != 0)
    return Refuse(std::string(ErrnoStatus(errno, mount.host_root).message()));
  const bool fits = (S_ISDIR(seen->st_mode) && mount.kind != MountKind::kFile) ||
                    (S_ISREG(seen->st_mode) && mount.kind != MountKind::kDirectory);
  if (!fits) return Refuse(mount.host_root + " is not what a mount of its kind needs");
  if (!mount.beneath.empty()) {
    const std::string above = Resolved(mount.beneath);
    if (above.empty() || real.size() <= above.size() || !Related(above, real))
      return Refuse(mount.host_root + " leads out of " + mount.beneath);
  }
  return real;
}

}  // namespace

std::vector<std::string> HomesOfPeople() {
  std::vector<std::string> homes;
  const std::unique_ptr<FILE, decltype(&fclose)> file(fopen("/etc/passwd", "re"), &fclose);
  if (!file) return homes;
  char buffer[16384];
  struct passwd entry;
  struct passwd* found = nullptr;
  while (fgetpwent_r(file.get(), &entry, buffer, sizeof(buffer), &found) == 0) {
    const bool person =
        entry.pw_uid == 0 || (entry.pw_uid >= kFirstPerson && entry.pw_uid != kNobody);
    if (person && entry.pw_dir[0] == '/') homes.push_back(entry.pw_dir);
  }
  return homes;
}

absl::StatusOr<HostRoot> HostRoot::Open(const Mount& mount, const HostFence& fence) {
  struct stat seen;
  ASSIGN_OR_RETURN(const std::string real, Resolve(mount, &seen));
  HostRoot root;
  root.path_ = real;
  const bool whole = S_ISDIR(seen.st_mode);
  if (!whole) {
    const size_t slash = real.rfind('/');
    ASSIGN_OR_RETURN(root.only_, RelPath::Parse(real.substr(slash + 1)));
    if (!HasPlainName(root.only_->str())) return Refuse("a newline or backslash in a file's name");
    root.path_ = slash == 0 ? "/" : real.substr(0, slash);
  }
  if (whole && real == "/") return Refuse("/ itself is no mount");
  RETURN_IF_ERROR(CheckFence(root.path_, whole, fence));
  const std::string_view there(mount.remote_root);
  if (!whole && root.only_->str() != there.substr(there.rfind('/') + 1))
    return Refuse(real + ": a file keeps its name, and " + mount.remote_root + " ends otherwise");
  root.fd_ = Fd(open(root.path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  const std::optional<Identity> identity = IdentityOf(root.fd_.get());
  if (!identity) return Refuse(std::string(ErrnoStatus(errno, root.path_).message()));
  root.device_ = identity->device;
  root.inode_ = identity->inode;
  root.on_disk_ = OnDisk(root.path_);
  // The fence judged a path: what was opened must be what that path was.
  char name[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(root.fd());
  const ssize_t size = readlink(link.c_str(), name, sizeof(name));
  if (size < 0 || std::string_view(name, static_cast<size_t>(size)) != root.path_)
    return Refuse(root.path_ + " was replaced while it was looked at");
  return root;
}

bool HostRoot::IsWithin(const HostRoot& above) const {
  if (above.only_) return false;
  const bool on_disk = !on_disk_.empty() && !above.on_disk_.empty() &&
                       Related(above.on_disk_, on_disk_) &&
                       above.on_disk_.size() <= on_disk_.size();
  return on_disk || IsAtOrAbove(above.path_, path_);
}

bool Overlap(const HostRoot& one, const HostRoot& other) {
  const bool same = one.device_ == other.device_ && one.inode_ == other.inode_;
  if (one.only_ && other.only_) return same && one.only_ == other.only_;
  return one.IsWithin(other) || other.IsWithin(one);
}

FarPlace PlaceOf(const HostRoot& host, std::string far) {
  bool missing = false;
  while (Resolved(far).empty() && far.size() > 1) {
    missing = true;
    far.resize(std::max<size_t>(far.rfind('/'), 1));
  }
  const bool below = IsAtOrAbove(host.path_, Resolved(far));
  const bool above = !missing && IsAtOrAbove(Resolved(far), host.path_);
  if (below && above) return FarPlace::kSame;
  if (host.only_) return FarPlace::kApart;
  return below ? FarPlace::kBelow : above ? FarPlace::kAbove : FarPlace::kApart;
}

absl::Status HostRoot::CheckSame() const {
  struct stat seen;
  if (stat(path_.c_str(), &seen) == 0 && seen.st_dev == device_ && seen.st_ino == inode_)
    return absl::OkStatus();
  return Error(Reason::k_SYNC_FAILED, path_ + " was moved, removed or replaced");
}

}  // namespace hermes::sync
