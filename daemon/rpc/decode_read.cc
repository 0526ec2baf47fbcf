#include <array>
#include <utility>

#include "daemon/rpc/decode.h"
#include "daemon/rpc/filter.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr std::string_view kLabelPrefix = "label.";
// "sessions/-" stands for all sessions.
constexpr std::string_view kAllSessions = "sessions/-";

absl::Status DecodeChannel(v1::Channel channel, ReadCall& read) {
  switch (channel) {
    case v1::CHANNEL_UNSPECIFIED:
      return absl::OkStatus();
    case v1::STDOUT:
    case v1::TTY:
      read.stream = OutputStream::kStdout;
      read.wants_tty = channel == v1::TTY;
      return absl::OkStatus();
    case v1::STDERR:
      read.stream = OutputStream::kStderr;
      return absl::OkStatus();
    default:
      return BadField("channel", "is not a channel that this daemon knows");
  }
}

absl::Status CheckReadBytes(std::string_view field, uint64_t value) {
  if (value <= kMaxReadBytes) return absl::OkStatus();
  return BadField(field, "must be at most " + std::to_string(kMaxReadBytes));
}

std::optional<CommandState> CommandStateOf(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, CommandState>, 7> kStates = {{
      {"QUEUED", CommandState::kQueued},
      {"LAUNCHING", CommandState::kLaunching},
      {"RUNNING", CommandState::kRunning},
      {"EXITED", CommandState::kExited},
      {"KILLED", CommandState::kKilled},
      {"NEVER_STARTED", CommandState::kNeverStarted},
      {"UNKNOWN", CommandState::kUnknown},
  }};
  for (const auto& [known, state] : kStates) {
    if (known == name) return state;
  }
  return std::nullopt;
}

absl::StatusOr<CommandFilter> DecodeCommandFilter(std::string_view text) {
  CommandFilter filter;
  ASSIGN_OR_RETURN(FilterTerms terms, ParseFilter(text));
  for (auto& [key, value] : terms) {
    if (key == "state") {
      filter.state = CommandStateOf(value);
      if (!filter.state) return BadField("filter", "there is no state " + Shown(value));
    } else if (key.starts_with(kLabelPrefix) && IsLabelKey(key.substr(kLabelPrefix.size()))) {
      filter.labels[key.substr(kLabelPrefix.size())] = std::move(value);
    } else {
      return BadField("filter", "knows state and label.KEY, not " + Shown(key));
    }
  }
  return filter;
}

}  // namespace

absl::StatusOr<ReadCall> DecodeRead(const v1::ReadOutputRequest& request) {
  ReadCall read;
  ASSIGN_OR_RETURN(read.name, ParseCommandName("name", request.name()));
  RETURN_IF_ERROR(DecodeChannel(request.channel(), read));
  const bool ends = request.head_bytes() != 0 || request.tail_bytes() != 0;
  const bool grep = !request.re2().empty();
  if (ends && grep) return BadField("re2", "cannot stand beside head_bytes or tail_bytes");
  if (ends && request.offset() != 0) return BadField("offset", "cannot stand beside head or tail");
  if (ends && request.limit() != 0) return BadField("limit", "cannot stand beside head or tail");
  RETURN_IF_ERROR(CheckReadBytes("limit", request.limit()));
  RETURN_IF_ERROR(CheckReadBytes("head_bytes", request.head_bytes()));
  RETURN_IF_ERROR(CheckReadBytes("tail_bytes", request.tail_bytes()));
  if (request.re2().size() > kMaxPatternBytes) {
    return BadField("re2", "must have at most " + std::to_string(kMaxPatternBytes) + " bytes");
  }
  using Form = ReadCall::Form;
  read.form = ends ? Form::kEnds : grep ? Form::kGrep : Form::kRange;
  read.offset = request.offset();
  if (request.limit() != 0) read.limit = request.limit();
  read.head = request.head_bytes();
  read.tail = request.tail_bytes();
  read.pattern = request.re2();
  return read;
}

bool CommandFilter::Matches(const CommandInfo& info) const {
  if (state && info.state != *state) return false;
  for (const auto& [key, value] : labels) {
    const auto found = info.labels.find(key);
    if (found == info.labels.end() || found->second != value) return false;
  }
  return true;
}

std::string ListKey(std::string_view session) { return "commands/" + std::string(session); }

absl::StatusOr<ListCommandsCall> DecodeListCommands(const v1::ListCommandsRequest& request) {
  ListCommandsCall call;
  if (request.parent() != kAllSessions) {
    ASSIGN_OR_RETURN(call.session, ParseSessionName("parent", request.parent()));
  }
  ASSIGN_OR_RETURN(call.page_size, ParsePageSize(request.page_size(), kStandardPage, kMaxPage));
  ASSIGN_OR_RETURN(call.before, DecodePageToken(ListKey(call.session), request.page_token()));
  ASSIGN_OR_RETURN(call.filter, DecodeCommandFilter(request.filter()));
  return call;
}

}  // namespace hermes
