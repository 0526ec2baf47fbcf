#include "tests/client/scripted_daemon.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "hermes/v1/error.pb.h"
#include "hermes/v1/exec.grpc.pb.h"
#include "hermes/v1/session.grpc.pb.h"
#include "hermes/v1/sync.grpc.pb.h"
#include "tests/fakes/temp_dir.h"

namespace hermes::client {
namespace {

constexpr std::chrono::seconds kPatience(10);

grpc::Status WithReason(grpc::StatusCode code, const std::string& message,
                        const std::string& reason, const std::string& next) {
  v1::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("hermes.v1");
  (*info.mutable_metadata())["next"] = next;
  v1::ErrorStatus status;
  status.set_code(code);
  auto* any = status.add_details();
  any->set_type_url("type.googleapis.com/google.rpc.ErrorInfo");
  any->set_value(info.SerializeAsString());
  return grpc::Status(code, message, status.SerializeAsString());
}

std::string At(const v1::Cursor& cursor) {
  return " @" + std::to_string(cursor.stdout_offset()) + "," +
         std::to_string(cursor.stderr_offset());
}

v1::CommandEvent OutputEvent(v1::Channel channel, uint64_t offset, const std::string& data) {
  v1::CommandEvent event;
  event.mutable_output()->set_channel(channel);
  event.mutable_output()->set_offset(offset);
  event.mutable_output()->set_data(data);
  return event;
}

std::string Mounts(const v1::CreateSessionRequest& request) {
  std::string out;
  for (const v1::Mount& mount : request.mounts()) {
    out += " mount " + mount.host_root() + ":" + mount.remote_root() + ":" +
           std::to_string(mount.policy());
  }
  if (request.has_profile()) out += " home " + request.profile().home();
  if (request.profile().include_secrets()) out += " with secrets";
  for (const std::string& file : request.profile().credentials()) out += " " + file;
  if (request.has_sync()) {
    out += " on_error " + std::to_string(request.sync().on_error()) + " every " +
           std::to_string(request.sync().min_interval().seconds()) + "s";
  }
  return out;
}

grpc::Status Away() {
  return WithReason(grpc::StatusCode::UNAVAILABLE, "box.example does not answer",
                    "BACKEND_UNREACHABLE", "Look whether the host runs.");
}

}  // namespace

v1::CommandEvent Started(const std::string& name) {
  v1::CommandEvent event;
  event.mutable_started()->set_name(name);
  return event;
}

v1::CommandEvent Out(uint64_t offset, const std::string& data) {
  return OutputEvent(v1::STDOUT, offset, data);
}

v1::CommandEvent Err(uint64_t offset, const std::string& data) {
  return OutputEvent(v1::STDERR, offset, data);
}

v1::CommandEvent GapEvent(uint64_t from, uint64_t to, const std::string& reason) {
  v1::CommandEvent event;
  event.mutable_gap()->set_channel(v1::STDOUT);
  event.mutable_gap()->set_from_offset(from);
  event.mutable_gap()->set_to_offset(to);
  event.mutable_gap()->set_reason(reason);
  return event;
}

v1::CommandEvent Exited(int code) {
  v1::CommandEvent event;
  v1::Command& command = *event.mutable_finished();
  command.set_name("sessions/box/commands/c1");
  command.set_state(v1::Command::EXITED);
  command.mutable_exit()->set_code(code);
  command.mutable_exit()->set_shell_code(code);
  command.mutable_exit()->set_cause(v1::Exit::NATURAL);
  return event;
}

v1::CommandEvent Cancelled() {
  v1::CommandEvent event;
  v1::Command& command = *event.mutable_finished();
  command.set_name("sessions/box/commands/c1");
  command.set_state(v1::Command::KILLED);
  command.mutable_exit()->set_signal(15);
  command.mutable_exit()->set_shell_code(130);
  command.mutable_exit()->set_cause(v1::Exit::CANCELLED);
  command.mutable_exit()->mutable_tree()->set_verified(true);
  return event;
}

// Answers about one session.
class ScriptedSessions final : public v1::SessionService::Service {
 public:
  explicit ScriptedSessions(std::function<void(std::string)> note) : note_(std::move(note)) {}

  grpc::Status CreateSession(grpc::ServerContext*, const v1::CreateSessionRequest* request,
                             v1::Session* response) override {
    note_("CreateSession " + request->session_id() + " " + request->backend() + " " +
          std::to_string(request->idle_ttl().seconds()) + Mounts(*request));
    *response = Get();
    return grpc::Status::OK;
  }

