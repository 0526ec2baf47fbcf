#include "client/error.h"

#include <map>

#include "absl/strings/cord.h"
#include "client/text.h"

namespace hermes::client {
namespace {

constexpr std::string_view kErrorInfoUrl = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr std::string_view kWireDomain = "hermes.v1";
constexpr std::string_view kOwnDomain = "hermesctl";
constexpr std::string_view kNextKey = "next";

void Attach(absl::Status& status, const v1::ErrorInfo& info) {
  // Through a view: the packaged Abseil exports no Cord constructor from a string.
  std::string bytes = info.SerializeAsString();
  status.SetPayload(absl::string_view(kErrorInfoUrl.data(), kErrorInfoUrl.size()),
                    absl::Cord(absl::string_view(bytes)));
}

absl::Status Make(absl::StatusCode code, std::string_view message) {
  return absl::Status(code, absl::string_view(message.data(), message.size()));
}

// What the message leaves to the metadata, e.g. " (end=20)".
std::string Particulars(const v1::ErrorInfo& info, std::string_view message) {
  std::map<std::string, std::string> sorted(info.metadata().begin(), info.metadata().end());
  std::string out;
  for (const auto& [key, value] : sorted) {
    if (key == kNextKey || message.find(value) != std::string_view::npos) continue;
    if (!out.empty()) out += ", ";
    out.append(key).append("=").append(value);
  }
  return out.empty() ? out : " (" + out + ")";
}

}  // namespace

absl::Status FromWire(int code, std::string_view message, std::string_view details) {
  absl::Status status = Make(static_cast<absl::StatusCode>(code), message);
  v1::ErrorStatus decoded;
  if (!decoded.ParseFromArray(details.data(), static_cast<int>(details.size()))) return status;
  for (const auto& any : decoded.details()) {
    v1::ErrorInfo info;
    if (any.type_url() == kErrorInfoUrl && info.ParseFromString(any.value())) Attach(status, info);
  }
  return status;
}

absl::Status OwnError(absl::StatusCode code, std::string_view message, std::string_view next) {
  absl::Status status = Make(code, message);
  v1::ErrorInfo info;
  info.set_domain(std::string(kOwnDomain));
  (*info.mutable_metadata())[std::string(kNextKey)] = std::string(next);
  Attach(status, info);
  return status;
}

v1::ErrorInfo InfoOf(const absl::Status& status) {
  v1::ErrorInfo info;
  auto payload = status.GetPayload(absl::string_view(kErrorInfoUrl.data(), kErrorInfoUrl.size()));
  if (payload.has_value()) info.ParseFromString(std::string(*payload));
  return info;
}

bool IsFromDaemon(const absl::Status& status) { return InfoOf(status).domain() == kWireDomain; }

bool IsLostContact(const absl::Status& status) {
  // A place that can't be reached is an answer: the daemon has tried, and says what is wrong.
  if (IsFromDaemon(status)) {
    return absl::IsUnavailable(status) && InfoOf(status).reason() != "BACKEND_UNREACHABLE";
  }
  if (!InfoOf(status).domain().empty()) return false;
  // A torn connection shows up in gRPC under several codes, depending on the moment.
  return absl::IsUnavailable(status) || absl::IsUnknown(status) || absl::IsInternal(status) ||
         absl::IsCancelled(status);
}

bool IsOutage(const absl::Status& status) {
  return IsLostContact(status) || (absl::IsUnavailable(status) && !IsFromDaemon(status));
}

std::string Describe(const absl::Status& status) {
  v1::ErrorInfo info = InfoOf(status);
  std::string_view message(status.message().data(), status.message().size());
  std::string out = "hermesctl: ";
  out += message.empty() ? absl::StatusCodeToString(status.code()) : ForTerminal(message);
  out += ForTerminal(Particulars(info, message));
  if (!info.reason().empty()) {
    out += " [" + ForTerminal(info.reason()) + "]";
  } else if (info.domain() != kOwnDomain && !absl::IsInvalidArgument(status)) {
    out += " [" + absl::StatusCodeToString(status.code()) + "]";
  }
  out += "\n";
  auto next = info.metadata().find(std::string(kNextKey));
  if (next != info.metadata().end() && !next->second.empty()) {
    out += "  " + ForTerminal(next->second) + "\n";
  }
  return out;
}

}  // namespace hermes::client
