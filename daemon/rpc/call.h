#pragma once

// Call: one RPC as its handler sees it. Whether it is unary or a stream, a handler reads messages,
// writes messages, and returns a status; gRPC stays behind this interface. Loop thread only. Shared
// by its handler and by the transport.

#include <google/protobuf/message.h>

#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "daemon/core/requests.h"
#include "daemon/rpc/methods.h"
#include "daemon/runtime/task.h"

namespace hermes {

// One message from the client, not parsed yet. May be parsed on any thread.
class Incoming {
 public:
  virtual ~Incoming() = default;
  virtual size_t size() const = 0;
  virtual bool ParseInto(google::protobuf::MessageLite* message) const = 0;
  virtual std::string Bytes() const = 0;
};

class Call {
 public:
  virtual ~Call() = default;

  const Caller& caller() const { return caller_; }
  Method method() const { return method_; }

  // The next message; null: no more will come, because the client said so or is gone. One at a
  // time.
  virtual Task<std::unique_ptr<Incoming>> Read() = 0;

  // Sends one message and returns when the transport has taken it, so a slow client costs one
  // message. False: the client is gone. One at a time.
  virtual Task<bool> Write(const google::protobuf::Message& message) = 0;

  // The same for a message that is serialised already and comes in two parts. The bytes of `tail`
  // are not copied.
  virtual Task<bool> WriteParts(std::string head, std::string tail) = 0;

  // The message that goes out together with the final OK; dropped when the call fails.
  virtual void SetLast(const google::protobuf::Message& message) = 0;

  // Why the handler should come to its end early.
  enum class Stop { kNone, kGone, kDraining, kFailed };
  Stop stop() const { return stop_; }
  bool stopped() const { return stop_ != Stop::kNone; }

  // `on_stop` runs once, when the call is stopped; at once if it is already. Null: forget it.
  void OnStop(absl::AnyInvocable<void()> on_stop);

  // A part of the handler failed: the others are stopped.
  void Fail(absl::Status why);

  // What a stopped call ends with: CANCELLED, DRAINING or the failure.
  absl::Status StopStatus() const;

 protected:
  Call(Method method, Caller caller) : method_(method), caller_(caller) {}
  // The first reason stands.
  void StopFor(Stop why);

 private:
  const Method method_;
  const Caller caller_;
  Stop stop_ = Stop::kNone;
  absl::Status failure_;
  absl::AnyInvocable<void()> on_stop_;
};

}  // namespace hermes