  grpc::Status GetSession(grpc::ServerContext*, const v1::GetSessionRequest* request,
                          v1::Session* response) override {
    note_("GetSession " + request->name());
    *response = Get();
    return grpc::Status::OK;
  }

  grpc::Status Cleanup(grpc::ServerContext*, const v1::CleanupRequest* request,
                       grpc::ServerWriter<v1::CleanupEvent>* writer) override {
    note_("Cleanup " + request->request_id() + " " + request->name());
    v1::CleanupEvent event;
    event.mutable_phase()->set_name("killing");
    writer->Write(event);
    if (cleanups_++ == 0) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "torn");
    if (std::lock_guard lock(mutex_); pending_) {
      *event.mutable_sync() = *pending_;
      writer->Write(event);
      return WithReason(grpc::StatusCode::FAILED_PRECONDITION, "2 files are not on the host",
                        "PULL_PENDING", "Run sync-back, or cleanup with discard.");
    }
    *event.mutable_finished() = Get();
    writer->Write(event);
    return grpc::Status::OK;
  }

  void Set(v1::Session session) {
    std::lock_guard lock(mutex_);
    session_ = std::move(session);
  }

  void Refuse(v1::SyncJob pending) {
    std::lock_guard lock(mutex_);
    pending_ = std::move(pending);
    cleanups_ = 1;
  }

 private:
  v1::Session Get() {
    std::lock_guard lock(mutex_);
    return session_;
  }

  const std::function<void(std::string)> note_;
  std::mutex mutex_;
  v1::Session session_;
  std::optional<v1::SyncJob> pending_;
  std::atomic<int> cleanups_ = 0;
};

// Answers about syncs, from a script.
class ScriptedSyncs final : public v1::SyncService::Service {
 public:
  using Reply = ScriptedDaemon::SyncReply;
  using Writer = grpc::ServerWriter<v1::SyncEvent>;
  explicit ScriptedSyncs(std::function<void(std::string)> note) : note_(std::move(note)) {}

  grpc::Status Sync(grpc::ServerContext* context, const v1::SyncRequest* request,
                    Writer* writer) override {
    note_("Sync " + request->request_id() + " " + request->session() +
          (request->force() ? " force" : ""));
    return Play(context, writer);
  }

  grpc::Status SyncBack(grpc::ServerContext* context, const v1::SyncBackRequest* request,
                        Writer* writer) override {
    note_("SyncBack " + request->request_id() + " " + request->session() +
          (request->validate_only() ? " dry-run" : "") +
          (request->approve_deletes() ? " approve" : "") + (request->salvage() ? " salvage" : ""));
    return Play(context, writer);
  }

  grpc::Status RevertSync(grpc::ServerContext* context, const v1::RevertSyncRequest* request,
                          Writer* writer) override {
    note_("RevertSync " + request->request_id() + " " + request->name());
    return Play(context, writer);
  }

  grpc::Status GetSync(grpc::ServerContext*, const v1::GetSyncRequest* request,
                       v1::SyncJob* response) override {
    note_("GetSync " + request->name());
    std::lock_guard lock(mutex_);
    *response = syncs_.at(0);
    return grpc::Status::OK;
  }

  grpc::Status ListSyncs(grpc::ServerContext*, const v1::ListSyncsRequest* request,
                         v1::ListSyncsResponse* response) override {
    note_("ListSyncs " + request->parent());
    std::lock_guard lock(mutex_);
    size_t at = request->page_token().empty() ? 0 : std::stoul(request->page_token());
    for (size_t end = at + 2; at < end && at < syncs_.size(); ++at) {
      *response->add_syncs() = syncs_[at];
    }
    if (at < syncs_.size()) response->set_next_page_token(std::to_string(at));
    return grpc::Status::OK;
  }

  void Script(std::vector<Reply> replies) {
    std::lock_guard lock(mutex_);
    for (Reply& reply : replies) replies_.push_back(std::move(reply));
  }
  void Set(std::vector<v1::SyncJob> syncs) {
    std::lock_guard lock(mutex_);
    syncs_ = std::move(syncs);
  }

