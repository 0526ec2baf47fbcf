#pragma once

// Says what is wrong with bytes that protobuf refused. Pure.

#include <google/protobuf/descriptor.h>

#include <string_view>

#include "absl/status/status.h"

namespace hermes {

// BAD_FIELD naming the first string field that is no UTF-8, or "request" when the bytes are no
// message of this type at all.
absl::Status ExplainBadMessage(const google::protobuf::Descriptor& type, std::string_view bytes);

}  // namespace hermes
