// Sub-commands that look at commands, wait for them or end them.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "client/commands.h"
#include "client/error.h"
#include "client/foreground.h"
#include "client/outcome.h"
#include "client/parse.h"
#include "client/render.h"
#include "client/terminal.h"
#include "client/text.h"

namespace hermes::client {
namespace {

constexpr int kPageSize = 1000;
constexpr uint64_t kReadBytes = 256 << 10;  // the most the daemon gives at once
constexpr uint64_t kToTheEnd = std::numeric_limits<uint64_t>::max();
constexpr std::chrono::seconds kWaitSlice(30);
constexpr std::chrono::milliseconds kLeastSlice(1);  // zero would mean the daemon's default

// Prints only the wanted stream, always to stdout.
class OneStream : public EventSink {
 public:
  explicit OneStream(bool stderr_stream) : stderr_stream_(stderr_stream) {}

  bool OnOutput(const v1::Output& output) override {
    return !Wanted(output.channel()) || WriteAll(STDOUT_FILENO, output.data()) == WriteResult::kOk;
  }
  void OnGap(const v1::Gap& gap) override {
    if (Wanted(gap.channel())) Say(ForTerminal(DescribeGap(gap)));
  }

 private:
  bool Wanted(v1::Channel channel) const { return (channel == v1::STDERR) == stderr_stream_; }