 private:
  grpc::Status Play(grpc::ServerContext* context, Writer* writer) {
    std::unique_lock lock(mutex_);
    if (replies_.empty()) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "torn");
    const Reply reply = std::move(replies_.front());
    replies_.pop_front();
    lock.unlock();
    for (const v1::SyncEvent& event : reply.events) writer->Write(event);
    if (reply.end == ScriptedDaemon::End::kTorn) {
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "torn");
    }
    if (reply.end == ScriptedDaemon::End::kAway) return Away();
    if (reply.end == ScriptedDaemon::End::kRefused) {
      return WithReason(grpc::StatusCode::FAILED_PRECONDITION, "the session has no mounts",
                        "CAPABILITY_MISSING", "See the session's capabilities.");
    }
    if (reply.end == ScriptedDaemon::End::kHang) {
      lock.lock();
      // gRPC tells of it by no event here.
      while (!context->IsCancelled()) never_.wait_for(lock, std::chrono::milliseconds(20));
      note_("Cancelled");
    }
    return grpc::Status::OK;
  }

  const std::function<void(std::string)> note_;
  std::mutex mutex_;
  std::condition_variable never_;
  std::deque<Reply> replies_;
  std::vector<v1::SyncJob> syncs_;
};

class ScriptedDaemon::Impl final : public v1::ExecService::Service {
 public:
  Impl() {
    socket = directory_.path() + "/hermes.sock";
    Start();
  }

  ~Impl() override { Stop(); }

