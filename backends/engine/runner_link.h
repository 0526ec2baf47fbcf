#pragma once

// RunnerLink: the daemon's lasting relation to one hermes-runner, shared by all sessions at a
// place. Connects while a session needs it, notices a dead connection (PING), connects again with
// backoff, and then goes on as if nothing had happened: the same runner is told again what may have
// been lost; another runner means that all commands end UNKNOWN and the sessions are opened anew.
// Frames are matched to commands by number, answers of OPEN and CLOSE by tag (one counter for
// both). Loop thread. Coroutines are static and hold the link.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "backends/engine/frames.h"
#include "backends/engine/runner_command.h"
#include "backends/engine/runner_connection.h"
#include "daemon/runtime/backoff.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/task_group.h"
#include "daemon/runtime/wish.h"

namespace hermes {

inline constexpr Duration kHandshakeLimit = std::chrono::seconds(10);
inline constexpr Duration kFirstRetry = std::chrono::milliseconds(100);
inline constexpr Duration kMostRetry = std::chrono::seconds(5);
// A caller's wish to connect now shortens the wait for the next attempt to this.
inline constexpr Duration kLeastRetry = std::chrono::milliseconds(100);
// Between two wishes that a runner of the previous protocol version leaves; it serves meanwhile.
inline constexpr Duration kReplaceInterval = std::chrono::seconds(60);
// Between TERM and KILL for a command that no row is left of.
inline constexpr Duration kStrangerGrace = std::chrono::seconds(2);
inline constexpr size_t kMaxListed = 1 << 16;             // commands in one LIST; more is malformed
inline constexpr size_t kMaxListedName = 256;             // bytes of a session's or run's id in it
inline constexpr uint32_t kMaxListedNumber = 0x7fffffff;  // leaves numbers for what comes
// Tags of what is asked before the list says which numbers are taken.
inline constexpr uint32_t kFirstEarlyTag = 0xf0000000;

// One session as its link sees it. Owned by the RunnerEngine, registered at the link.
struct RunnerSession {
  SessionSpec spec;
  std::shared_ptr<Sandbox> sandbox;  // the link connects through any of its sessions' sandboxes
  Duration lease{0};                 // 0: none; else its commands die this long after contact ends
  std::function<void(std::string incarnation, uint64_t generation)> changed;  // may be empty
  std::function<void(bool reachable)> reachable;                              // may be empty

  // Kept by the link.
  bool open = false;  // over there, in this incarnation
  bool opening = false;
  int awaited = 0;      // callers that wait for the connection to open it
  bool closed = false;  // not registered: never opened, closed, or given up
  bool was_open = false;
  std::string opened_at;  // the runner, by its start token
  frames::Opened facts;
  SteadyTime lease_renewed;
};

class RunnerLink : public RunnerPort, public std::enable_shared_from_this<RunnerLink> {
 public:
  using Ptr = std::shared_ptr<RunnerLink>;
  using SessionPtr = std::shared_ptr<RunnerSession>;
  struct Deps {
    Loop& loop;
    Clock& clock;
    Random& random;
    TaskGroup& tasks;
    std::string daemon_id;
    std::string place_key;
  };
  explicit RunnerLink(Deps deps);

  // Connects if need be and opens the session over there. A failure leaves it unregistered.
  static Task<absl::Status> Open(Ptr self, SessionPtr session);
  static Task<absl::StatusOr<TreeReport>> Close(Ptr self, SessionPtr session, Duration grace);
  // Forgets the session here, not over there. The last one ends the connection.
  void Unregister(const SessionPtr& session);

  static Task<absl::StatusOr<RunnerCommand::Ptr>> Start(Ptr self, SessionPtr session,
                                                        CommandSpec spec);
  static Task<absl::StatusOr<RunnerCommand::Ptr>> Adopt(Ptr self, SessionPtr session,
                                                        std::string run_id,
                                                        RunnerCommand::Offsets from);
  void SendSecret(const SessionPtr& session);

  // What runs_files() is once the session is open over there; connects if need be.
  static Task<absl::StatusOr<bool>> KnowFiles(Ptr self, SessionPtr session);

  // A connection that somebody has made to see whether a runner is here: the next attempt takes it.
  void Offer(std::unique_ptr<Stream> stream);
  // A runner is here as far as is known: nobody needs to find that out.
  bool reached() const { return up_ || connection_ != nullptr || offered_ != nullptr; }

  bool up() const { return up_; }
  const std::string& home() const { return home_; }  // over there; any bytes
  bool runs_files() const { return up_ && version_ >= frames::kFilesVersion; }
  const std::string& start_token() const { return start_token_; }

  // Ends the connection, or the attempt, for good, without a word to the runner: what runs goes on.
  void Stop();

  // RunnerPort
  std::string* out() override { return usable() ? &connection_->queue() : nullptr; }
  void Flush() override { connection_->Flush(); }
  size_t queued() const override { return usable() ? connection_->queued() : 0; }
  Task<void> Room() override;
  void Drop(uint32_t number, bool forget) override;

