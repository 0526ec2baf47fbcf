#include "client/connection.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <set>

#include "client/error.h"
#include "hermes/v1/admin.grpc.pb.h"
#include "hermes/v1/exec.grpc.pb.h"
#include "hermes/v1/session.grpc.pb.h"
#include "hermes/v1/sync.grpc.pb.h"

namespace hermes::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kFirstPause(20);
constexpr milliseconds kLongestPause(2000);
// The daemon sends at most 256 KiB a message; more than this is refused by gRPC.
constexpr int kMaxMessageBytes = 8 << 20;

absl::Status Unreachable(const std::string& path, const std::string& why) {
  return OwnError(
      absl::StatusCode::kUnavailable, "cannot reach hermesd at " + path + ": " + why,
      "Start one with `hermesd --dev --dir DIR` (socket DIR/hermes.sock), or name its socket "
      "with --socket or HERMESD_SOCKET.");
}

// A connected descriptor. Connecting ourselves tells "never reached, nothing sent" from "broke".
absl::StatusOr<int> ConnectSocket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Unreachable(
        path, "the path is longer than " + std::to_string(sizeof address.sun_path - 1) + " bytes");
  }
  memcpy(address.sun_path, path.data(), path.size());
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Unreachable(path, strerror(errno));
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    int error = errno;
    close(fd);
    return Unreachable(path, strerror(error));
  }
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  return fd;
}

absl::Status Convert(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return FromWire(status.error_code(), status.error_message(), status.error_details());
}

// One connection: a channel on one descriptor, which is never dialled again.
struct Link {
  explicit Link(std::shared_ptr<grpc::Channel> channel)
      : exec(v1::ExecService::NewStub(channel)),
        session(v1::SessionService::NewStub(channel)),
        sync(v1::SyncService::NewStub(channel)),
        admin(v1::AdminService::NewStub(channel)) {}

  const std::unique_ptr<v1::ExecService::Stub> exec;
  const std::unique_ptr<v1::SessionService::Stub> session;
  const std::unique_ptr<v1::SyncService::Stub> sync;
  const std::unique_ptr<v1::AdminService::Stub> admin;
};

enum class Repeat { kWhileLost, kNever };

}  // namespace

void Backoff::Reset() {
  pause_ = kFirstPause;
  give_up_ = steady_clock::now() + patience_;
}

milliseconds Backoff::Next() {
  auto left = std::chrono::ceil<milliseconds>(give_up_ - steady_clock::now());
  if (left <= milliseconds::zero()) return milliseconds::zero();
  milliseconds pause = std::min(pause_, left);
  pause_ = std::min(pause_ * 2, kLongestPause);
  return pause;
}

class Connection::Impl {
 public:
  explicit Impl(Options options) : options(std::move(options)) {}

  // Registers a call for Shutdown while it lives.
  class Call {
   public:
    explicit Call(Impl& impl) : impl_(impl) {
      std::lock_guard lock(impl_.mutex_);
      impl_.calls_.insert(&context);
      if (impl_.shut_down_) context.TryCancel();
    }
    ~Call() {
      std::lock_guard lock(impl_.mutex_);
      impl_.calls_.erase(&context);
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    grpc::ClientContext context;

   private:
    Impl& impl_;
  };

  absl::StatusOr<std::shared_ptr<Link>> GetLink() {
    std::lock_guard lock(mutex_);
    if (shut_down_) return absl::CancelledError("shutting down");
    if (link_ != nullptr) return link_;
    absl::StatusOr<int> fd = ConnectSocket(options.socket);
    if (!fd.ok()) return AlsoLookedAt(fd.status());
    grpc::ChannelArguments args;
    args.SetMaxReceiveMessageSize(kMaxMessageBytes);
    args.SetMaxSendMessageSize(kMaxMessageBytes);
    link_ = std::make_shared<Link>(
        grpc::CreateCustomInsecureChannelFromFd("unix:" + options.socket, *fd, args));
    was_connected_ = true;
    return link_;
  }

  // The next call opens a new connection, unless somebody did already.
  void Drop(const std::shared_ptr<Link>& link) {
    std::lock_guard lock(mutex_);
    if (link_ == link) link_ = nullptr;
  }

