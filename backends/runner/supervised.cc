#include "backends/runner/supervised.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "backends/runner/supervisor.h"

namespace hermes::runner {

bool Supervisors::Reap() {
  bool died = false;
  for (;;) {
    pid_t pid = waitpid(-1, nullptr, WNOHANG);
    if (pid < 0 && errno == EINTR) continue;
    if (pid <= 0) return died;
    auto found = table_.find(pid);
    if (found == table_.end()) continue;
    Supervised* supervised = found->second;
    table_.erase(found);
    died |= supervised->OnReaped();
  }
}

std::vector<pid_t> Supervisors::Pids() const {
  std::vector<pid_t> pids;
  for (const auto& [pid, supervised] : table_) pids.push_back(pid);
  return pids;
}

Supervised::~Supervised() {
  if (pid_ != 0) table_.table_.erase(pid_);
}

bool Supervised::Start(const Launch& launch) {
  Fd ours, theirs;
  if (!MakeSocketPair(SOCK_SEQPACKET, &ours, &theirs)) return false;
  pid_t runner = getpid();
  pid_t pid = Fork();
  if (pid < 0) return false;
  if (pid == 0) Supervise(launch, theirs.get(), runner);
  pid_ = pid;
  table_.table_[pid] = this;
  socket_.Open(std::move(ours), EPOLLIN);
  return true;
}

void Supervised::Send(const Order& order) {
  if (alive()) send(socket_.fd(), &order, sizeof order, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Supervised::OnReady(Source&, uint32_t) { ReadNotices(); }

void Supervised::ReadNotices() {
  while (socket_.open() && !finished_) {
    Notice notice;
    ssize_t n = recv(socket_.fd(), &notice, sizeof notice, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    // Told once, and before what it had said: it ended and left an order of ours unread.
    if (n < 0 && errno == ECONNRESET) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n != sizeof notice) return socket_.Close();  // what became of it is told by waitpid
    finished_ = notice.kind == Notice::kFailed || notice.kind == Notice::kEmpty;
    owner_->OnNotice(notice);  // must not destroy this
  }
}

bool Supervised::OnReaped() {
  ReadNotices();
  pid_ = 0;
  socket_.Close();
  if (finished_) return false;
  finished_ = true;
  owner_->OnSupervisorDied();
  return true;
}

}  // namespace hermes::runner
