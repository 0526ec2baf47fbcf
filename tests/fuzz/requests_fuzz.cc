// What callers send: names, ids, filters, page tokens, patterns, whole requests. The first byte
// chooses which. What is refused is refused with a reason for the caller, never BUG.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/rpc/decode.h"
#include "daemon/rpc/decode_sync.h"
#include "daemon/rpc/encode.h"
#include "daemon/rpc/filter.h"
#include "daemon/rpc/grep.h"
#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

void CheckRefusal(const absl::Status& status) {
  if (status.ok()) return;
  const std::optional<Reason> reason = ReasonOf(status);
  CHECK(reason == Reason::k_BAD_NAME || reason == Reason::k_BAD_FIELD ||
        reason == Reason::k_BAD_TIMEOUT || reason == Reason::k_PATH_ESCAPES_ROOT);
  CHECK(IsPrintable(std::string_view(status.message().data(), status.message().size())));
}

void CheckNames(std::string_view text) {
  const auto session = ParseSessionName("name", text);
  if (session.ok()) CHECK(IsId(*session) && "sessions/" + *session == text);
  const auto command = ParseCommandName("name", text);
  if (command.ok()) {
    CHECK(IsId(command->session) && IsId(command->command));
    CHECK("sessions/" + command->session + "/commands/" + command->command == text);
  }
  const auto sync = ParseSyncName("name", text);
  if (sync.ok()) {
    CHECK(IsId(sync->session) && IsId(sync->sync));
    CHECK("sessions/" + sync->session + "/syncs/" + sync->sync == text);
  }
  CHECK(session.ok() + command.ok() + sync.ok() <= 1);
  CheckRefusal(sync.status());
  CheckRefusal(session.status());
  CheckRefusal(command.status());
  const auto uuid = ParseUuid("request_id", text);
  if (uuid.ok()) CHECK(*ParseUuid("request_id", *uuid) == *uuid && uuid->size() == text.size());
  CheckRefusal(uuid.status());
  CheckRefusal(CheckPath("cwd", text));
}

void CheckText(std::string_view text) {
  CHECK(IsPrintable(Shown(text)));
  for (size_t most = 0; most <= std::min<size_t>(text.size(), 8); ++most) {
    const std::string_view cut = CutUtf8(text, most);
    CHECK(cut.size() <= most && text.starts_with(cut));
    if (IsUtf8(text)) CHECK(IsUtf8(cut) && cut.size() + 4 > most);
  }
  const auto terms = ParseFilter(text);
  CheckRefusal(terms.status());
  if (terms.ok()) {
    std::string joined;
    for (const auto& [key, value] : *terms)
      joined += (joined.empty() ? "" : " AND ") + key + "=" + value;
    CHECK(joined == text);
  }
  CheckRefusal(DecodeSessionFilter(text).status());
  const auto token = DecodePageToken("list", text);
  CheckRefusal(token.status());
  if (token.ok() && !token->empty()) CHECK(EncodePageToken("list", *token) == text);
  if (!text.empty() && 2 * (text.size() + 5) <= kMaxTokenBytes)
    CHECK(*DecodePageToken("list", EncodePageToken("list", text)) == text);
}

// The lines that match are the same however the output is cut.
void CheckGrep(std::string_view text) {
  constexpr size_t kRoom = 256;
  const size_t split = text.find('\0');
  const std::string pattern(text.substr(0, std::min<size_t>(split, 64)));
  const auto whole = Grep::Make(pattern, kRoom);
  CheckRefusal(whole.status().ok() ? whole.status() : BadField("re2", "is no pattern"));
  if (!whole.ok() || split == std::string_view::npos) return;
  const auto cut = *Grep::Make(pattern, kRoom);
  const std::string_view output = text.substr(split + 1);
  (*whole)->Feed(7, output);
  (*whole)->Break();
  for (size_t at = 0; at < output.size(); ++at) cut->Feed(7 + at, output.substr(at, 1));
  cut->Break();
  CHECK((*whole)->matches().size() == cut->matches().size());
  for (size_t i = 0; i < cut->matches().size(); ++i) {
    const Grep::Line& line = cut->matches()[i];
    CHECK((*whole)->matches()[i].offset == line.offset && (*whole)->matches()[i].text == line.text);
    CHECK(output.substr(line.offset - 7).starts_with(line.text));
  }
  CHECK((*whole)->full() == cut->full() && (*whole)->next_offset() == cut->next_offset());
}

