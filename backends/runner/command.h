#pragma once

// One command of a session, from START until the daemon forgets it: its supervisor, its pipes, its
// one end. What the daemon must hear is sent to the link it is attached to; a new link hears
// nothing until ATTACH, and then everything that it does not have yet, the end included.

#include <stdint.h>

#include <memory>
#include <string>

#include "backends/engine/frames.h"
#include "backends/runner/commit.h"
#include "backends/runner/link.h"
#include "backends/runner/output.h"
#include "backends/runner/place.h"
#include "backends/runner/prepare.h"
#include "backends/runner/stdin_feed.h"
#include "backends/runner/supervised.h"
#include "backends/runner/warm.h"

namespace hermes::runner {

class Command final : Supervised::Owner, Output::Owner, StdinFeed::Owner, Timer::Handler {
 public:
  // Outlives the command. A command is not destroyed inside these calls.
  class Host {
   public:
    virtual void OnKilled(Command& command, const frames::TreeReport& report) = 0;
    virtual void OnOrphans(Command& command) = 0;  // its supervisor died: sweep, then OrphansGone
    virtual void OnEnded(Command& command) = 0;    // its exit is known
    virtual void OnDrained(Command& command) = 0;  // its record may be dropped if it is forgotten

   protected:
    ~Host() = default;
  };
  struct World {
    Loop& loop;
    Supervisors& supervisors;
    SessionTable& sessions;
    const Place& place;
    WarmShells& warm;
    Host& host;
  };

  Command(const World& world, Session& session, uint32_t number, std::string run_id);

  void Start(const frames::Start& start, Link* link);
  // Starts once `first` (a run id) has ended well. Its deadline counts from now, and it can be
  // killed meanwhile: then it never starts.
  void StartAfter(frames::Start start, std::string first, Link* link);
  void FirstEnded(bool well);
  bool waits() const { return waiting_ != nullptr; }
  const std::string& first() const { return waiting_->first; }
  bool succeeded() const {
    return ended_ && exit_.cause == frames::Cause::kNatural && !exit_.signalled && exit_.value == 0;
  }

  // nullptr: the daemon is gone. A link hears of the command after Attach only.
  void SetLink(Link* link);
  void Attach(uint64_t out, uint64_t err);
  void AttachAgain();  // START of a known run id: kStarted, then all that is kept
  void Renumber(uint32_t number);
  void Ack(uint64_t out, uint64_t err);

  bool Stdin(uint64_t offset, std::string_view bytes) { return stdin_.Add(offset, bytes); }
  bool StdinEof(uint64_t offset) { return stdin_.SetEnd(offset); }
  uint64_t stdin_expected() const { return stdin_.expected(); }
  void Resize(uint16_t cols, uint16_t rows);
  void Signal(int signal, frames::Scope scope);
  void Kill(uint32_t grace_ms, frames::Cause cause);  // OnKilled is called once it is done
  void OrphansGone(const frames::TreeReport& report);
  void SendKilled(const frames::TreeReport& report);
  // The record is about to go: the daemon hears the end though it has not taken all output.
  void SendEndNow();

  frames::Listed Describe() const;
  uint32_t number() const { return number_; }
  const std::string& run_id() const { return run_id_; }
  Session& session() { return session_; }
  bool drained() const { return drained_; }
  const Output& out() const { return out_; }
  const Output& err() const { return err_; }
  bool ended() const { return ended_; }
  pid_t supervisor() const {
    return supervised_ != nullptr && supervised_->alive() ? supervised_->pid() : 0;
  }
  bool forgotten = false;   // the daemon is not interested any more
  bool kill_asked = false;  // by a frame, which wants its answer

 private:
  void OnNotice(const Notice& notice) override;
  void OnSupervisorDied() override { world_.host.OnOrphans(*this); }
  void OnOutput(Output& output) override;
  void OnSent(Output&) override { SendEnd(); }
  void OnStdin() override;
  void OnTimer(Timer&) override { waits() ? NeverStart(frames::Cause::kRunTimeout) : CheckEnd(); }

  struct Waiting {
    frames::Start start;
    std::string first;
    int64_t since_us;
  };

  void Accept(const frames::Start& start, Link* link);
  void Launch(const frames::Start& start);
  void NeverStart(frames::Cause cause);
  void TakeOver(std::unique_ptr<WarmShell> shell);
  void SendStarted(bool attached);
  void SendStdinAck();
  void OnLaunched(pid_t pid);
  void OnFailed(LaunchFailure failure, frames::Cause cause = frames::Cause::kLaunchFailed);
  void OnEnded(const Notice& notice);
  void CommitState(bool killed);
  void ShellGone();
  void RemoveCapture();
  void CheckEnd();
  void SendEnd();
  void AnswerKill(const frames::TreeReport& report);
  void CheckDrained();
  bool EndOfOutput() const { return out_.eof() && err_.eof(); }

  World world_;
  Session& session_;
  uint32_t number_;
  std::string run_id_;
  std::unique_ptr<Waiting> waiting_;        // null: it does not wait (any more)
  std::unique_ptr<Supervised> supervised_;  // null: it was never tried
  Output out_;
  Output err_;
  StdinFeed stdin_;
  uint64_t stdin_acked_ = 0;
  Timer quiet_;
  Prepared prepared_;
  std::string capture_path_;
  Link* link_ = nullptr;
  bool attached_ = false;
  bool attached_again_ = false;
  bool is_terminal_ = false;
  bool files_ = false;  // the file service
  pid_t pid_ = 0;

  frames::Exit exit_;
  bool shell_gone_ = false;  // how it ended is known
  int64_t shell_gone_us_ = 0;
  int64_t last_output_us_ = 0;
  uint64_t out_due_ = 0;  // what was written before the shell's end: kExit waits for it
  uint64_t err_due_ = 0;
  bool tree_empty_ = false;
  bool kill_pending_ = false;
  bool ended_ = false;  // exit_ is final
  bool drained_ = false;
  bool end_sent_ = false;  // on this link
  bool drained_sent_ = false;
};

}  // namespace hermes::runner
