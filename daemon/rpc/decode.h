#pragma once

// From requests on the wire to requests of the core, with every field checked. Pure; messages only,
// no gRPC. Failures are BAD_NAME, BAD_TIMEOUT or BAD_FIELD naming the field; nothing is clamped.
// Requests come by value: large fields are moved out of them.

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/core/requests.h"
#include "daemon/core/session_table.h"
#include "daemon/rpc/fields.h"
#include "hermes/v1/exec.pb.h"
#include "hermes/v1/session.pb.h"

namespace hermes {

struct DecodeLimits {
  Duration max_run_timeout = std::chrono::hours(24 * 7);
  Duration max_ttl = std::chrono::hours(24 * 366);  // of leases and idle times
};

inline constexpr Duration kStandardGrace = std::chrono::seconds(2);
inline constexpr Duration kMaxGrace = std::chrono::minutes(10);
inline constexpr Duration kStandardWait = std::chrono::seconds(30);
inline constexpr Duration kMaxWait = std::chrono::seconds(60);
inline constexpr uint64_t kMinOutputLimit = 128 << 10;
inline constexpr uint64_t kMaxOutputLimit = 64ull << 30;
inline constexpr uint64_t kStandardOutputLimit = 128ull << 20;
inline constexpr size_t kMaxStdinChunk = 1 << 20;   // of WriteStdin and Interact
inline constexpr size_t kMaxReadBytes = 256 << 10;  // of one ReadOutput
inline constexpr size_t kMaxPatternBytes = 4096;
inline constexpr size_t kSummaryBytes = 200;
inline constexpr size_t kStandardPage = 100;
inline constexpr size_t kMaxPage = 1000;

// Where a reader of a command's output starts and how long it stays.
struct FollowRequest {
  Cursor from;
  bool follow = true;
  std::optional<Duration> wait;
  std::string expected_incarnation;
};

struct ExecuteCall {
  StartCommand start;
  FollowRequest follow;
};

struct DecodeExecuteOptions {
  DecodeLimits limits;
  std::string made_up_id;    // run id when the request has none
  bool interactive = false;  // stdin is open unless the request says otherwise
  bool background = false;   // nobody follows it, so unless the request says so it is not cancelled
  uint32_t uid = 0;
};
absl::StatusOr<ExecuteCall> DecodeExecute(v1::ExecuteRequest request, DecodeExecuteOptions options);

struct AttachCall {
  CommandRef name;
  FollowRequest follow;
};
absl::StatusOr<AttachCall> DecodeAttach(const v1::AttachRequest& request, DecodeLimits limits);

struct StdinChunk {
  uint64_t offset = 0;
  std::string data;
  bool eof = false;
};
absl::StatusOr<StdinChunk> DecodeStdin(std::string_view field, v1::StdinChunk chunk);
absl::StatusOr<PtySize> DecodePty(std::string_view field, const v1::Pty& pty);
absl::Status CheckSignal(std::string_view field, int32_t signal);
// As Channel::Signal counts scopes.
absl::StatusOr<int> DecodeScope(v1::SignalRequest::Scope scope);

// nullopt: the default of the command.
absl::StatusOr<std::optional<Duration>> DecodeGrace(bool set,
                                                    const google::protobuf::Duration& grace);
absl::StatusOr<Duration> DecodeWait(const v1::WaitCommandRequest& request);

// What to read of one stream; exactly one form is set.
struct ReadCall {
  CommandRef name;
  std::optional<OutputStream> stream;  // nullopt: stdout, or the terminal
  bool wants_tty = false;              // the caller said TTY
  enum class Form { kRange, kEnds, kGrep } form = Form::kRange;
  uint64_t offset = 0;
  size_t limit = kMaxReadBytes;
  size_t head = 0;
  size_t tail = 0;
  std::string pattern;
};
absl::StatusOr<ReadCall> DecodeRead(const v1::ReadOutputRequest& request);

struct CommandFilter {
  std::optional<CommandState> state;
  Labels labels;
  bool Matches(const CommandInfo& info) const;
};
struct ListCommandsCall {
  std::string session;  // empty: all
  size_t page_size = kStandardPage;
  std::string before;
  CommandFilter filter;
};
// The list a page token of ListCommands belongs to.
std::string ListKey(std::string_view session);
absl::StatusOr<ListCommandsCall> DecodeListCommands(const v1::ListCommandsRequest& request);

absl::StatusOr<CreateSession> DecodeCreate(v1::CreateSessionRequest request, DecodeLimits limits,
                                           uint32_t uid);
absl::StatusOr<UpdateSession> DecodeUpdate(const v1::UpdateSessionRequest& request,
                                           DecodeLimits limits);

struct RenewCall {
  std::string session;
  Duration extend{0};
};
absl::StatusOr<RenewCall> DecodeRenew(const v1::RenewSessionRequest& request, DecodeLimits limits);

struct ListSessionsCall {
  size_t page_size = kStandardPage;
  std::string after;
  SessionTable::Filter filter;
};
absl::StatusOr<ListSessionsCall> DecodeListSessions(const v1::ListSessionsRequest& request);
absl::StatusOr<SessionTable::Filter> DecodeSessionFilter(std::string_view filter);

struct CleanupCall {
  std::string session;
  std::string request_id;  // empty: none
  Duration grace = kStandardGrace;
  bool discard = false;
};
absl::StatusOr<CleanupCall> DecodeCleanup(const v1::CleanupRequest& request);

}  // namespace hermes
