#pragma once

// GrpcCall: a Call over gRPC's callback API. Every RPC is served as a stream of raw messages in
// both directions, which is what all kinds of RPC are on the wire; so there is one reactor, and
// messages are parsed where there is time for it.
//
// Two threads touch it. gRPC calls the reactions (On...) on its few threads: they only post. All
// else is on the loop. Two references keep it alive: gRPC's, given up by OnDone, and the handler's.

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/byte_buffer.h>

#include <atomic>
#include <memory>
#include <string>

#include "daemon/rpc/call.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"

namespace hermes {

// The longest that any reaction took; they must never block, for gRPC has few threads.
class ReactionClock {
 public:
  class Scope {
   public:
    explicit Scope(ReactionClock& clock)
        : clock_(clock), began_(std::chrono::steady_clock::now()) {}
    ~Scope();

   private:
    ReactionClock& clock_;
    std::chrono::steady_clock::time_point began_;
  };
  std::chrono::nanoseconds TakeMax() { return std::chrono::nanoseconds(max_ns_.exchange(0)); }

 private:
  std::atomic<int64_t> max_ns_{0};
};

class GrpcCall;

// What takes the calls in. Loop thread.
class CallHost {
 public:
  virtual ~CallHost() = default;
  virtual void Begin(std::shared_ptr<GrpcCall> call) = 0;
  virtual void End(GrpcCall* call) = 0;  // gRPC is done with it
};

struct CallEnv {
  Loop& loop;
  CallHost& host;
  ReactionClock& reactions;
};

class GrpcCall final : public Call,
                       public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                       public std::enable_shared_from_this<GrpcCall> {
 public:
  // In gRPC's thread. The host's Begin is called once the first message is there.
  static GrpcCall* Accept(CallEnv& env, Method method, Caller caller);

  Task<std::unique_ptr<Incoming>> Read() override;
  Task<bool> Write(const google::protobuf::Message& message) override;
  Task<bool> WriteParts(std::string head, std::string tail) override;
  void SetLast(const google::protobuf::Message& message) override;

  // Once; later calls do nothing.
  void Finish(const absl::Status& status);
  bool finished() const { return finished_; }

  // Ends what the client may still want of it: the handler is told, a unary call is answered.
  void Drain();
  void set_unary() { unary_ = true; }

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  GrpcCall(CallEnv& env, Method method, Caller caller);
  void ReadDone(bool ok);
  bool MayWrite() const;
  Task<bool> SendOut();
  void StopAndAnswer(Stop why);

  CallEnv& env_;
  std::shared_ptr<GrpcCall> self_;  // gRPC's reference

  // Each belongs to gRPC between its Start and its Done.
  grpc::ByteBuffer in_;
  grpc::ByteBuffer out_;

  Event changed_;
  std::unique_ptr<Incoming> first_;
  bool begun_ = false;
  bool reading_ = false;
  bool read_ok_ = false;
  bool writing_ = false;
  bool write_ok_ = true;
  bool has_last_ = false;
  bool unary_ = false;
  bool finished_ = false;
};

// A call that is answered with an error without having been looked at.
class RefusedCall final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit RefusedCall(const absl::Status& status);
  void OnDone() override { delete this; }
};

grpc::Status ToGrpc(const absl::Status& status);

}  // namespace hermes