  const bool stderr_stream_;
};

// Prints what one answer holds; the offset after it.
absl::StatusOr<uint64_t> PrintParts(OutputTracker& tracker, const v1::ReadOutputResponse& answer) {
  auto part = answer.parts().begin();
  for (const v1::Gap& gap : answer.gaps()) {
    for (; part != answer.parts().end() && part->offset() < gap.from_offset(); ++part) {
      if (Print(std::string(tracker.Accept(*part).data)) != 0) return absl::CancelledError();
    }
    if (auto missing = tracker.Accept(gap)) Say(ForTerminal(DescribeGap(*missing)));
  }
  for (; part != answer.parts().end(); ++part) {
    OutputTracker::Accepted accepted = tracker.Accept(*part);
    if (accepted.gap) Say(ForTerminal(DescribeGap(*accepted.gap)));
    if (Print(std::string(accepted.data)) != 0) return absl::CancelledError();
  }
  return answer.next_offset();
}

// [from, to) of what is there now.
int PrintRange(Context& context, v1::ReadOutputRequest request, uint64_t from, uint64_t to) {
  v1::Cursor start;
  start.set_stdout_offset(from);
  start.set_stderr_offset(from);
  OutputTracker tracker(start);
  while (from < to) {
    request.set_offset(from);
    request.set_limit(std::min(kReadBytes, to - from));
    absl::StatusOr<v1::ReadOutputResponse> answer = context.connection.ReadOutput(request);
    if (!answer.ok()) return Fail(answer.status());
    absl::StatusOr<uint64_t> next = PrintParts(tracker, *answer);
    if (!next.ok()) return kExitPipe;
    if (!answer->more()) return 0;
    if (*next <= from) return Fail(absl::InternalError("the daemon did not advance in the output"));
    from = *next;
  }
  return 0;
}

int PrintMatches(Context& context, v1::ReadOutputRequest request, const LogsArgs& args) {
  request.set_re2(*args.grep);
  request.set_offset(args.since_offset);
  while (true) {
    absl::StatusOr<v1::ReadOutputResponse> answer = context.connection.ReadOutput(request);
    if (!answer.ok()) return Fail(answer.status());
    for (const v1::Output& line : answer->parts()) {
      std::string text = line.data();
      if (!text.ends_with('\n')) text += '\n';
      if (int code = Print(text); code != 0) return code;
    }
    for (const v1::Gap& gap : answer->gaps()) Say(ForTerminal(DescribeGap(gap)));
    if (!answer->more() || answer->next_offset() <= request.offset()) return 0;
    request.set_offset(answer->next_offset());
  }
}

absl::StatusOr<uint64_t> Produced(Context& context, const std::string& name, bool stderr_stream) {
  v1::GetCommandRequest request;
  request.set_name(name);
  absl::StatusOr<v1::Command> command = context.connection.GetCommand(request);
  if (!command.ok()) return command.status();
  return stderr_stream ? command->produced().stderr_offset() : command->produced().stdout_offset();
}

int FollowLog(Context& context, const LogsArgs& args, const std::string& name, uint64_t from) {
  OneStream sink(args.stderr_stream);
  FollowTarget target;
  target.name = name;
  if (args.stderr_stream) {
    target.from.set_stderr_offset(from);
  } else {
    target.from.set_stdout_offset(from);
  }
  Follower follower(context.connection, sink, target);
  absl::StatusOr<v1::Command> command = follower.Run();
  if (follower.sink_closed()) return kExitPipe;
  return command.ok() ? 0 : Fail(command.status());
}

absl::Status CheckLogs(const LogsArgs& args) {
  if (args.follow && args.grep) {
    return absl::InvalidArgumentError("-f does not go with --grep: pipe into grep instead");
  }
  if (args.follow && args.head) return absl::InvalidArgumentError("-f does not go with --head");
  if (args.grep && (args.head || args.tail)) {
    return absl::InvalidArgumentError("--grep does not go with --head or --tail");
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::SignalRequest::Scope> ParseScope(const Text& text) {
  if (!text || *text == "tree") return v1::SignalRequest::TREE;
  if (*text == "leader") return v1::SignalRequest::LEADER;
  if (*text == "foreground") return v1::SignalRequest::FOREGROUND;
  return absl::InvalidArgumentError("--scope '" + *text +
                                    "' is not one of tree, leader, foreground");
}

absl::Status SendSignal(Context& context, const KillArgs& args, const std::string& name) {
  v1::SignalRequest request;
  request.set_name(name);
  CLIENT_TRY(int number, ParseSignal(*args.signal));
  CLIENT_TRY(v1::SignalRequest::Scope scope, ParseScope(args.scope));
  request.set_signal(number);
  request.set_scope(scope);
  return context.connection.Signal(request).status();
}

// `together`: the answers are printed later, as one.
int Cancel(Context& context, const KillArgs& args, const std::string& name,
           std::vector<v1::Command>* together) {
  v1::CancelCommandRequest request;
  request.set_name(name);
  if (args.grace) {
    absl::StatusOr<google::protobuf::Duration> grace = ParseDuration(*args.grace);
    if (!grace.ok()) return Fail(grace.status());
    *request.mutable_grace() = *grace;
  }
  absl::StatusOr<v1::Command> command = context.connection.CancelCommand(request);
  if (!command.ok()) return Fail(command.status());
  int printed = together != nullptr ? 0 : Print(Formatted(context, *command, ""));
  if (together != nullptr) together->push_back(*command);
  if (command->exit().tree().survivors() == 0) return printed;
  Say(ForTerminal(DescribeEnd(*command)));
  return kExitHermes;
}

}  // namespace

int Logs(Context& context, const LogsArgs& args) {
  if (absl::Status status = CheckLogs(args); !status.ok()) return Fail(status);
  absl::StatusOr<std::string> name = ParseCommand(args.command);
  if (!name.ok()) return Fail(name.status());
  absl::StatusOr<uint64_t> head = args.head ? ParseSize(*args.head) : uint64_t{0};
  if (!head.ok()) return Fail(head.status());
  absl::StatusOr<uint64_t> tail = args.tail ? ParseSize(*args.tail) : uint64_t{0};
  if (!tail.ok()) return Fail(tail.status());

  v1::ReadOutputRequest request;
  request.set_name(*name);
  if (args.stderr_stream) request.set_channel(v1::STDERR);
  if (args.grep) return PrintMatches(context, request, args);
  uint64_t from = args.since_offset;
  if (args.tail) {
    absl::StatusOr<uint64_t> produced = Produced(context, *name, args.stderr_stream);
    if (!produced.ok()) return Fail(produced.status());
    uint64_t tail_start = *produced - std::min(*produced, *tail);
    if (args.head) {
      uint64_t head_end = std::min(from + *head, *produced);
      if (int code = PrintRange(context, request, from, head_end); code != 0) return code;
      from = head_end;
    }
    if (args.head && tail_start > from) {
      Say("bytes " + std::to_string(from) + " to " + std::to_string(tail_start) + " are not shown");
    }
    from = std::max(from, tail_start);
  }
  if (args.follow) return FollowLog(context, args, *name, from);
  bool only_head = args.head && !args.tail;
  return PrintRange(context, request, from, only_head ? from + *head : kToTheEnd);
}

int Ps(Context& context, const PsArgs& args) {
  v1::ListCommandsRequest request;
  request.set_parent("sessions/-");
  if (!args.session.empty()) {
    absl::StatusOr<std::string> session = ParseSession(args.session);
    if (!session.ok()) return Fail(session.status());
    request.set_parent(*session);
  }
  request.set_page_size(kPageSize);
  request.set_filter(Filter(args.state, std::nullopt, args.labels));
  std::vector<v1::Command> commands;
  do {
    absl::StatusOr<v1::ListCommandsResponse> page = context.connection.ListCommands(request);
    if (!page.ok()) return Fail(page.status());
    for (v1::Command& command : *page->mutable_commands()) commands.push_back(std::move(command));
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  if (context.format == Format::kTable) {
    return Print(RenderCommands(commands, View{NowSeconds(), context.colour}));
  }
  std::vector<const google::protobuf::Message*> messages;
  for (const v1::Command& command : commands) messages.push_back(&command);
  bool lines = context.format == Format::kJsonLines;
  return Print(ToJson(messages, lines ? JsonStyle::kOneLine : JsonStyle::kIndented));
}

int Kill(Context& context, const KillArgs& args) {
  std::vector<std::string> names;
  for (const std::string& text : args.commands) {
    absl::StatusOr<std::string> name = ParseCommand(text);
    if (!name.ok()) return Fail(name.status());
    names.push_back(*name);
  }
  const bool together = !args.signal && AsArray(context, names.size());
  std::vector<v1::Command> ended;
  int code = 0;
  for (const std::string& name : names) {
    if (!args.signal) {
      code = std::max(code, Cancel(context, args, name, together ? &ended : nullptr));
    } else if (absl::Status status = SendSignal(context, args, name); !status.ok()) {
      code = Fail(status);
    }
  }
  if (!together) return code;
  std::vector<const google::protobuf::Message*> messages;
  for (const v1::Command& command : ended) messages.push_back(&command);
  return std::max(code, PrintArray(messages));
}

int Wait(Context& context, const std::string& command, const Text& timeout) {
  absl::StatusOr<std::string> name = ParseCommand(command);
  if (!name.ok()) return Fail(name.status());
  using Clock = std::chrono::steady_clock;
  std::optional<Clock::time_point> deadline;
  if (timeout) {
    absl::StatusOr<google::protobuf::Duration> limit = ParseDuration(*timeout);
    if (!limit.ok()) return Fail(limit.status());
    deadline = Clock::now() + std::chrono::seconds(limit->seconds()) +
               std::chrono::nanoseconds(limit->nanos());
  }
  v1::WaitCommandRequest request;
  request.set_name(*name);
  while (true) {
    std::chrono::nanoseconds slice = kWaitSlice;
    if (deadline) {
      slice = std::clamp<std::chrono::nanoseconds>(*deadline - Clock::now(), kLeastSlice, slice);
    }
    request.mutable_timeout()->set_seconds(slice / std::chrono::seconds(1));
    request.mutable_timeout()->set_nanos(
        static_cast<int>((slice % std::chrono::seconds(1)).count()));
    absl::StatusOr<v1::Command> answer = context.connection.WaitCommand(request);
    if (!answer.ok()) return Fail(answer.status());
    if (HasEnded(*answer)) {
      if (int printed = Print(Formatted(context, *answer, "")); printed != 0) return printed;
      std::string end = DescribeEnd(*answer);
      if (!end.empty() && context.format == Format::kTable) Say(ForTerminal(end));
      return ExitCodeOf(*answer);
    }
    if (deadline && Clock::now() >= *deadline) {
      Say(ForTerminal(ShortName(*name)) + " still runs");
      return kExitTimeout;
    }
  }
}

}  // namespace hermes::client
