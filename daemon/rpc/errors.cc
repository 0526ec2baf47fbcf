#include "daemon/rpc/errors.h"

#include <chrono>
#include <optional>

#include "daemon/rpc/fields.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"
#include "hermes/v1/error.pb.h"

namespace hermes {
namespace {

constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";

// When a retry is worth it; a backend that knows better says so in retry_after_ms.
constexpr char kRetryAfter[] = "retry_after_ms";
constexpr int64_t kRateLimitDelayMs = 5000;
constexpr int64_t kDrainDelayMs = 2000;
constexpr int64_t kStandardDelayMs = 500;
constexpr int64_t kMaxDelayMs = 3'600'000;

// nullopt: retrying is not the answer.
std::optional<int64_t> RetryDelayMs(Reason reason, const Metadata& metadata) {
  const bool limited = reason == Reason::k_BACKEND_RATE_LIMIT;
  if (!limited && InfoOf(reason).code != absl::StatusCode::kUnavailable) return std::nullopt;
  const auto told = metadata.find(kRetryAfter);
  if (told != metadata.end()) {
    char* end = nullptr;
    const int64_t ms = std::strtoll(told->second.c_str(), &end, 10);
    if (end != told->second.c_str() && *end == '\0' && ms >= 0 && ms <= kMaxDelayMs) return ms;
  }
  if (limited) return kRateLimitDelayMs;
  return reason == Reason::k_DRAINING ? kDrainDelayMs : kStandardDelayMs;
}

}  // namespace

WireError ToWire(const absl::Status& status) {
  WireError wire;
  if (status.ok()) return wire;
  std::optional<Reason> reason = ReasonOf(status);
  if (!reason && absl::IsCancelled(status)) {
    wire.code = static_cast<int>(absl::StatusCode::kCancelled);
    wire.message =
        FitText(std::string_view(status.message().data(), status.message().size()), kMaxErrorText);
    return wire;
  }
  if (!reason) LogError("an error without a reason reached a caller: " + status.ToString());
  const ReasonInfo& info = InfoOf(reason.value_or(Reason::k_BUG));
  const Metadata metadata = MetadataOf(status);
  wire.code = static_cast<int>(info.code);
  wire.message =
      FitText(std::string_view(status.message().data(), status.message().size()), kMaxErrorText);

  v1::ErrorInfo error;
  error.set_reason(std::string(info.name));
  error.set_domain(kErrorDomain);
  for (const auto& [key, value] : metadata) {
    (*error.mutable_metadata())[FitText(key, kMaxErrorValue)] = FitText(value, kMaxErrorValue);
  }
  // Who made the error may know better what to do.
  error.mutable_metadata()->insert({"next", std::string(info.next)});

  v1::ErrorStatus details;
  details.set_code(wire.code);
  details.set_message(wire.message);
  google::protobuf::Any* any = details.add_details();
  any->set_type_url(kErrorInfoUrl);
  any->set_value(error.SerializeAsString());
  if (const auto delay = RetryDelayMs(info.reason, metadata)) {
    v1::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(*delay / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(*delay % 1000 * 1'000'000));
    any = details.add_details();
    any->set_type_url(kRetryInfoUrl);
    any->set_value(retry.SerializeAsString());
  }
  wire.details = details.SerializeAsString();
  return wire;
}

}  // namespace hermes
