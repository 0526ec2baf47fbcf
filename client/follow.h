#pragma once

// Follows one command to its end over any number of connections. Every byte reaches the sink once;
// when contact is lost it attaches again at the exact offsets, with growing pauses, for as long as
// the connection's patience since the last sign of life. Run belongs to one thread; the rest to
// any.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "client/connection.h"
#include "client/sink.h"
#include "client/tracker.h"
#include "hermes/v1/exec.pb.h"

namespace hermes::client {

struct FollowTarget {
  v1::ExecuteRequest start;  // with a request id; or
  std::string name;          // an existing command
  v1::Cursor from;
  bool interact = false;  // keep a call that takes Resize
};

class Follower {
 public:
  Follower(Connection& connection, EventSink& sink, FollowTarget target);

  // The ended command; or why it could not be followed to its end. OK only after the terminal
  // event.
  absl::StatusOr<v1::Command> Run();

  // Run ended because the sink's reader is gone.
  bool sink_closed() const { return sink_closed_; }

  // Waits until the command has a name; empty when Run ended without one.
  std::string WaitForName();

  // Empty while not known.
  std::string name() const;
  v1::Cursor cursor() const;

  // The newest size is sent now, and after each re-attachment.
  void Resize(const v1::Pty& size);

 private:
  enum class Step { kGoOn, kFinished, kSinkClosed };

  absl::StatusOr<std::unique_ptr<CommandStream>> Open();
  absl::Status Attempt(Backoff& backoff);
  Step Handle(const v1::CommandEvent& event, Backoff& backoff);
  bool HandleOutput(const v1::Output& output, Backoff& backoff);
  void HandleStarted(const v1::Started& started);
  void SetStream(CommandStream* stream);
  void TellLost();

  Connection& connection_;
  EventSink& sink_;
  const FollowTarget target_;
  bool sink_closed_ = false;
  bool told_started_ = false;
  bool told_lost_ = false;  // of the present outage
  std::optional<v1::Command> finished_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable named_;
  std::string name_;
  bool done_ = false;
  OutputTracker tracker_;
  CommandStream* stream_ = nullptr;
  std::optional<v1::Pty> size_;
};

// How to come back to a command, as a command line for people.
std::string AttachHint(const std::string& name, const v1::Cursor& cursor);

}  // namespace hermes::client
