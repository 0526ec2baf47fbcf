#include "daemon/rpc/wire_check.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <string>

#include "daemon/rpc/fields.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;

constexpr int kMaxDepth = 16;

// The path of the first bad string; empty: none was found before the end or the first broken byte.
std::string FindBadString(const google::protobuf::Descriptor& type, std::string_view bytes,
                          int depth) {
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  while (const uint32_t tag = in.ReadTag()) {
    const FieldDescriptor* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    const bool has_length =
        WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
    if (field == nullptr || !has_length) {
      if (!WireFormatLite::SkipField(&in, tag)) return "";
      continue;
    }
    int length = 0;
    const int start = in.ReadVarintSizeAsInt(&length) ? in.CurrentPosition() : -1;
    if (start < 0 || !in.Skip(length)) return "";
    const std::string_view value =
        bytes.substr(static_cast<size_t>(start), static_cast<size_t>(length));
    if (field->type() == FieldDescriptor::TYPE_STRING && !IsUtf8(value)) return field->name();
    if (field->type() != FieldDescriptor::TYPE_MESSAGE || depth == kMaxDepth) continue;
    const std::string inner = FindBadString(*field->message_type(), value, depth + 1);
    if (!inner.empty()) return field->name() + "." + inner;
  }
  return "";
}

}  // namespace

absl::Status ExplainBadMessage(const google::protobuf::Descriptor& type, std::string_view bytes) {
  const std::string path = FindBadString(type, bytes, 0);
  if (!path.empty()) return BadField(path, "must be UTF-8");
  return BadField("request", "is not a message of type " + type.full_name());
}

}  // namespace hermes
