#include "daemon/runtime/status.h"

#include <cstring>

#include "absl/strings/cord.h"
#include "daemon/runtime/check.h"

namespace hermes {
namespace {

constexpr char kPayloadUrl[] = "hermes.v1/reason";

// The payload is a row of strings, each "<decimal length>:<bytes>": the reason's name, then key and
// value of every metadata entry. Any bytes pass; lengths make quoting needless.
void AppendField(std::string_view field, std::string* out) {
  out->append(std::to_string(field.size())).append(":").append(field);
}

// Takes one field off the front of `*in`; nullopt if it is not well-formed.
std::optional<std::string> TakeField(std::string_view* in) {
  size_t length = 0;
  size_t at = 0;
  while (at < in->size() && (*in)[at] >= '0' && (*in)[at] <= '9') {
    length = length * 10 + static_cast<size_t>((*in)[at++] - '0');
    if (length > in->size()) return std::nullopt;
  }
  if (at == 0 || at == in->size() || (*in)[at] != ':') return std::nullopt;
  in->remove_prefix(at + 1);
  if (length > in->size()) return std::nullopt;
  std::string field(in->substr(0, length));
  in->remove_prefix(length);
  return field;
}

struct Payload {
  Reason reason;
  Metadata metadata;
};

std::optional<Payload> PayloadOf(const absl::Status& status) {
  auto cord = status.GetPayload(kPayloadUrl);
  if (!cord.has_value()) return std::nullopt;
  const std::string bytes(*cord);
  std::string_view rest = bytes;
  std::optional<std::string> name = TakeField(&rest);
  if (!name.has_value()) return std::nullopt;
  std::optional<Reason> reason = ReasonNamed(*name);
  if (!reason.has_value()) return std::nullopt;
  Payload payload{*reason, {}};
  while (!rest.empty()) {
    std::optional<std::string> key = TakeField(&rest);
    std::optional<std::string> value = TakeField(&rest);
    if (!key.has_value() || !value.has_value()) return std::nullopt;
    payload.metadata.insert_or_assign(*std::move(key), *std::move(value));
  }
  return payload;
}

absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

const std::vector<ReasonInfo>& ReasonCatalogue() {
  static const auto* const catalogue = new std::vector<ReasonInfo>{
#define X(reason, code, what, next) \
  {Reason::k_##reason, #reason, absl::StatusCode::code, what, next},
#include "daemon/runtime/reasons.inc"
#undef X
  };
  return *catalogue;
}

const ReasonInfo& InfoOf(Reason reason) {
  const size_t index = static_cast<size_t>(reason);
  CHECK(index < ReasonCatalogue().size());
  return ReasonCatalogue()[index];
}

std::optional<Reason> ReasonNamed(std::string_view name) {
  for (const ReasonInfo& info : ReasonCatalogue()) {
    if (info.name == name) return info.reason;
  }
  return std::nullopt;
}

absl::Status Error(Reason reason, std::string_view message, Metadata metadata) {
  const ReasonInfo& info = InfoOf(reason);
  std::string payload;
  AppendField(info.name, &payload);
  for (const auto& [key, value] : metadata) {
    AppendField(key, &payload);
    AppendField(value, &payload);
  }
  absl::Status status(info.code, AbslView(message));
  status.SetPayload(kPayloadUrl, absl::Cord(AbslView(payload)));
  return status;
}

absl::Status BadField(std::string_view field, std::string_view message) {
  std::string text(field);
  text.append(": ").append(message);
  return Error(Reason::k_BAD_FIELD, text, {{"field", std::string(field)}});
}

absl::Status InField(std::string_view outer, const absl::Status& inner) {
  Metadata metadata = MetadataOf(inner);
  const std::string field = metadata["field"];
  std::string_view message(inner.message().data(), inner.message().size());
  std::string path(outer);
  if (!field.empty()) {
    path.append(".").append(field);
    if (message.starts_with(field + ": ")) message.remove_prefix(field.size() + 2);
  }
  metadata["field"] = path;
  const Reason reason = ReasonOf(inner).value_or(Reason::k_BUG);
  return Error(reason, path + ": " + std::string(message), std::move(metadata));
}

std::optional<Reason> ReasonOf(const absl::Status& status) {
  std::optional<Payload> payload = PayloadOf(status);
  if (!payload.has_value()) return std::nullopt;
  return payload->reason;
}

Metadata MetadataOf(const absl::Status& status) {
  std::optional<Payload> payload = PayloadOf(status);
  return payload.has_value() ? std::move(payload->metadata) : Metadata{};
}

absl::Status ErrnoStatus(int err, std::string_view what) {
  CHECK(err != 0);
  std::string text(what);
  const char* description = strerrordesc_np(err);
  text.append(": ");
  text.append(description != nullptr ? description : "errno " + std::to_string(err));
  return absl::Status(absl::ErrnoToStatusCode(err), text);
}

}  // namespace hermes
