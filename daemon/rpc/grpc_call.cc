#include "daemon/rpc/grpc_call.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <utility>

#include "daemon/rpc/errors.h"
#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

class GrpcIncoming : public Incoming {
 public:
  explicit GrpcIncoming(grpc::ByteBuffer* buffer) { buffer_.Swap(buffer); }

  size_t size() const override { return buffer_.Length(); }

  bool ParseInto(google::protobuf::MessageLite* message) const override {
    grpc::ByteBuffer copy(buffer_);  // shares the bytes; reading consumes
    grpc::ProtoBufferReader reader(&copy);
    return reader.status().ok() && message->ParseFromZeroCopyStream(&reader);
  }

  std::string Bytes() const override {
    std::vector<grpc::Slice> slices;
    std::string bytes;
    if (!buffer_.Dump(&slices).ok()) return bytes;
    for (const grpc::Slice& slice : slices) {
      bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    return bytes;
  }

 private:
  mutable grpc::ByteBuffer buffer_;
};

void Serialize(const google::protobuf::Message& message, grpc::ByteBuffer* to) {
  bool own = false;
  to->Clear();
  const grpc::Status status =
      grpc::GenericSerialize<grpc::ProtoBufferWriter, google::protobuf::MessageLite>(message, to,
                                                                                     &own);
  CHECK(status.ok());
}

void Join(const std::string& head, std::string tail, grpc::ByteBuffer* to) {
  auto* owner = new std::string(std::move(tail));
  // gRPC lets go of a slice in whatever thread it is done with it.
  const grpc::Slice slices[] = {
      grpc::Slice(head), grpc::Slice(
                             owner->data(), owner->size(),
                             [](void* bytes) { delete static_cast<std::string*>(bytes); }, owner)};
  grpc::ByteBuffer(slices, std::size(slices)).Swap(to);
}

}  // namespace

ReactionClock::Scope::~Scope() {
  const int64_t took = (std::chrono::steady_clock::now() - began_) / std::chrono::nanoseconds(1);
  int64_t most = clock_.max_ns_.load(std::memory_order_relaxed);
  while (took > most && !clock_.max_ns_.compare_exchange_weak(most, took)) {
  }
}

grpc::Status ToGrpc(const absl::Status& status) {
  WireError wire = ToWire(status);
  if (wire.code == 0) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(wire.code), std::move(wire.message),
                      std::move(wire.details));
}

RefusedCall::RefusedCall(const absl::Status& status) { Finish(ToGrpc(status)); }

GrpcCall* GrpcCall::Accept(CallEnv& env, Method method, Caller caller) {
  std::shared_ptr<GrpcCall> call(new GrpcCall(env, method, caller));
  call->self_ = call;
  call->StartRead(&call->in_);
  return call.get();
}

GrpcCall::GrpcCall(CallEnv& env, Method method, Caller caller)
    : Call(method, caller), env_(env), changed_(env.loop) {}

void GrpcCall::OnReadDone(bool ok) {
  ReactionClock::Scope scope(env_.reactions);
  env_.loop.Post([self = shared_from_this(), ok] { self->ReadDone(ok); });
}

void GrpcCall::OnWriteDone(bool ok) {
  ReactionClock::Scope scope(env_.reactions);
  env_.loop.Post([self = shared_from_this(), ok] {
    self->writing_ = false;
    self->write_ok_ = ok;
    self->changed_.NotifyAll();
  });
}

void GrpcCall::OnCancel() {
  ReactionClock::Scope scope(env_.reactions);
  env_.loop.Post([self = shared_from_this()] { self->StopAndAnswer(Stop::kGone); });
}

// The last reaction: nothing of gRPC may be touched from now on, and nothing is, for Finish was
// called.
void GrpcCall::OnDone() {
  ReactionClock::Scope scope(env_.reactions);
  env_.loop.Post([self = std::move(self_)] { self->env_.host.End(self.get()); });
}

void GrpcCall::ReadDone(bool ok) {
  reading_ = false;
  read_ok_ = ok;
  if (begun_) return changed_.NotifyAll();
  begun_ = true;
  if (stopped()) return Finish(StopStatus());
  if (!ok) return Finish(BadField("request", "is missing"));
  first_ = std::make_unique<GrpcIncoming>(&in_);
  env_.host.Begin(shared_from_this());
}

void GrpcCall::StopAndAnswer(Stop why) {
  StopFor(why);
  if (begun_ && unary_) Finish(StopStatus());
}

void GrpcCall::Drain() { StopAndAnswer(Stop::kDraining); }

Task<std::unique_ptr<Incoming>> GrpcCall::Read() {
  std::shared_ptr<GrpcCall> self = shared_from_this();
  if (first_ != nullptr) co_return std::move(first_);
  if (finished_ || (!read_ok_ && begun_)) co_return nullptr;
  CHECK(!reading_);
  reading_ = true;
  StartRead(&in_);
  while (reading_) co_await changed_.Wait();
  if (!read_ok_) co_return nullptr;
  co_return std::make_unique<GrpcIncoming>(&in_);
}

bool GrpcCall::MayWrite() const {
  CHECK(!writing_);
  return !finished_ && write_ok_ && stop() != Stop::kGone;
}

Task<bool> GrpcCall::Write(const google::protobuf::Message& message) {
  if (!MayWrite()) co_return false;
  Serialize(message, &out_);
  co_return co_await SendOut();
}

Task<bool> GrpcCall::WriteParts(std::string head, std::string tail) {
  if (!MayWrite()) co_return false;
  Join(head, std::move(tail), &out_);
  co_return co_await SendOut();
}

Task<bool> GrpcCall::SendOut() {
  std::shared_ptr<GrpcCall> self = shared_from_this();
  writing_ = true;
  StartWrite(&out_);
  while (writing_) co_await changed_.Wait();
  co_return write_ok_;
}

void GrpcCall::SetLast(const google::protobuf::Message& message) {
  CHECK(!writing_);
  if (finished_) return;
  Serialize(message, &out_);
  has_last_ = true;
}

void GrpcCall::Finish(const absl::Status& status) {
  if (std::exchange(finished_, true)) return;
  CHECK(!writing_);
  using Reactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;
  if (status.ok() && has_last_) {
    Reactor::StartWriteAndFinish(&out_, grpc::WriteOptions(), grpc::Status::OK);
  } else {
    Reactor::Finish(ToGrpc(status));
  }
}

}  // namespace hermes
