#pragma once

// SshLane: one connection to a host, kept and renewed. It logs in when a stream is wanted, one
// login at a time per host, never in a storm: it pauses between failures, long after refused
// credentials and after a host key that is not the one. A channel that the host refuses is a
// busy slot: the lane learns how many there are, and the callers take turns. To a server that must
// run one program at a time per connection, the lane is the first of a chain: each keeps one stream
// on its connection, and the next is asked when it has one. Shared by the streams and coroutines
// that use it; loop thread.

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/backoff.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/wish.h"

namespace hermes {

// How long a busy slot is waited for before it is tried again: from the first to the most.
inline constexpr Duration kSlotRetryFirst = std::chrono::milliseconds(20);
inline constexpr Duration kSlotRetryMost = std::chrono::milliseconds(500);
// Who waits first for somebody's stream to end asks the host itself after this: what the lane
// believes to be the host's limit may be too low.
inline constexpr Duration kSlotProbe = std::chrono::seconds(2);
// A host that refuses every channel for this long, though none is open, has none for us:
// BACKEND_UNREACHABLE.
inline constexpr Duration kSlotPatience = std::chrono::seconds(20);
// After a failed login the next is not tried before; calls meanwhile wait for it.
inline constexpr Duration kLoginPauseFirst = std::chrono::milliseconds(100);
inline constexpr Duration kLoginPauseMost = std::chrono::seconds(5);
// The same after refused credentials, because hosts lock out who keeps trying: so long that calls
// meanwhile get the same error instead. Other credentials, by their files, are tried at once.
inline constexpr Duration kAuthPauseFirst = std::chrono::seconds(20);
inline constexpr Duration kAuthPauseMost = std::chrono::minutes(5);

// Hosts keep count of who fails (OpenSSH's PerSourcePenalties: 5 s for a refused login, 1 s for a
// connection that ends without having tried one, nobody is let in beyond 15), over all keys and
// accounts of our address. So much we run up at most: what would make it more waits.
inline constexpr Duration kRefusalPenalty = std::chrono::seconds(5);
inline constexpr Duration kLeftPenalty = std::chrono::seconds(1);
inline constexpr Duration kMostPenalty = std::chrono::seconds(10);

// Connections of a chain beyond the first. At the limit callers wait for the last.
inline constexpr int kMostSpares = 15;
// A spare connection without a stream is closed after this.
inline constexpr Duration kSpareIdleLimit = std::chrono::seconds(60);
// How long a stream that nobody wants any more may take to end, before its connection is dropped
// because nothing else is safe on it.
inline constexpr Duration kGentleEnd = std::chrono::seconds(1);

// Logins under way through one jump host: a target behind it that does not answer must not hold up
// the others. At the limit they wait.
inline constexpr int kMostJumpLogins = 4;

// One login at a time, or several through a jump host, and not too many that fail; shared by all
// lanes to the host and port that sees our address.
struct SshGate {
  explicit SshGate(Loop& loop) : changed(loop) {}
  int logins = 0;              // under way
  SteadyTime penalty_until{};  // for those that failed
  Event changed;
};

class SshLane : public std::enable_shared_from_this<SshLane> {
 public:
  using Ptr = std::shared_ptr<SshLane>;
  struct Deps {
    Loop& loop;
    Clock& clock;
    Random& random;
    SshTransport& transport;
    SshTarget target;
    std::shared_ptr<SshGate> gate;
    // Where the target led when it was made. It logs in nowhere else, whatever ssh_config says by
    // then: what runs is here.
    SshResolved place = {};
    int logins_at_once = 1;  // through the gate
    Duration idle_limit{0};  // a connection without streams is dropped after it; 0: kept
    int spares = kMostSpares;
    std::vector<std::string> credential_files = {};
    std::vector<std::string> known_hosts_files = {};
  };
  explicit SshLane(Deps deps);

  // As SshConnection::Run, but waits for a slot and logs in if need be. A withdrawn wish leaves the
  // queue at once, and the login that nobody else waits for ends. Who may not wait for somebody's
  // stream to end gets IsSlotBusy where it would have to.
  static Task<absl::StatusOr<std::unique_ptr<Stream>>> Run(Ptr self, std::string command,
                                                           WishPtr wish, bool may_wait = true);

  // False: a Run would have to wait for somebody's stream to end. True is a belief: the host may
  // still refuse.
  bool HasRoom() const;
  bool up() const { return connection_ != nullptr && connection_->alive(); }

  // Drops the connection; calls under way and later ones end with RECONNECTING.
  void Stop();

 private:
  class SlotStream;
  struct Opening;
  static Task<absl::StatusOr<bool>> TakeSlot(Ptr self, uint64_t ticket, WishPtr wish,
                                             bool may_wait);
  static Task<void> AwaitSlot(Ptr self, Duration most, WishPtr wish);
  static Task<void> Open(Ptr self, std::string command, std::shared_ptr<Opening> opening);
  static Task<bool> AwaitOpen(std::shared_ptr<Opening> opening, WishPtr wish);
  static Task<absl::Status> EnsureUp(Ptr self, WishPtr wish);
  static Task<absl::Status> AwaitLogin(Ptr self, WishPtr wish);
  static Task<void> Login(Ptr self, WishPtr login);
  static Task<absl::Status> LogIn(Ptr self, WishPtr login);
  static Task<absl::Status> CheckPlace(Ptr self);
  static Task<void> EndGently(Ptr self, std::shared_ptr<Stream> stream);
  uint32_t Most() const { return single_ ? 1 : limit_; }
  // False while nobody is logged in: one lane of a chain tries that, not all.
  bool PassesOn() const { return single_ && deps_.spares > 0 && up(); }
  Ptr Next();
  void NoteFailure(const absl::Status& why);
  void NoteNewCredentials();
  void Release();
  void ArmIdle();

  Deps deps_;
  Event changed_;  // a slot, the connection, the queue
  bool stopped_ = false;

  std::shared_ptr<SshConnection> connection_;
  WishPtr login_;         // the login under way; withdrawn when nobody waits for it any more
  int waiting_ = 0;       // for it
  bool refused_ = false;  // credentials or the host's key, by the last login
  bool of_host_key_ = false;
  std::string credentials_;  // that it had
  std::string known_hosts_;
  uint64_t logins_ = 0;  // that have ended
  SteadyTime not_before_;
  absl::Status last_error_;
  Backoff login_pause_;
  Backoff auth_pause_;

  bool single_ = false;  // one stream at a time, by the last login
  Ptr next_;             // in the chain; null until it is needed
  uint32_t open_ = 0;    // streams that live or are being opened
  uint32_t limit_;       // what the host is believed to allow at once
  uint64_t ended_ = 0;   // streams
  uint64_t next_ticket_ = 0;
  std::deque<uint64_t> queue_;  // who waits for a slot, in order
  std::unique_ptr<Clock::Alarm> idle_;
};

}  // namespace hermes