  template <class Response, class Attempt>
  absl::StatusOr<Response> Unary(Attempt attempt, Repeat repeat = Repeat::kWhileLost) {
    Backoff backoff(options.patience);
    for (bool told = false;; told = true) {
      bool connected_before = was_connected();
      absl::StatusOr<std::shared_ptr<Link>> link = GetLink();
      absl::Status status = link.status();
      if (link.ok()) {
        Call call(*this);
        Response response;
        status = Convert(attempt(**link, &call.context, &response));
        if (status.ok()) return response;
        if (!IsLostContact(status)) return status;
        if (is_shut_down()) return absl::CancelledError("shutting down");
        Drop(*link);
      } else if (!connected_before) {
        return status;
      }
      if (repeat == Repeat::kNever) return status;
      milliseconds pause = backoff.Next();
      if (pause == milliseconds::zero()) return status;
      if (!told && options.notice) options.notice("connection lost, trying again");
      if (!Wait(pause)) return absl::CancelledError("shutting down");
    }
  }

  bool Wait(milliseconds time) {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, time, [this] { return shut_down_; });
    return !shut_down_;
  }

  void Shutdown() {
    std::lock_guard lock(mutex_);
    shut_down_ = true;
    for (grpc::ClientContext* context : calls_) context->TryCancel();
    wake_.notify_all();
  }

  bool was_connected() {
    std::lock_guard lock(mutex_);
    return was_connected_;
  }

  const Options options;

 private:
  bool is_shut_down() {
    std::lock_guard lock(mutex_);
    return shut_down_;
  }

  absl::Status AlsoLookedAt(const absl::Status& status) const {
    if (options.also_looked_at.empty()) return status;
    v1::ErrorInfo info = InfoOf(status);
    std::string message(status.message().data(), status.message().size());
    return OwnError(status.code(), message + " (nor is there " + options.also_looked_at + ")",
                    info.metadata().at("next"));
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::shared_ptr<Link> link_;
  std::set<grpc::ClientContext*> calls_;
  bool was_connected_ = false;
  bool shut_down_ = false;
};

namespace {

// One attempt of one streaming call, over a reader (or reader-writer) of gRPC.
template <class Event, class Impl, class Reader>
class StreamOf : public Stream<Event> {
 public:
  template <class Open>
  StreamOf(Impl& impl, std::shared_ptr<Link> link, Open open)
      : impl_(impl), link_(std::move(link)), call_(impl), reader_(open(*link_, &call_.context)) {}

  ~StreamOf() override {
    if (finished_) return;
    call_.context.TryCancel();
    Event ignored;
    while (reader_->Read(&ignored)) {
    }
    reader_->Finish();
  }

  bool Next(Event* event) override { return reader_->Read(event); }

  absl::Status Finish() override {
    finished_ = true;
    absl::Status status = Convert(reader_->Finish());
    if (IsLostContact(status)) impl_.Drop(link_);
    return status;
  }

  void Cancel() override { call_.context.TryCancel(); }

  bool Send(const v1::InteractRequest& request) override {
    if constexpr (requires { reader_->Write(request); }) {
      return reader_->Write(request);
    } else {
      return false;
    }
  }

