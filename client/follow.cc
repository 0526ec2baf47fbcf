#include "client/follow.h"

#include <chrono>

#include "client/error.h"
#include "client/parse.h"

namespace hermes::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// A stream that held this long was a sign of life even when it brought no output.
constexpr std::chrono::seconds kHeldLongEnough(5);

absl::Status GaveUp(const absl::Status& last, const std::string& name, const v1::Cursor& cursor) {
  std::string next = name.empty() ? "Repeat the call with the same --request-id."
                                  : "The command may still run: " + AttachHint(name, cursor);
  return OwnError(absl::StatusCode::kUnavailable,
                  "contact was lost and did not come back: " +
                      std::string(last.message().data(), last.message().size()),
                  next);
}

}  // namespace

std::string AttachHint(const std::string& name, const v1::Cursor& cursor) {
  return "hermesctl attach " + ShortName(name) + " --from-stdout " +
         std::to_string(cursor.stdout_offset()) + " --from-stderr " +
         std::to_string(cursor.stderr_offset());
}

Follower::Follower(Connection& connection, EventSink& sink, FollowTarget target)
    : connection_(connection),
      sink_(sink),
      target_(std::move(target)),
      name_(target_.name),
      tracker_(target_.from) {}

std::string Follower::WaitForName() {
  std::unique_lock lock(mutex_);
  named_.wait(lock, [this] { return done_ || !name_.empty(); });
  return name_;
}

std::string Follower::name() const {
  std::lock_guard lock(mutex_);
  return name_;
}

v1::Cursor Follower::cursor() const {
  std::lock_guard lock(mutex_);
  return tracker_.next();
}

void Follower::Resize(const v1::Pty& size) {
  std::lock_guard lock(mutex_);
  size_ = size;
  if (stream_ == nullptr) return;
  v1::InteractRequest request;
  *request.mutable_resize() = size;
  stream_->Send(request);
}

void Follower::SetStream(CommandStream* stream) {
  std::lock_guard lock(mutex_);
  stream_ = target_.interact ? stream : nullptr;
  if (stream_ == nullptr || !size_) return;
  v1::InteractRequest request;
  *request.mutable_resize() = *size_;
  stream_->Send(request);
}

absl::StatusOr<std::unique_ptr<CommandStream>> Follower::Open() {
  v1::InteractRequest first;
  std::string known = name();
  if (known.empty()) {
    // The very same body each time: the daemon refuses an id that comes back with another one.
    if (!target_.interact) return connection_.Execute(target_.start);
    *first.mutable_start() = target_.start;
    return connection_.Interact(first);
  }
  v1::AttachRequest attach;
  attach.set_name(known);
  *attach.mutable_from() = cursor();
  if (!target_.interact) return connection_.Attach(attach);
  *first.mutable_attach() = attach;
  return connection_.Interact(first);
}

void Follower::HandleStarted(const v1::Started& started) {
  {
    std::lock_guard lock(mutex_);
    name_ = started.name();
    named_.notify_all();
  }
  if (!told_started_) sink_.OnStarted(started);
  told_started_ = true;
}

bool Follower::HandleOutput(const v1::Output& output, Backoff& backoff) {
  OutputTracker::Accepted accepted;
  {
    std::lock_guard lock(mutex_);
    accepted = tracker_.Accept(output);
  }
  if (accepted.gap) sink_.OnGap(*accepted.gap);
  if (accepted.data.empty()) return true;
  backoff.Reset();
  if (accepted.data.size() == output.data().size()) return sink_.OnOutput(output);
  v1::Output rest;
  rest.set_channel(output.channel());
  rest.set_offset(accepted.offset);
  rest.set_data(accepted.data.data(), accepted.data.size());
  return sink_.OnOutput(rest);
}

Follower::Step Follower::Handle(const v1::CommandEvent& event, Backoff& backoff) {
  told_lost_ = false;
  switch (event.event_case()) {
    case v1::CommandEvent::kStarted:
      HandleStarted(event.started());
      return Step::kGoOn;
    case v1::CommandEvent::kOutput:
      return HandleOutput(event.output(), backoff) ? Step::kGoOn : Step::kSinkClosed;
    case v1::CommandEvent::kGap: {
      std::unique_lock lock(mutex_);
      std::optional<v1::Gap> gap = tracker_.Accept(event.gap());
      lock.unlock();
      if (gap) sink_.OnGap(*gap);
      return Step::kGoOn;
    }
    case v1::CommandEvent::kPhase:
      sink_.OnPhase(event.phase());
      return Step::kGoOn;
    case v1::CommandEvent::kFinished:
      finished_ = event.finished();
      return Step::kFinished;
    default:
      return Step::kGoOn;
  }
}

// OK: finished, or the sink is closed. Otherwise contact was lost, or the daemon refused.
absl::Status Follower::Attempt(Backoff& backoff) {
  absl::StatusOr<std::unique_ptr<CommandStream>> stream = Open();
  if (!stream.ok()) return stream.status();
  steady_clock::time_point opened = steady_clock::now();
  SetStream(stream->get());
  Step step = Step::kGoOn;
  v1::CommandEvent event;
  while (step == Step::kGoOn && (*stream)->Next(&event)) step = Handle(event, backoff);
  SetStream(nullptr);
  if (step == Step::kSinkClosed) sink_closed_ = true;
  if (step != Step::kGoOn) return absl::OkStatus();
  if (steady_clock::now() - opened >= kHeldLongEnough) backoff.Reset();
  absl::Status status = (*stream)->Finish();
  return status.ok() ? absl::UnavailableError("the stream ended before the command did") : status;
}

void Follower::TellLost() {
  if (!told_lost_ && connection_.options().notice) {
    connection_.options().notice("connection lost, attaching again");
  }
  told_lost_ = true;
}

absl::StatusOr<v1::Command> Follower::Run() {
  Backoff backoff(connection_.options().patience);
  absl::StatusOr<v1::Command> result = absl::CancelledError("shutting down");
  while (true) {
    absl::Status status = Attempt(backoff);
    if (finished_) {
      sink_closed_ = !sink_.OnFinished(*finished_);
      result = *finished_;
      break;
    }
    if (sink_closed_) break;
    // Without any contact so far nothing was sent: that is worth saying at once.
    bool can_retry = connection_.was_connected() && IsOutage(status);
    milliseconds pause = can_retry ? backoff.Next() : milliseconds::zero();
    if (pause == milliseconds::zero()) {
      result = can_retry ? GaveUp(status, name(), cursor()) : status;
      break;
    }
    TellLost();
    if (!connection_.Pause(pause)) break;
  }
  std::lock_guard lock(mutex_);
  done_ = true;
  named_.notify_all();
  return result;
}

}  // namespace hermes::client
