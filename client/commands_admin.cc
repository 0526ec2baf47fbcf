// Sub-commands on the daemon, and what all sub-commands share.

#include <unistd.h>

#include <ctime>

#include "client/commands.h"
#include "client/error.h"
#include "client/outcome.h"
#include "client/parse.h"
#include "client/render.h"
#include "client/terminal.h"
#include "client/text.h"

namespace hermes::client {

int Fail(const absl::Status& status) {
  SayText(Describe(status));
  return kExitHermes;
}

int Print(const std::string& data) {
  switch (WriteAll(STDOUT_FILENO, data)) {
    case WriteResult::kOk:
      return 0;
    case WriteResult::kClosed:
      return kExitPipe;
    case WriteResult::kFailed:
      break;
  }
  Say("output could not be written");
  return kExitHermes;
}

std::string Formatted(const Context& context, const google::protobuf::Message& message,
                      const std::string& table) {
  if (context.format == Format::kTable) return table;
  bool lines = context.format == Format::kJsonLines;
  return ToJson(message, lines ? JsonStyle::kOneLine : JsonStyle::kIndented);
}

bool AsArray(const Context& context, size_t names) {
  return context.format == Format::kJson && names > 1;
}

int PrintArray(const std::vector<const google::protobuf::Message*>& messages) {
  return Print(ToJson(messages, JsonStyle::kIndented));
}

absl::Status FillPairs(const std::vector<std::string>& texts, std::string_view what,
                       google::protobuf::Map<std::string, std::string>* out) {
  for (const std::string& text : texts) {
    if (!IsUtf8(text)) {
      return absl::InvalidArgumentError(std::string(what) + " '" + text + "' is not valid UTF-8");
    }
    CLIENT_TRY(auto pair, ParsePair(text, what));
    if (!out->insert({pair.first, pair.second}).second) {
      return absl::InvalidArgumentError(std::string(what) + " names " + pair.first + " twice");
    }
  }
  return absl::OkStatus();
}

std::string Filter(const Text& state, const Text& backend, const std::vector<std::string>& labels) {
  std::string filter;
  auto add = [&](const std::string& term) { filter += (filter.empty() ? "" : " AND ") + term; };
  if (state) add("state=" + *state);
  if (backend) add("backend=" + *backend);
  for (const std::string& label : labels) add("label." + label);
  return filter;
}

absl::StatusOr<std::string> RequestId(const Text& given) {
  if (!given) return NewRequestId();
  if (IsUuid(*given)) return *given;
  return absl::InvalidArgumentError("--request-id '" + *given + "' is not a UUID such as " +
                                    NewRequestId());
}

int64_t NowSeconds() { return std::time(nullptr); }

int Info(Context& context) {
  absl::StatusOr<v1::InfoResponse> info = context.connection.Info();
  if (!info.ok()) return Fail(info.status());
  return Print(Formatted(context, *info, RenderInfo(*info, View{NowSeconds(), context.colour})));
}

int Capabilities(Context& context) {
  absl::StatusOr<v1::CapabilitiesResponse> answer = context.connection.Capabilities();
  if (!answer.ok()) return Fail(answer.status());
  return Print(
      Formatted(context, *answer, RenderBackends(*answer, View{NowSeconds(), context.colour})));
}

int Drain(Context& context) {
  absl::Status status = context.connection.Drain();
  return status.ok() ? 0 : Fail(status);
}

}  // namespace hermes::client
