#pragma once

// The runner itself: takes frames from the daemon's link and moves the sessions and commands.
// Everything happens on the loop; what a batch of events produced is written at its end, and
// records that are no longer wanted are dropped there, never inside a callback but that of RETIRE.

#include <stdint.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backends/engine/frames.h"
#include "backends/runner/closer.h"
#include "backends/runner/command.h"
#include "backends/runner/idle.h"
#include "backends/runner/ladder.h"
#include "backends/runner/link.h"
#include "backends/runner/listener.h"
#include "backends/runner/login.h"
#include "backends/runner/place.h"
#include "backends/runner/run_ids.h"
#include "backends/runner/session.h"
#include "backends/runner/supervised.h"
#include "backends/runner/warm.h"

namespace hermes::runner {

class Runner : Listener::Owner,
               Link::Owner,
               Command::Host,
               Closer::Owner,
               Login::Waiter,
               Loop::BatchEnd,
               Source::Handler,
               Timer::Handler {
 public:
  Runner(Place place, int64_t idle_us);  // idle_us: see IdleWatch
  ~Runner();

  bool Bind() { return listener_.Bind(); }
  void Adopt(Fd listening) { listener_.Adopt(std::move(listening)); }
  void Run();  // returns when nothing needs the runner any more

 private:
  struct PendingOpen {
    uint32_t tag;
    uint64_t link_epoch;
    frames::Open open;
  };

  // runner.cc: links, children, the end
  void OnPeer(Fd socket) override;
  void OnLinkClosed(Link& link) override;
  void OnReady(Source& source, uint32_t events) override;  // SIGCHLD
  void OnTimer(Timer& timer) override;
  void OnBatchEnd() override;
  void OnOrphans(Command& command) override;
  void StepSweep();
  void StartFollowers();
  void DropForgotten();
  void CheckIdle();

  // dispatch.cc: every frame
  void OnFrame(Link& link, const frames::Frame& frame) override;
  void OnFirstFrame(Link& link, const frames::Frame& frame);
  void Greet(Link& link, frames::Reader payload);
  bool OnCommandFrame(Command& command, const frames::Frame& frame);
  bool OnSessionFrame(Link& link, const frames::Frame& frame);
  bool OnForgetRun(frames::Reader payload);
  void Forget(Command& command);
  void SendList(Link& link);
  void OnRetire(Link& link);
  void AnswerAskpass(Link& link);
  void Refuse(Link& link, uint32_t tag, std::string_view reason, std::string_view message);

  // sessions.cc: OPEN, CLOSE, START, LEASE
  bool OnOpen(Link& link, const frames::Frame& frame);
  bool OnClose(Link& link, uint32_t tag, frames::Reader payload);
  bool OnLease(frames::Reader payload);
  bool OnSecret(frames::Reader payload);
  bool OnStart(Link& link, const frames::Frame& frame);
  void AttachAgain(Command& command, uint32_t number);
  void Reopen(Link& link, uint32_t tag, const frames::Open& open, Session& session);
  void OnLogin() override;
  void CreateSession(const PendingOpen& pending, const shell::State& login);
  void SendOpened(Link& link, uint32_t tag, Session& session, bool recovered);
  void CheckLeases();
  void OnKilled(Command& command, const frames::TreeReport& report) override;
  void OnEnded(Command& command) override { warm_.Want(command.session().id); }
  void OnDrained(Command& command) override;
  void OnClosed(const std::string& session, uint32_t tag, uint64_t link_epoch,
                const frames::TreeReport& report) override;

  Command* FindCommand(uint32_t number);
  Command* FindRun(std::string_view run_id);
  Link* LinkOfEpoch(uint64_t epoch) { return epoch == link_epoch_ ? link_ : nullptr; }

  Place place_;
  Loop loop_;
  Supervisors supervisors_;
  SessionTable sessions_;
  WarmShells warm_;
  Listener listener_;
  Login login_;
  Closer closer_;
  Source children_;  // SIGCHLD as a descriptor
  IdleWatch idle_;
  Timer idle_timer_;
  Timer lease_timer_;
  Timer sweep_timer_;
  Ladder sweep_;                        // of what dead supervisors left to us
  std::vector<std::string> sweep_for_;  // their commands' run ids

  std::vector<std::unique_ptr<Link>> links_;
  Link* link_ = nullptr;  // the one that said HELLO last
  uint64_t link_epoch_ = 0;
  std::vector<PendingOpen> opening_;
  std::map<uint32_t, std::unique_ptr<Command>> commands_;
  std::map<std::string, uint32_t, std::less<>> runs_;
  std::vector<std::string> waiting_;  // run ids of commands that wait for another one's end
  struct {
    uint32_t command = 0;
    uint32_t first = 0;
  } after_;                             // of the START that follows
  std::vector<std::string> droppable_;  // run ids
  RunIds run_ids_;
};

}  // namespace hermes::runner