  void Start() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + socket, grpc::InsecureServerCredentials());
    builder.RegisterService(this);
    builder.RegisterService(&sessions);
    builder.RegisterService(&syncs);
    std::lock_guard lock(mutex_);
    stopping_ = false;
    server_ = builder.BuildAndStart();
  }

  void Stop() {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    std::unique_ptr<grpc::Server> server = std::move(server_);
    lock.unlock();
    if (server != nullptr) server->Shutdown(gpr_inf_past(GPR_CLOCK_MONOTONIC));
    if (stopper_.joinable()) stopper_.join();
  }

  grpc::Status Execute(grpc::ServerContext* context, const v1::ExecuteRequest* request,
                       grpc::ServerWriter<v1::CommandEvent>* writer) override {
    Note("Execute " + request->request_id() + " " + request->shell() + At(request->from()));
    return Play(context, [writer](const v1::CommandEvent& event) { writer->Write(event); });
  }

  grpc::Status Attach(grpc::ServerContext* context, const v1::AttachRequest* request,
                      grpc::ServerWriter<v1::CommandEvent>* writer) override {
    Note("Attach " + request->name() + At(request->from()));
    return Play(context, [writer](const v1::CommandEvent& event) { writer->Write(event); });
  }

  grpc::Status Interact(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::CommandEvent, v1::InteractRequest>* stream) override {
    std::thread reader([this, stream] {
      v1::InteractRequest request;
      while (stream->Read(&request)) NoteInteract(request);
    });
    grpc::Status status =
        Play(context, [stream](const v1::CommandEvent& event) { stream->Write(event); });
    context->TryCancel();
    reader.join();
    return status;
  }

  grpc::Status WriteStdin(grpc::ServerContext*, const v1::WriteStdinRequest* request,
                          v1::WriteStdinResponse* response) override {
    std::lock_guard lock(mutex_);
    const v1::StdinChunk& chunk = request->chunk();
    if (chunk.offset() > stdin_.size()) {
      return WithReason(grpc::StatusCode::OUT_OF_RANGE, "gap", "STDIN_OFFSET_MISMATCH", "");
    }
    size_t skip = std::min(stdin_.size() - chunk.offset(), chunk.data().size());
    size_t take = chunk.data().size() - skip;
    if (awkward_bytes_ != 0) take = std::min(take, awkward_bytes_);
    stdin_.append(chunk.data(), skip, take);
    bool all = skip + take == chunk.data().size();
    if (chunk.eof() && all) stdin_closed_ = released_ = true;
    changed_.notify_all();
    if (awkward_bytes_ != 0 && ++stdin_calls_ % 2 == 0) {
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "torn");
    }
    response->set_accepted_offset(stdin_.size());
    return grpc::Status::OK;
  }

  grpc::Status CancelCommand(grpc::ServerContext* context, const v1::CancelCommandRequest* request,
                             v1::Command* response) override {
    Note("Cancel " + request->name());
    *response = Cancelled().finished();
    std::unique_lock lock(mutex_);
    released_ = true;
    changed_.notify_all();
    while (cancel_stalls_ && !stopping_ && !context->IsCancelled()) {
      changed_.wait_for(lock, std::chrono::milliseconds(20));
    }
    return grpc::Status::OK;
  }

  grpc::Status Signal(grpc::ServerContext*, const v1::SignalRequest* request,
                      v1::SignalResponse*) override {
    Note("Signal " + std::to_string(request->signal()) + " " + request->name());
    return grpc::Status::OK;
  }

  grpc::Status StartCommand(grpc::ServerContext*, const v1::ExecuteRequest* request,
                            v1::Command* response) override {
    const bool told = request->sync_before() != v1::SYNC_BEFORE_UNSPECIFIED;
    Note("Start " + request->shell() +
         (told ? " " + v1::SyncBefore_Name(request->sync_before()) : ""));
    response->set_name(request->session() + "/commands/c1");
    response->set_state(v1::Command::RUNNING);
    return grpc::Status::OK;
  }

  grpc::Status ReadOutput(grpc::ServerContext*, const v1::ReadOutputRequest* request,
                          v1::ReadOutputResponse* response) override {
    std::lock_guard lock(mutex_);
    uint64_t at = request->offset();
    if (at > log_.bytes.size()) return grpc::Status(grpc::StatusCode::OUT_OF_RANGE, "beyond");
    if (at < log_.gap_to && at >= log_.gap_from) {
      *response->add_gaps() = GapEvent(at, log_.gap_to, "dropped").gap();
      at = log_.gap_to;
    }
    uint64_t most = std::min<uint64_t>(request->limit(), log_.most);
    if (at < log_.gap_from) most = std::min(most, log_.gap_from - at);
    *response->add_parts() = Out(at, log_.bytes.substr(at, most)).output();
    at += response->parts(0).data().size();
    response->set_next_offset(at);
    response->set_more(at < log_.bytes.size());
    return grpc::Status::OK;
  }

  grpc::Status ListCommands(grpc::ServerContext*, const v1::ListCommandsRequest* request,
                            v1::ListCommandsResponse* response) override {
    Note("ListCommands " + request->parent() + " " + request->filter());
    std::lock_guard lock(mutex_);
    size_t at = request->page_token().empty() ? 0 : std::stoul(request->page_token());
    for (size_t end = at + 2; at < end && at < commands_.size(); ++at) {
      *response->add_commands() = commands_[at];
    }
    if (at < commands_.size()) response->set_next_page_token(std::to_string(at));
    return grpc::Status::OK;
  }

  grpc::Status GetCommand(grpc::ServerContext*, const v1::GetCommandRequest*,
                          v1::Command* response) override {
    std::lock_guard lock(mutex_);
    *response = commands_.at(0);
    response->mutable_produced()->set_stdout_offset(log_.bytes.size());
    return grpc::Status::OK;
  }

  grpc::Status WaitCommand(grpc::ServerContext*, const v1::WaitCommandRequest* request,
                           v1::Command* response) override {
    Note("Wait " + request->name());
    std::lock_guard lock(mutex_);
    *response = commands_.at(0);
    if (waits_++ == 0) response->set_state(v1::Command::RUNNING);
    return grpc::Status::OK;
  }

  void Note(const std::string& call) {
    std::lock_guard lock(mutex_);
    calls_.push_back(call);
    changed_.notify_all();
  }

  bool WaitForCall(const std::string& prefix) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] {
      return std::any_of(calls_.begin(), calls_.end(),
                         [&](const std::string& call) { return call.starts_with(prefix); });
    });
  }

  std::string socket;
  ScriptedSessions sessions{[this](const std::string& call) { Note(call); }};
  ScriptedSyncs syncs{[this](const std::string& call) { Note(call); }};

 private:
  friend class ScriptedDaemon;

  void NoteInteract(const v1::InteractRequest& request) {
    if (request.has_start()) {
      const v1::Pty& pty = request.start().pty();
      Note("Interact start " + std::to_string(pty.cols()) + "x" + std::to_string(pty.rows()));
    } else if (request.has_attach()) {
      Note("Interact attach " + request.attach().name() + At(request.attach().from()));
    } else if (request.has_resize()) {
      Note("Resize " + std::to_string(request.resize().cols()) + "x" +
           std::to_string(request.resize().rows()));
    }
  }

  Reply TakeReply() {
    std::lock_guard lock(mutex_);
    if (replies_.empty()) return Reply{{}, End::kTorn, {}};
    Reply reply = std::move(replies_.front());
    replies_.pop_front();
    return reply;
  }

  // Until the client goes away, or is answered.
  void Hang(grpc::ServerContext* context) {
    std::unique_lock lock(mutex_);
    while (!released_ && !stopping_ && !context->IsCancelled()) {
      changed_.wait_for(lock, std::chrono::milliseconds(20));
    }
  }

  template <class Write>
  grpc::Status Play(grpc::ServerContext* context, Write write) {
    Reply reply = TakeReply();
    for (const v1::CommandEvent& event : reply.events) write(event);
    switch (reply.end) {
      case End::kOk:
        return grpc::Status::OK;
      case End::kUnavailable:
        return WithReason(grpc::StatusCode::UNAVAILABLE, "the daemon drains", "DRAINING", "Retry.");
      case End::kAway:
        return Away();
      case End::kTorn:
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "torn");
      case End::kRefused:
        return WithReason(grpc::StatusCode::FAILED_PRECONDITION, "session box is FAILED",
                          "SESSION_NOT_READY", "Create a new one.");
      case End::kHang:
        Hang(context);
        for (const v1::CommandEvent& event : reply.then) write(event);
        return grpc::Status::OK;
      case End::kStop:
        stopper_ = std::thread([this] {
          std::unique_lock lock(mutex_);
          stopping_ = true;
          std::unique_ptr<grpc::Server> server = std::move(server_);
          lock.unlock();
          server->Shutdown(gpr_inf_past(GPR_CLOCK_MONOTONIC));
          server.reset();
          Note("Stopped");
        });
        Hang(context);
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
    }
    return grpc::Status::OK;
  }

  TempDir directory_;
  std::unique_ptr<grpc::Server> server_;
  std::thread stopper_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Reply> replies_;
  Log log_;
  std::vector<v1::Command> commands_;
  int waits_ = 0;
  std::vector<std::string> calls_;
  std::string stdin_;
  size_t awkward_bytes_ = 0;
  bool cancel_stalls_ = false;
  int stdin_calls_ = 0;
  bool stdin_closed_ = false;
  bool released_ = false;
  bool stopping_ = false;
};

