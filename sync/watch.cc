#include "sync/watch.h"

#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

namespace hermes::sync {
namespace {

constexpr size_t kBufferBytes = 64 << 10;
constexpr uint32_t kMask = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY |
                           IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR |
                           IN_EXCL_UNLINK;

// f_type of what changes behind this kernel's back, from statfs(2) and the kernel's magic.h.
constexpr uint64_t kSilent[] = {
    0x6969,      // NFS
    0x517b,      // SMB
    0xff534d42,  // CIFS
    0xfe534d42,  // SMB2
    0x01021997,  // 9p
    0x65735546,  // FUSE
    0x794c7630,  // overlay
    0x00c36400,  // Ceph
    0x5346414f,  // AFS
    0x6b414653,  // kAFS
    0x73757245,  // Coda
    0x01161970,  // GFS2
    0x7461636f,  // OCFS2
    0x0bd00bd0,  // Lustre
    0x47504653,  // GPFS
    0x786f4256,  // VirtualBox shared folders
    0xbacbacbc,  // VMware shared folders
};

std::string Join(const std::string& directory, std::string_view name) {
  return directory.empty() ? std::string(name) : directory + "/" + std::string(name);
}

}  // namespace

bool TellsOfChanges(uint64_t type) {
  return std::find(std::begin(kSilent), std::end(kSilent), type) == std::end(kSilent);
}

bool Watch::Start(int root) {
  Stop();
  struct statfs fs;
  if (fstatfs(root, &fs) != 0 || !TellsOfChanges(static_cast<uint32_t>(fs.f_type))) return false;
  notices_ = Fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  buffer_.resize(kBufferBytes);
  return on();
}

void Watch::FollowPath(const std::string& path) {
  for (size_t end = path.rfind('/'); end != 0 && end != path.npos; end = path.rfind('/', end - 1))
    inotify_add_watch(notices_.get(), path.substr(0, end).c_str(),
                      IN_MOVE_SELF | IN_DELETE_SELF | IN_ONLYDIR);
}

void Watch::Stop() {
  notices_.reset();
  filled_ = 0;
  by_path_.clear();
  by_wd_.clear();
}

bool Watch::Add(const std::string& path, int directory) {
  if (by_path_.size() >= max_watches_ && !by_path_.contains(path)) return false;
  // By the descriptor that is then listed: a name could lead to another directory by now.
  const std::string name = "/proc/self/fd/" + std::to_string(directory);
  const int wd = inotify_add_watch(notices_.get(), name.c_str(), kMask);
  if (wd < 0) return false;
  const auto [at, fresh] = by_path_.try_emplace(path, wd);
  if (!fresh && at->second != wd) {
    Remove(path, at->second);
    at->second = wd;
  }
  by_wd_[wd] = path;
  return true;
}

// Only if it still belongs to that name: a directory that moved has taken its watch with it.
void Watch::Remove(const std::string& path, int wd) {
  const auto owner = by_wd_.find(wd);
  if (owner == by_wd_.end() || owner->second != path) return;
  inotify_rm_watch(notices_.get(), wd);
  by_wd_.erase(owner);
}

void Watch::Forget(const std::string& path) {
  const auto itself = by_path_.find(path);
  if (itself != by_path_.end()) {
    Remove(path, itself->second);
    by_path_.erase(itself);
  }
  const std::string below = path.empty() ? "" : path + "/";
  auto at = by_path_.lower_bound(below);
  while (at != by_path_.end() && at->first.starts_with(below)) {
    Remove(at->first, at->second);
    at = by_path_.erase(at);
  }
}

bool Watch::Fill() {
  ssize_t got = 0;
  do {
    got = read(notices_.get(), buffer_.data(), buffer_.size());
  } while (got < 0 && errno == EINTR);
  filled_ = got > 0 ? static_cast<size_t>(got) : 0;
  return filled_ > 0;
}

bool Watch::Quiet() { return filled_ == 0 && !Fill(); }

void Watch::Take(Dirt* dirt) {
  if (Quiet()) return;
  // What is queued now is all that the caller may rely on. Without that bound a busy writer could
  // keep us here.
  int queued = 0;
  ioctl(notices_.get(), FIONREAD, &queued);
  Note(dirt);
  for (auto left = static_cast<ssize_t>(queued); left > 0 && Fill();) {
    left -= static_cast<ssize_t>(filled_);
    Note(dirt);
  }
}

void Watch::Note(Dirt* dirt) {
  for (size_t at = 0; at + sizeof(inotify_event) <= filled_;) {
    inotify_event event;
    memcpy(&event, &buffer_[at], sizeof(event));
    const char* name = buffer_.data() + at + sizeof(event);  // padded with NULs, or absent
    NoteOne(event.wd, event.mask, {name, strnlen(name, event.len)}, dirt);
    at += sizeof(event) + event.len;
  }
  filled_ = 0;
}

void Watch::NoteOne(int wd, uint32_t mask, std::string_view name, Dirt* dirt) {
  if ((mask & IN_Q_OVERFLOW) != 0) dirt->all = true;
  const auto found = by_wd_.find(wd);
  if (found == by_wd_.end()) return;  // of a watch that was given up: looked at since
  const std::string path = found->second;
  if (!name.empty()) {
    if ((mask & (IN_CREATE | IN_DELETE | IN_MOVE)) != 0) dirt->stirred.insert(path);
    ((mask & IN_ISDIR) != 0 ? dirt->directories : dirt->files).insert(Join(path, name));
    return;
  }
  // About the directory itself. Its parent's watch tells where it went, but the root has none.
  if (path.empty()) dirt->all = true;
  if ((mask & (IN_IGNORED | IN_UNMOUNT)) == 0) return;
  by_wd_.erase(found);
  const auto by_path = by_path_.find(path);
  if (by_path != by_path_.end() && by_path->second == wd) by_path_.erase(by_path);
  dirt->directories.insert(path);
}

}  // namespace hermes::sync
