// Sub-commands on files: sync, sync-back, undo, syncs.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <optional>

#include "client/commands.h"
#include "client/error.h"
#include "client/outcome.h"
#include "client/parse.h"
#include "client/progress.h"
#include "client/render_sync.h"
#include "client/signals.h"
#include "client/terminal.h"
#include "client/text.h"

namespace hermes::client {
namespace {

constexpr int kPageSize = 1000;

using SyncStream = Stream<v1::SyncEvent>;
using Open = std::function<absl::StatusOr<std::unique_ptr<SyncStream>>(Connection&)>;

// One sync, followed to its end over any number of connections. Followed again it is told from its
// beginning: what is known of it already is passed over.
class SyncFollower {
 public:
  SyncFollower(Context& context, Open open)
      : context_(context), open_(std::move(open)), bar_(context.progress) {}

  // The job has its end; or why it could not be followed to it.
  absl::Status Run() {
    Backoff backoff(context_.connection.options().patience);
    while (true) {
      absl::Status status = Attempt(backoff);
      if (finished_ || closed_) return absl::OkStatus();
      const bool lost = context_.connection.was_connected() && IsOutage(status);
      const auto pause = lost ? backoff.Next() : std::chrono::milliseconds::zero();
      if (pause.count() == 0) return status;
      bar_.SetPhase("connection lost, trying again");
      if (!context_.connection.Pause(pause)) return absl::CancelledError("shutting down");
    }
  }

  const SyncRecord& record() const { return record_; }
  bool closed() const { return closed_; }  // whoever reads our output is gone
  void ClearBar() { bar_.Clear(); }

 private:
  absl::Status Attempt(Backoff& backoff) {
    absl::StatusOr<std::unique_ptr<SyncStream>> stream = open_(context_.connection);
    if (!stream.ok()) return stream.status();
    skip_ = record_.entries.size();
    v1::SyncEvent event;
    while (!closed_ && (*stream)->Next(&event)) {
      backoff.Reset();
      Handle(event);
      if (context_.format == Format::kJsonLines) PrintLine(event);
    }
    if (closed_) return absl::OkStatus();
    absl::Status status = (*stream)->Finish();
    return status.ok() ? absl::UnavailableError("the stream ended before the sync did") : status;
  }

  void Handle(v1::SyncEvent& event) {
    passed_over_ = false;
    switch (event.event_case()) {
      case v1::SyncEvent::kStarted:
        passed_over_ = event.started().name() == record_.job.name();
        record_.job = event.started();
        return;
      case v1::SyncEvent::kEntries:
        return TakeEntries(event.mutable_entries()->mutable_entries());
      case v1::SyncEvent::kProgress:
        return bar_.SetProgress(event.progress());
      case v1::SyncEvent::kPhase:
        return bar_.SetPhase(event.phase().name());
      case v1::SyncEvent::kFinished:
        finished_ = true;
        record_.job = event.finished();
        return;
      default:
        passed_over_ = true;  // a beat
    }
  }

  // Leaves those that were not told before.
  void TakeEntries(google::protobuf::RepeatedPtrField<v1::SyncEntry>* entries) {
    const int known = static_cast<int>(std::min<size_t>(skip_, entries->size()));
    skip_ -= static_cast<size_t>(known);
    entries->DeleteSubrange(0, known);
    record_.entries.insert(record_.entries.end(), entries->begin(), entries->end());
  }

  void PrintLine(const v1::SyncEvent& event) {
    if (passed_over_) return;
    for (const v1::SyncEntry& entry : event.entries().entries())
      closed_ = closed_ || Print(EventLine("entry", entry)) != 0;
    if (event.has_entries()) return;
    const auto* field = v1::SyncEvent::descriptor()->FindFieldByNumber(event.event_case());
    const auto& message = event.GetReflection()->GetMessage(event, field);
    closed_ = Print(EventLine(field->name(), message)) != 0;
  }