template <typename Request, typename Decode>
void CheckRequest(std::string_view text, Decode decode) {
  Request request;
  if (!request.ParseFromArray(text.data(), static_cast<int>(text.size()))) return;
  CheckRefusal(decode(std::move(request)));
}

void CheckExecute(std::string_view text, bool interactive) {
  const DecodeExecuteOptions options = {.made_up_id = "id", .interactive = interactive};
  CheckRequest<v1::ExecuteRequest>(text, [&options](v1::ExecuteRequest request) {
    const auto call = DecodeExecute(std::move(request), options);
    if (call.ok()) {
      CHECK(IsId(call->start.session_id));
      CHECK(call->start.spec.run_timeout <= options.limits.max_run_timeout);
      CHECK(call->start.spec.kill_grace <= kMaxGrace);
    }
    return call.status();
  });
}

// Mounts that are accepted can be shown, and asked for again with the same meaning.
absl::Status CreateStatus(v1::CreateSessionRequest request) {
  const auto create = DecodeCreate(std::move(request), {}, 1000);
  if (!create.ok()) return create.status();
  CHECK(create->sync.mounts.size() <= sync::kMaxMounts);
  SessionInfo info;
  info.sync = create->sync;
  v1::Session shown;
  Encode(info, &shown);
  v1::CreateSessionRequest again;
  *again.mutable_mounts() = shown.mounts();
  const auto settings = DecodeSyncSettings(again);
  CHECK(settings.ok());
  for (size_t i = 0; i < settings->mounts.size(); ++i) {
    sync::Mount mount = create->sync.mounts[i];
    mount.beneath.clear();  // of a profile's credentials
    CHECK(settings->mounts[i] == mount);
  }
  return absl::OkStatus();
}

void CheckRequests(std::string_view text, uint8_t which) {
  const DecodeLimits limits;
  switch (which) {
    case 0:
      return CheckExecute(text, false);
    case 1:
      return CheckExecute(text, true);
    case 2:
      return CheckRequest<v1::AttachRequest>(
          text, [&](auto request) { return DecodeAttach(request, limits).status(); });
    case 3:
      return CheckRequest<v1::ReadOutputRequest>(
          text, [](auto request) { return DecodeRead(request).status(); });
    case 4:
      return CheckRequest<v1::ListCommandsRequest>(
          text, [](auto request) { return DecodeListCommands(request).status(); });
    case 5:
      return CheckRequest<v1::CreateSessionRequest>(text, CreateStatus);
    case 6:
      return CheckRequest<v1::UpdateSessionRequest>(
          text, [&](auto request) { return DecodeUpdate(request, limits).status(); });
    case 7:
      return CheckRequest<v1::RenewSessionRequest>(
          text, [&](auto request) { return DecodeRenew(request, limits).status(); });
    case 8:
      return CheckRequest<v1::ListSessionsRequest>(
          text, [](auto request) { return DecodeListSessions(request).status(); });
    case 9:
      return CheckRequest<v1::CleanupRequest>(
          text, [](auto request) { return DecodeCleanup(request).status(); });
    case 10:
      return CheckRequest<v1::WaitCommandRequest>(
          text, [](auto request) { return DecodeWait(request).status(); });
    case 11:
      return CheckRequest<v1::SyncRequest>(
          text, [](auto request) { return DecodeSync(std::move(request), 1000).status(); });
    case 12:
      return CheckRequest<v1::SyncBackRequest>(
          text, [](auto request) { return DecodeSyncBack(std::move(request), 1000).status(); });
    case 13:
      return CheckRequest<v1::RevertSyncRequest>(
          text, [](auto request) { return DecodeRevert(std::move(request), 1000).status(); });
    default:
      return CheckRequest<v1::ListSyncsRequest>(
          text, [](auto request) { return DecodeListSyncs(request).status(); });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'n':
      CheckNames(text);
      break;
    case 't':
      CheckText(text);
      break;
    case 'g':
      CheckGrep(text);
      break;
    default:
      CheckRequests(text, data[0] % 15);
  }
  return 0;
}

}  // namespace hermes
