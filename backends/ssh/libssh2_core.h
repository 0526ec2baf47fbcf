#pragma once

// A logged-in libssh2 session and its channels: drives every half-done call of the library when
// something comes in, keeps what was received for each stream, and watches that the host is alive.
// Shared by the connection and its streams; Break (or the connection's end) ends it for all. Loop
// thread.
//
// Memory: what a stream's consumer has not taken yet costs at most kWindow per channel, since the
// host may only send what was granted and new grants follow what was taken.

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "backends/backend.h"
#include "backends/ssh/libssh2_session.h"
#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"

namespace hermes {

// Granted to the host for each channel: bandwidth times delay of 200 MB/s over 20 ms.
inline constexpr size_t kWindow = 4 << 20;  // bytes
// Grants are renewed in steps of this, so that the host never waits for a big one.
inline constexpr size_t kWindowStep = 128 << 10;  // bytes
// A channel whose close the host has not confirmed by then is forgotten here; over there its slot
// stays taken until the program ends.
inline constexpr Duration kCloseLimit = std::chrono::seconds(30);

// Bytes in, bytes out; holds memory only while it holds bytes.
class ByteFifo {
 public:
  void Append(std::string_view bytes) { bytes_.append(bytes); }
  size_t Take(std::span<char> into);
  bool empty() const { return bytes_.empty(); }
  size_t size() const { return bytes_.size() - taken_; }

 private:
  std::string bytes_;
  size_t taken_ = 0;
};

struct Libssh2Channel {
  explicit Libssh2Channel(Loop& loop) : readable(loop), writable(loop) {}

  enum class Phase { kQueued, kOpening, kStarting, kRunning, kClosing, kGone };
  Phase phase = Phase::kQueued;
  bool ping = false;
  bool abandoned = false;  // nobody wants it any more
  std::string command;
  absl::Status status;  // why it came to nothing

  Libssh2Session::Channel handle = nullptr;  // while the library has it
  ByteFifo out;
  ByteFifo err;
  size_t ungranted = 0;  // taken by the consumer, not granted again yet
  size_t granting = 0;   // the grant that the library has not finished
  bool eof_wanted = false;
  bool eof_sent = false;
  bool half_written = false;  // a write was left in the middle: nothing may follow
  bool at_eof = false;
  bool ended = false;  // the host closed it, after all output
  std::optional<Stream::End> end;
  bool close_sent = false;
  SteadyTime closing_since;

  Event readable;  // output, end, phase
  Event writable;
};

class Libssh2Core : public std::enable_shared_from_this<Libssh2Core> {
 public:
  using Channel = std::shared_ptr<Libssh2Channel>;

  Libssh2Core(Loop& loop, Clock& clock, std::shared_ptr<Libssh2Link> link,
              std::unique_ptr<Libssh2Session> session);
  void Start();

  bool alive() const { return why_.ok(); }
  const absl::Status& why() const { return why_; }
  bool one_at_a_time() const { return MixesPrograms(session_->Banner()); }
  void Break(absl::Status why);
  void Leave();  // says goodbye, then breaks

  // Queues an open and exec; the phase tells how it went. Abandon when it is no longer wanted.
  Channel StartChannel(std::string command);
  void Abandon(Channel channel);

  // The consumer took `bytes` of output.
  void Consumed(Libssh2Channel& channel, size_t bytes);
  void CloseStdin(Libssh2Channel& channel);
  // Bytes taken; 0: not now, wait for `writable`.
  absl::StatusOr<size_t> Write(Libssh2Channel& channel, std::string_view data);

  size_t heap_bytes() const { return session_->heap_bytes(); }

 private:
  using Step = Libssh2Session::Step;

  void WatchInput();
  void WakeWriters();
  void OnInput();
  void Drive();
  void DriveChannel(Libssh2Channel& channel);
  void DriveOpening();
  bool DriveOneOpening();
  void DriveStarting(Libssh2Channel& channel);
  void DriveRunning(Libssh2Channel& channel);
  void DriveClosing(Libssh2Channel& channel);
  void ReadAll(Libssh2Channel& channel, bool keep);
  void Grant(Libssh2Channel& channel);
  void SendEof(Libssh2Channel& channel);
  void StartClosing(Libssh2Channel& channel);
  void Finish(Libssh2Channel& channel, absl::Status status);
  void ForgetGone();
  bool Went(Step step);  // false after Break
  void CheckAlive();
  void SetAlarm();

  Loop& loop_;
  Clock& clock_;
  std::shared_ptr<Libssh2Link> link_;
  std::unique_ptr<Libssh2Session> session_;
  std::list<Channel> channels_;
  Channel opening_;  // the one that the library is opening
  absl::Status why_;
  uint64_t confirmed_ = 0;
  SteadyTime last_sign_;  // of life
  SteadyTime looked_;     // for one
  std::unique_ptr<Clock::Alarm> alarm_;
};

}  // namespace hermes