 private:
  struct Answer {
    bool done = false;
    bool broke = false;   // the connection did, nobody knows whether the question arrived
    absl::Status status;  // not OK: broke, or refused
    frames::Type type{};
    std::string payload;
  };
  using AnswerPtr = std::shared_ptr<Answer>;
  struct Question {
    uint32_t tag = 0;
    AnswerPtr answer;
  };
  struct Listing {
    uint32_t number = 0;
    frames::Listed listed;
  };
  using Listings = std::map<std::string, Listing, std::less<>>;  // by run id

  // The life of the connection (runner_link.cc).
  bool wanted() const { return !stopped_ && !sessions_.empty(); }
  bool breaking() const { return connection_ && connection_->broken(); }
  bool usable() const { return up_ && !breaking(); }
  static Task<void> Run(Ptr self);
  static Task<absl::Status> Connect(Ptr self);
  static Task<void> Pause(Ptr self, Duration delay);
  void SendHello();
  void OpenAwaited();
  absl::Status OnFrame(const frames::Frame& frame);
  absl::Status OnHandshakeFrame(const frames::Frame& frame);
  absl::Status OnWelcome(std::string_view payload);
  absl::Status OnListed(const frames::Frame& frame);
  absl::Status OnListEnd();
  void FinishHandshake();
  absl::Status OnPong(std::string_view payload);
  bool MayReplace() const;
  void AskToRetire();
  void OnUp();
  void OnDown(const absl::Status& why);
  void OnOtherRunner();
  void OpenAgain();
  void TellReachable();
  void ArmTick();
  void Tick();

  // What sessions ask (runner_sessions.cc).
  static Task<absl::Status> EnsureUp(Ptr self);
  static Task<absl::Status> EnsureOpen(Ptr self, SessionPtr session);
  Question AskToOpen(RunnerSession& session, uint32_t tag);
  static Task<absl::Status> AwaitOpened(Ptr self, SessionPtr session, Question asked);
  static Task<void> Reopen(Ptr self, SessionPtr session, Question asked);
  static Task<void> RefreshList(Ptr self);
  static Task<absl::Status> Await(Ptr self, uint32_t tag, AnswerPtr answer);
  AnswerPtr Expect(uint32_t tag);
  void OnAnswer(const frames::Frame& frame);
  void Attach(RunnerCommand& command, const frames::Listed* listed);
  RunnerCommand* FindRun(std::string_view run_id) const;
  void ForgetStrangers(const SessionSpec& spec);
  void SendLease(RunnerSession& session);
  void SendPing();
  void SendForget(uint32_t number);
  void SendForgetRun(const std::string& run_id);
  void SendKill(uint32_t number, Duration grace, frames::Cause cause);
  void WakeAll() { changed_.NotifyAll(); }

  Deps deps_;
  Backoff backoff_;
  Event changed_;  // anything below changed
  bool stopped_ = false;
  bool running_ = false;  // Run is alive
  bool kicked_ = false;   // somebody waits for the next attempt
  bool let_go_ = false;   // we broke the connection because no session was left
  uint64_t failures_ = 0;
  absl::Status last_error_;

  const WishPtr wish_ = std::make_shared<Wish>();  // for connections; withdrawn by Stop
  std::unique_ptr<Stream> offered_;
  std::shared_ptr<RunnerConnection> connection_;  // the present one; null between two
  bool welcomed_ = false;
  bool listed_ = false;    // its list is complete
  uint16_t version_ = 0;   // spoken with it
  std::string home_;       // as it says
  bool retiring_ = false;  // it was asked to leave, or the connection was broken to do so
  SteadyTime replace_next_;
  bool up_ = false;  // handshake done
  std::string start_token_;
  std::string new_token_;  // of the handshake under way
  uint32_t next_number_ = 1;
  uint64_t next_ping_ = 1;
  std::unique_ptr<Clock::Alarm> tick_;

  const std::shared_ptr<FilesWay> files_way_ = std::make_shared<FilesWay>();

  std::vector<SessionPtr> sessions_;
  std::unordered_map<uint32_t, RunnerCommand::Ptr> commands_;
  std::map<uint32_t, AnswerPtr> answers_;
  std::map<const RunnerSession*, Question> asked_early_;  // of this connection, with its HELLO
  Listings known_;    // as of the last LIST: commands of an earlier daemon
  Listings listing_;  // the LIST under way
  bool list_asked_ = false;
  uint64_t lists_done_ = 0;

  struct Forgotten {
    uint32_t number;
    uint64_t ping;  // the first PONG at or above it proves that the runner has read the FORGET
  };
  std::deque<Forgotten> forgotten_;
};

// The links of one daemon, by place. Owned by main; Stop before destroying.
class RunnerLinks {
 public:
  struct Deps {
    Loop& loop;
    Clock& clock;
    Random& random;
    std::string daemon_id;
  };
  explicit RunnerLinks(Deps deps) : deps_(std::move(deps)), tasks_(deps_.loop) {}

  std::shared_ptr<RunnerLink> For(const std::string& place_key);

  // Ends every connection; what runs over there goes on. Returns when no task is left.
  Task<void> Stop();

  Clock& clock() const { return deps_.clock; }
  Random& random() const { return deps_.random; }

 private:
  Deps deps_;
  TaskGroup tasks_;
  std::map<std::string, std::weak_ptr<RunnerLink>> links_;
  bool stopped_ = false;
};

}  // namespace hermes