 private:
  Impl& impl_;
  std::shared_ptr<Link> link_;
  typename Impl::Call call_;
  std::unique_ptr<Reader> reader_;
  bool finished_ = false;
};

template <class Event, class Reader, class Impl, class Open>
absl::StatusOr<std::unique_ptr<Stream<Event>>> OpenStream(Impl& impl, Open open) {
  absl::StatusOr<std::shared_ptr<Link>> link = impl.GetLink();
  if (!link.ok()) return link.status();
  return std::make_unique<StreamOf<Event, Impl, Reader>>(impl, *link, open);
}

}  // namespace

Connection::Connection(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Connection::~Connection() = default;

// One unary call of one service, repeated while contact is lost.
#define HERMES_UNARY(Response, service, Method, Request, repeat)                \
  absl::StatusOr<v1::Response> Connection::Method(const v1::Request& request) { \
    return impl_->Unary<v1::Response>(                                          \
        [&](Link& link, grpc::ClientContext* context, v1::Response* response) { \
          return link.service->Method(context, request, response);              \
        },                                                                      \
        repeat);                                                                \
  }

HERMES_UNARY(Session, session, CreateSession, CreateSessionRequest, Repeat::kWhileLost)
HERMES_UNARY(Session, session, GetSession, GetSessionRequest, Repeat::kWhileLost)
HERMES_UNARY(ListSessionsResponse, session, ListSessions, ListSessionsRequest, Repeat::kWhileLost)
HERMES_UNARY(Session, session, UpdateSession, UpdateSessionRequest, Repeat::kWhileLost)
HERMES_UNARY(Session, session, RenewSession, RenewSessionRequest, Repeat::kWhileLost)
HERMES_UNARY(Command, exec, StartCommand, ExecuteRequest, Repeat::kWhileLost)
HERMES_UNARY(WriteStdinResponse, exec, WriteStdin, WriteStdinRequest, Repeat::kWhileLost)
HERMES_UNARY(SignalResponse, exec, Signal, SignalRequest, Repeat::kNever)
HERMES_UNARY(Command, exec, CancelCommand, CancelCommandRequest, Repeat::kWhileLost)
HERMES_UNARY(Command, exec, WaitCommand, WaitCommandRequest, Repeat::kWhileLost)
HERMES_UNARY(Command, exec, GetCommand, GetCommandRequest, Repeat::kWhileLost)
HERMES_UNARY(ListCommandsResponse, exec, ListCommands, ListCommandsRequest, Repeat::kWhileLost)
HERMES_UNARY(ReadOutputResponse, exec, ReadOutput, ReadOutputRequest, Repeat::kWhileLost)
HERMES_UNARY(SyncJob, sync, GetSync, GetSyncRequest, Repeat::kWhileLost)
HERMES_UNARY(ListSyncsResponse, sync, ListSyncs, ListSyncsRequest, Repeat::kWhileLost)
#undef HERMES_UNARY

absl::StatusOr<v1::InfoResponse> Connection::Info() {
  return impl_->Unary<v1::InfoResponse>(
      [](Link& link, grpc::ClientContext* context, v1::InfoResponse* response) {
        return link.admin->Info(context, v1::InfoRequest(), response);
      });
}

absl::StatusOr<v1::CapabilitiesResponse> Connection::Capabilities() {
  return impl_->Unary<v1::CapabilitiesResponse>(
      [](Link& link, grpc::ClientContext* context, v1::CapabilitiesResponse* response) {
        return link.admin->Capabilities(context, v1::CapabilitiesRequest(), response);
      });
}

absl::Status Connection::Drain() {
  // Once: after a drain that began, the daemon is expected to be gone.
  return impl_
      ->Unary<v1::DrainResponse>(
          [](Link& link, grpc::ClientContext* context, v1::DrainResponse* response) {
            return link.admin->Drain(context, v1::DrainRequest(), response);
          },
          Repeat::kNever)
      .status();
}

absl::StatusOr<std::unique_ptr<CommandStream>> Connection::Execute(
    const v1::ExecuteRequest& request) {
  return OpenStream<v1::CommandEvent, grpc::ClientReader<v1::CommandEvent>>(
      *impl_, [&](Link& link, grpc::ClientContext* context) {
        return link.exec->Execute(context, request);
      });
}

absl::StatusOr<std::unique_ptr<CommandStream>> Connection::Attach(
    const v1::AttachRequest& request) {
  return OpenStream<v1::CommandEvent, grpc::ClientReader<v1::CommandEvent>>(
      *impl_, [&](Link& link, grpc::ClientContext* context) {
        return link.exec->Attach(context, request);
      });
}

absl::StatusOr<std::unique_ptr<CommandStream>> Connection::Interact(
    const v1::InteractRequest& first) {
  auto stream =
      OpenStream<v1::CommandEvent, grpc::ClientReaderWriter<v1::InteractRequest, v1::CommandEvent>>(
          *impl_,
          [](Link& link, grpc::ClientContext* context) { return link.exec->Interact(context); });
  // A failed write shows up in Finish with its reason.
  if (stream.ok()) (*stream)->Send(first);
  return stream;
}

// One attempt of one streaming call of one service.
#define HERMES_STREAM(Event, service, Method, Request)                   \
  absl::StatusOr<std::unique_ptr<Stream<v1::Event>>> Connection::Method( \
      const v1::Request& request) {                                      \
    return OpenStream<v1::Event, grpc::ClientReader<v1::Event>>(         \
        *impl_, [&](Link& link, grpc::ClientContext* context) {          \
          return link.service->Method(context, request);                 \
        });                                                              \
  }

HERMES_STREAM(SessionEvent, session, WatchSessions, WatchSessionsRequest)
HERMES_STREAM(CleanupEvent, session, Cleanup, CleanupRequest)
HERMES_STREAM(SyncEvent, sync, Sync, SyncRequest)
HERMES_STREAM(SyncEvent, sync, SyncBack, SyncBackRequest)
HERMES_STREAM(SyncEvent, sync, RevertSync, RevertSyncRequest)
#undef HERMES_STREAM

void Connection::Shutdown() { impl_->Shutdown(); }
bool Connection::Pause(milliseconds time) { return impl_->Wait(time); }
bool Connection::was_connected() const { return impl_->was_connected(); }
const Connection::Options& Connection::options() const { return impl_->options; }

}  // namespace hermes::client
