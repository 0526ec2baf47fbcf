#pragma once

// The one place of hermesctl that speaks gRPC. A Connection reaches the daemon through its Unix
// socket, opening it at the first call and again after it broke. Owned by main(); thread-safe.
//
// Unary calls repeat themselves with growing pauses while contact is lost, for at most
// Options.patience; each either is idempotent by nature or carries a request id. A socket that
// could never be reached is an error at once: then nothing was sent. Streams are one attempt each.

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hermes/v1/admin.pb.h"
#include "hermes/v1/exec.pb.h"
#include "hermes/v1/session.pb.h"
#include "hermes/v1/sync.pb.h"

namespace hermes::client {

using Notice = std::function<void(const std::string& message)>;

// A stream of events from the daemon. Next and Finish belong to one thread, Send to one other;
// Cancel may be called by any. Must not outlive its Connection.
template <class Event>
class Stream {
 public:
  virtual ~Stream() = default;
  // Waits for the next event; false: the stream is over, see Finish.
  virtual bool Next(Event* event) = 0;
  // OK: the daemon ended it in order, which says nothing about success.
  virtual absl::Status Finish() = 0;
  virtual void Cancel() = 0;
  // Only on Interact; false: the stream is broken, which Next will notice too.
  virtual bool Send(const v1::InteractRequest& request) = 0;
};

using CommandStream = Stream<v1::CommandEvent>;

class Connection {
 public:
  struct Options {
    std::string socket;          // path
    std::string also_looked_at;  // a usual path where no socket was, for the error; may be empty
    // How long to try again once contact is lost, counted from the last sign of life.
    std::chrono::milliseconds patience = std::chrono::seconds(60);
    Notice notice;  // told once per outage; may be empty
  };

  explicit Connection(Options options);
  ~Connection();  // no call may be running
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  absl::StatusOr<v1::Session> CreateSession(const v1::CreateSessionRequest& request);
  absl::StatusOr<v1::Session> GetSession(const v1::GetSessionRequest& request);
  absl::StatusOr<v1::ListSessionsResponse> ListSessions(const v1::ListSessionsRequest& request);
  absl::StatusOr<v1::Session> UpdateSession(const v1::UpdateSessionRequest& request);
  absl::StatusOr<v1::Session> RenewSession(const v1::RenewSessionRequest& request);
  absl::StatusOr<v1::Command> StartCommand(const v1::ExecuteRequest& request);
  absl::StatusOr<v1::WriteStdinResponse> WriteStdin(const v1::WriteStdinRequest& request);
  // Sent once only: a signal that may have arrived is not sent again.
  absl::StatusOr<v1::SignalResponse> Signal(const v1::SignalRequest& request);
  absl::StatusOr<v1::Command> CancelCommand(const v1::CancelCommandRequest& request);
  absl::StatusOr<v1::Command> WaitCommand(const v1::WaitCommandRequest& request);
  absl::StatusOr<v1::Command> GetCommand(const v1::GetCommandRequest& request);
  absl::StatusOr<v1::ListCommandsResponse> ListCommands(const v1::ListCommandsRequest& request);
  absl::StatusOr<v1::ReadOutputResponse> ReadOutput(const v1::ReadOutputRequest& request);
  absl::StatusOr<v1::SyncJob> GetSync(const v1::GetSyncRequest& request);
  absl::StatusOr<v1::ListSyncsResponse> ListSyncs(const v1::ListSyncsRequest& request);
  absl::StatusOr<v1::InfoResponse> Info();
  absl::StatusOr<v1::CapabilitiesResponse> Capabilities();
  absl::Status Drain();

  absl::StatusOr<std::unique_ptr<CommandStream>> Execute(const v1::ExecuteRequest& request);
  absl::StatusOr<std::unique_ptr<CommandStream>> Attach(const v1::AttachRequest& request);
  // `first` holds `start` or `attach`.
  absl::StatusOr<std::unique_ptr<CommandStream>> Interact(const v1::InteractRequest& first);
  absl::StatusOr<std::unique_ptr<Stream<v1::SessionEvent>>> WatchSessions(
      const v1::WatchSessionsRequest& request);
  absl::StatusOr<std::unique_ptr<Stream<v1::CleanupEvent>>> Cleanup(
      const v1::CleanupRequest& request);

  absl::StatusOr<std::unique_ptr<Stream<v1::SyncEvent>>> Sync(const v1::SyncRequest& request);
  absl::StatusOr<std::unique_ptr<Stream<v1::SyncEvent>>> SyncBack(
      const v1::SyncBackRequest& request);
  absl::StatusOr<std::unique_ptr<Stream<v1::SyncEvent>>> RevertSync(
      const v1::RevertSyncRequest& request);

  // Ends every call and pause with CANCELLED, now and from now on.
  void Shutdown();

  // Waits; false when Shutdown came first.
  bool Pause(std::chrono::milliseconds time);

  // Contact was made at least once.
  bool was_connected() const;

  const Options& options() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Pauses between attempts: short at first, doubling to a limit, over when patience is used up.
class Backoff {
 public:
  explicit Backoff(std::chrono::milliseconds patience) : patience_(patience) { Reset(); }

  // A sign of life: starts over.
  void Reset();

  // The next pause; zero when patience is used up.
  std::chrono::milliseconds Next();

 private:
  const std::chrono::milliseconds patience_;
  std::chrono::milliseconds pause_{};
  std::chrono::steady_clock::time_point give_up_;
};

}  // namespace hermes::client
