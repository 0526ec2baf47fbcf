#pragma once

// One running `ssh -M -N`: started, logged in, watched, ended. Kept alive by its connection and its
// streams; the process ends when the connection is dropped, or with hermesd. Loop thread.

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include <asio/posix/stream_descriptor.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/ssh/mux_socket.h"
#include "backends/ssh/mux_stream.h"
#include "backends/ssh/openssh_command.h"
#include "backends/ssh/openssh_failure.h"
#include "backends/ssh/openssh_words.h"
#include "daemon/runtime/child.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"

namespace hermes {

class OpenSshMaster : public MuxMaster, public std::enable_shared_from_this<OpenSshMaster> {
 public:
  struct Plan {
    SshCommand command;
    SshResolved resolved;
    std::string control_path;
    WishPtr wish;  // withdrawn: the login ends
  };
  // Returns when programs can be run, or with what stood against it; then no process is left.
  static Task<absl::StatusOr<std::shared_ptr<OpenSshMaster>>> Login(Loop& loop, Clock& clock,
                                                                    Plan plan, SshTries* tries);

  OpenSshMaster(Loop& loop, Clock& clock, Plan plan);

  Task<absl::Status> Check() override;
  bool alive() const { return logged_in_ && !leaving_ && !quiet_ && !ended_; }
  absl::Status why() const;
  bool one_at_a_time() const;
  const std::string& control_path() const { return plan_.control_path; }
  pid_t pid() const { return child_->pid(); }

  // Ends ssh in the background. Idempotent.
  void Leave();

 private:
  using Self = std::shared_ptr<OpenSshMaster>;
  absl::Status Start();
  void Changed() { changed_.NotifyAll(); }
  bool SocketThere() const;
  SshFailure Failure() const;
  // These keep the master alive until they return.
  static Task<void> AwaitEnd(Self self);
  static Task<void> WatchFolder(Self self);
  static Task<void> ListenToProbe(Self self);
  static Task<void> EndInBackground(Self self);
  static Task<void> AwaitSocket(Self self);
  static Task<absl::Status> OpenProbe(Self self);
  static Task<void> AwaitAnswer(Self self, uint32_t id);
  static Task<absl::Status> CheckNow(Self self);
  static Task<void> AwaitLastWords(Self self);
  static Task<void> AwaitChild(Self self);
  static Task<void> AwaitWords(Self self);

  Loop& loop_;
  Clock& clock_;
  Plan plan_;
  std::unique_ptr<Child> child_;
  Fd stdin_;  // its end is ours, too: see ChildSpec::signal_at_our_end
  std::shared_ptr<Words> out_;
  std::shared_ptr<Words> err_;
  asio::posix::stream_descriptor folder_;  // inotify, if there is one; only during the login
  std::shared_ptr<MuxSocket> probe_;       // asked whether ssh is at work
  uint32_t asked_ = 0;
  uint32_t answered_ = 0;
  bool logged_in_ = false;
  bool too_slow_ = false;
  bool leaving_ = false;
  bool quiet_ = false;  // the probe has ended
  bool ended_ = false;  // the process
  Event changed_;
};

}  // namespace hermes
