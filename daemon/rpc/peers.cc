#include "daemon/rpc/peers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr std::string_view kPeerPrefix = "fd:";
constexpr int kRenumberTries = 4096;

// 0: no socket (any more).
uint64_t SocketInode(int fd) {
  struct stat info = {};
  if (fstat(fd, &info) != 0 || !S_ISSOCK(info.st_mode)) return 0;
  return info.st_ino;
}

Peers::Limits WithinProcess(Peers::Limits limits) {
  rlimit files = {};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY) return limits;
  const int end = static_cast<int>(std::min<rlim_t>(files.rlim_cur, 1 << 30));
  if (end >= limits.end_fd) return limits;
  limits.end_fd = end;
  limits.first_fd = std::min(limits.first_fd, end / 2);
  return limits;
}

}  // namespace

Role AccessRules::RoleOf(uint32_t uid) const {
  const auto has = [uid](const std::vector<uint32_t>& uids) {
    return std::find(uids.begin(), uids.end(), uid) != uids.end();
  };
  if (uid == own_uid || uid == 0 || has(full)) return Role::kFull;
  return has(operate) ? Role::kOperate : Role::kNone;
}

Peers::Peers(AccessRules access, Limits limits)
    : access_(std::move(access)), limits_(WithinProcess(limits)), next_fd_(limits_.first_fd) {}

absl::StatusOr<Fd> Peers::Admit(Fd connection) {
  ucred credentials = {};
  socklen_t size = sizeof(credentials);
  if (getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return ErrnoStatus(errno, "SO_PEERCRED");
  }
  const Entry entry{.caller = {credentials.uid, access_.RoleOf(credentials.uid)},
                    .inode = SocketInode(connection.get())};
  MutexLock lock(mutex_);
  if (!CheckCaps(entry.caller).ok()) SweepLocked();
  RETURN_IF_ERROR(CheckCaps(entry.caller));
  ASSIGN_OR_RETURN(Fd numbered, Renumber(connection));
  entries_[numbered.get()] = entry;
  return numbered;
}

absl::Status Peers::CheckCaps(const Caller& caller) {
  const size_t of_uid = static_cast<size_t>(std::count_if(
      entries_.begin(), entries_.end(),
      [&caller](const auto& entry) { return entry.second.caller.uid == caller.uid; }));
  const size_t per_uid = caller.role == Role::kNone
                             ? std::min(limits_.per_uid, kMaxConnectionsWithoutRights)
                             : limits_.per_uid;
  if (entries_.size() < limits_.connections && of_uid < per_uid) return absl::OkStatus();
  return absl::ResourceExhaustedError("too many connections; uid " + std::to_string(caller.uid) +
                                      " has " + std::to_string(of_uid));
}

absl::StatusOr<Fd> Peers::Renumber(const Fd& connection) {
  for (int tries = 0; tries < kRenumberTries; ++tries) {
    if (next_fd_ >= limits_.end_fd) next_fd_ = limits_.first_fd;
    const auto known = entries_.find(next_fd_);
    if (known != entries_.end() && SocketInode(next_fd_) == known->second.inode) {
      ++next_fd_;
      continue;
    }
    Fd numbered(fcntl(connection.get(), F_DUPFD_CLOEXEC, next_fd_));
    if (!numbered.valid()) return ErrnoStatus(errno, "F_DUPFD_CLOEXEC");
    const bool wanted = numbered.get() == next_fd_;
    next_fd_ =
        wanted ? next_fd_ + 1 : numbered.get();  // else: somebody else's descriptor was there
    if (wanted) return numbered;
  }
  return absl::ResourceExhaustedError("no descriptor number is free for a connection");
}

std::optional<Caller> Peers::Find(std::string_view peer) const {
  if (!peer.starts_with(kPeerPrefix)) return std::nullopt;
  peer.remove_prefix(kPeerPrefix.size());
  int fd = -1;
  const auto parsed = std::from_chars(peer.data(), peer.data() + peer.size(), fd);
  if (parsed.ec != std::errc() || parsed.ptr != peer.data() + peer.size()) return std::nullopt;
  MutexLock lock(mutex_);
  const auto found = entries_.find(fd);
  if (found == entries_.end()) return std::nullopt;
  return found->second.caller;
}

size_t Peers::Sweep() {
  MutexLock lock(mutex_);
  SweepLocked();
  return entries_.size();
}

void Peers::SweepLocked() {
  std::erase_if(entries_,
                [](const auto& entry) { return SocketInode(entry.first) != entry.second.inode; });
}

}  // namespace hermes