ScriptedDaemon::ScriptedDaemon() : impl_(std::make_unique<Impl>()) {}
ScriptedDaemon::~ScriptedDaemon() = default;

const std::string& ScriptedDaemon::socket() const { return impl_->socket; }

void ScriptedDaemon::Script(std::vector<Reply> replies) {
  std::lock_guard lock(impl_->mutex_);
  for (Reply& reply : replies) impl_->replies_.push_back(std::move(reply));
}

void ScriptedDaemon::StallCancelAnswers() {
  std::lock_guard lock(impl_->mutex_);
  impl_->cancel_stalls_ = true;
}

void ScriptedDaemon::MakeStdinAwkward(size_t bytes_each) {
  std::lock_guard lock(impl_->mutex_);
  impl_->awkward_bytes_ = bytes_each;
}

void ScriptedDaemon::SetLog(Log log) {
  std::lock_guard lock(impl_->mutex_);
  impl_->log_ = std::move(log);
}

void ScriptedDaemon::SetCommands(std::vector<v1::Command> commands) {
  std::lock_guard lock(impl_->mutex_);
  impl_->commands_ = std::move(commands);
}

void ScriptedDaemon::SetSession(v1::Session session) { impl_->sessions.Set(std::move(session)); }

void ScriptedDaemon::RefuseCleanup(v1::SyncJob sync) { impl_->sessions.Refuse(std::move(sync)); }

void ScriptedDaemon::ScriptSyncs(std::vector<SyncReply> replies) {
  impl_->syncs.Script(std::move(replies));
}

void ScriptedDaemon::SetSyncs(std::vector<v1::SyncJob> syncs) {
  impl_->syncs.Set(std::move(syncs));
}

void ScriptedDaemon::Stop() { impl_->Stop(); }
void ScriptedDaemon::Start() { impl_->Start(); }

std::vector<std::string> ScriptedDaemon::calls() {
  std::lock_guard lock(impl_->mutex_);
  return impl_->calls_;
}

bool ScriptedDaemon::WaitForCall(const std::string& prefix) { return impl_->WaitForCall(prefix); }

bool ScriptedDaemon::WaitForStdin(const std::string& bytes) {
  std::unique_lock lock(impl_->mutex_);
  return impl_->changed_.wait_for(lock, kPatience, [&] { return impl_->stdin_ == bytes; });
}

std::string ScriptedDaemon::stdin_bytes() {
  std::lock_guard lock(impl_->mutex_);
  return impl_->stdin_;
}

bool ScriptedDaemon::stdin_closed() {
  std::lock_guard lock(impl_->mutex_);
  return impl_->stdin_closed_;
}

}  // namespace hermes::client