  Context& context_;
  const Open open_;
  ProgressBar bar_;
  SyncRecord record_;
  size_t skip_ = 0;
  bool passed_over_ = false;
  bool finished_ = false;
  bool closed_ = false;
};

int Report(const Context& context, SyncRecord record) {
  const int code = SyncExitCode(record);
  if (context.format == Format::kJson) {
    v1::SyncJob whole = record.job;
    for (const v1::SyncEntry& entry : record.entries) *whole.add_entries() = entry;
    const int printed = Print(ToJson(whole, JsonStyle::kIndented));
    if (printed != 0) return printed;
  } else if (context.format == Format::kTable && !record.entries.empty()) {
    const int printed = Print(RenderEntries(record.entries, View{NowSeconds(), context.colour}));
    if (printed != 0) return printed;
  }
  if (context.format == Format::kTable || code == kExitHermes) SayText(DescribeSync(record));
  return code;
}

// Ctrl-C ends the call. The daemon ends the sync then, but for files that it is putting in place.
int RunSync(Context& context, const std::string& session, Open open) {
  std::atomic<int> interrupted = 0;
  SignalWatcher signals({SIGINT, SIGTERM, SIGHUP}, [&](int signal) {
    if (interrupted.exchange(signal) != 0) _exit(128 + signal);
    context.connection.Shutdown();
  });
  SyncFollower follower(context, std::move(open));
  const absl::Status status = follower.Run();
  follower.ClearBar();
  if (follower.closed()) return kExitPipe;
  if (status.ok()) return Report(context, follower.record());
  if (interrupted == 0) return Fail(status);
  Say("interrupted: what had not begun to put files in place has ended without a change, what had "
      "goes on to its end; no file is half done");
  SayText("  hermesctl syncs " + session + " tells how it went\n");
  return 128 + interrupted;
}

int ShowSync(Context& context, const std::string& name) {
  v1::GetSyncRequest request;
  request.set_name(name);
  absl::StatusOr<v1::SyncJob> job = context.connection.GetSync(request);
  if (!job.ok()) return Fail(job.status());
  if (context.format != Format::kTable) return Print(Formatted(context, *job, ""));
  const View view{NowSeconds(), context.colour};
  std::string text = RenderSyncs({*job}, view);
  const std::vector<v1::SyncEntry> entries(job->entries().begin(), job->entries().end());
  if (!entries.empty()) text += "\n" + RenderEntries(entries, view);
  return Print(text);
}

}  // namespace

int Sync(Context& context, const SyncArgs& args) {
  v1::SyncRequest request;
  absl::StatusOr<std::string> session = ParseSession(args.session);
  if (!session.ok()) return Fail(session.status());
  request.set_request_id(NewRequestId());
  request.set_session(*session);
  request.set_force(args.force);
  return RunSync(context, ShortName(*session),
                 [request](Connection& connection) { return connection.Sync(request); });
}

int SyncBack(Context& context, const SyncBackArgs& args) {
  v1::SyncBackRequest request;
  absl::StatusOr<std::string> session = ParseSession(args.session);
  if (!session.ok()) return Fail(session.status());
  request.set_request_id(NewRequestId());
  request.set_session(*session);
  request.set_validate_only(args.dry_run);
  request.set_approve_deletes(args.approve_deletes);
  request.set_salvage(args.salvage);
  return RunSync(context, ShortName(*session),
                 [request](Connection& connection) { return connection.SyncBack(request); });
}

int Undo(Context& context, const std::string& sync) {
  v1::RevertSyncRequest request;
  absl::StatusOr<std::string> name = ParseSync(sync);
  if (!name.ok()) return Fail(name.status());
  request.set_request_id(NewRequestId());
  request.set_name(*name);
  const std::string shown = ShortName(*name);
  return RunSync(context, shown.substr(0, shown.find('/')),
                 [request](Connection& connection) { return connection.RevertSync(request); });
}

int Syncs(Context& context, const std::string& text) {
  if (absl::StatusOr<std::string> sync = ParseSync(text); sync.ok()) {
    return ShowSync(context, *sync);
  }
  absl::StatusOr<std::string> session = ParseSession(text);
  if (!session.ok()) return Fail(session.status());
  v1::ListSyncsRequest request;
  request.set_parent(*session);
  request.set_page_size(kPageSize);
  std::vector<v1::SyncJob> syncs;
  do {
    absl::StatusOr<v1::ListSyncsResponse> page = context.connection.ListSyncs(request);
    if (!page.ok()) return Fail(page.status());
    for (v1::SyncJob& sync : *page->mutable_syncs()) syncs.push_back(std::move(sync));
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  if (context.format == Format::kTable) {
    return Print(RenderSyncs(syncs, View{NowSeconds(), context.colour}));
  }
  std::vector<const google::protobuf::Message*> messages;
  for (const v1::SyncJob& sync : syncs) messages.push_back(&sync);
  const bool lines = context.format == Format::kJsonLines;
  return Print(ToJson(messages, lines ? JsonStyle::kOneLine : JsonStyle::kIndented));
}

}  // namespace hermes::client
