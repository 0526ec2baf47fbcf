#include "client/json.h"

#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "client/text.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"

namespace hermes::client {
namespace {

using Json = nlohmann::ordered_json;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

Json Encode(const Message& message);

std::string Dump(const Json& json, JsonStyle style) {
  return json.dump(style == JsonStyle::kIndented ? 2 : -1) + "\n";
}

// Nanoseconds with as few digits as say it exactly: "", ".5", ".000000001".
std::string Fraction(int nanos) {
  if (nanos == 0) return "";
  char text[16];
  snprintf(text, sizeof text, ".%09d", nanos);
  std::string fraction = text;
  return fraction.erase(fraction.find_last_not_of('0') + 1);
}

std::string Encode(const google::protobuf::Timestamp& time) {
  std::time_t seconds = time.seconds();
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[40];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  return text + Fraction(time.nanos()) + "Z";
}

std::string Encode(const google::protobuf::Duration& duration) {
  bool negative = duration.seconds() < 0 || duration.nanos() < 0;
  return (negative ? "-" : "") + std::to_string(std::abs(duration.seconds())) +
         Fraction(std::abs(duration.nanos())) + "s";
}

Json EncodeMessage(const Message& message) {
  if (const auto* time = dynamic_cast<const google::protobuf::Timestamp*>(&message)) {
    return Encode(*time);
  }
  if (const auto* duration = dynamic_cast<const google::protobuf::Duration*>(&message)) {
    return Encode(*duration);
  }
  return Encode(message);
}

std::string Hex(const std::string& bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    hex += kDigits[static_cast<unsigned char>(c) >> 4];
    hex += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return hex;
}

void PutBytes(Json& out, const std::string& name, const std::string& bytes) {
  if (name.ends_with("_sha256")) {
    out[name] = Hex(bytes);
    return;
  }
  out[name] = ToUtf8(bytes);
  if (!IsUtf8(bytes)) out[name + "_b64"] = Base64(bytes);
}

Json EncodeSingular(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.GetInt64(message, &field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection.GetUInt64(message, &field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.GetDouble(message, &field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection.GetFloat(message, &field);
    case FieldDescriptor::CPPTYPE_STRING:
      return ToUtf8(reflection.GetString(message, &field));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return EncodeMessage(reflection.GetMessage(message, &field));
    case FieldDescriptor::CPPTYPE_ENUM: {
      int number = reflection.GetEnumValue(message, &field);
      const auto* value = field.enum_type()->FindValueByNumber(number);
      // A newer daemon may know more values than this client.
      return value != nullptr ? Json(value->name()) : Json(number);
    }
  }
  return nullptr;
}

Json EncodeElement(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetRepeatedInt32(message, &field, index);
    case FieldDescriptor::CPPTYPE_STRING:
      return ToUtf8(reflection.GetRepeatedString(message, &field, index));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return EncodeMessage(reflection.GetRepeatedMessage(message, &field, index));
    default:
      return nullptr;  // the API has no other repeated fields
  }
}

// Only maps from string to string exist in the API. Sorted, so that equal messages print equal.
Json EncodeMap(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  std::map<std::string, std::string> sorted;
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
    const auto* key = entry.GetDescriptor()->map_key();
    const auto* value = entry.GetDescriptor()->map_value();
    sorted[entry.GetReflection()->GetString(entry, key)] =
        entry.GetReflection()->GetString(entry, value);
  }
  Json out = Json::object();
  for (const auto& [key, value] : sorted) out[ToUtf8(key)] = ToUtf8(value);
  return out;
}

void EncodeField(Json& out, const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  if (field.is_map()) {
    out[field.name()] = EncodeMap(message, field);
  } else if (field.is_repeated()) {
    Json& list = out[field.name()] = Json::array();
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
      list.push_back(EncodeElement(message, field, i));
    }
  } else if (field.has_presence() && !reflection.HasField(message, &field)) {
    return;
  } else if (field.type() == FieldDescriptor::TYPE_BYTES) {
    PutBytes(out, field.name(), reflection.GetString(message, &field));
  } else {
    out[field.name()] = EncodeSingular(message, field);
  }
}

Json Encode(const Message& message) {
  Json out = Json::object();
  const auto* type = message.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) EncodeField(out, message, *type->field(i));
  return out;
}

}  // namespace

std::string ToJson(const Message& message, JsonStyle style) { return Dump(Encode(message), style); }

std::string ToJson(const std::vector<const Message*>& messages, JsonStyle style) {
  if (style == JsonStyle::kOneLine) {
    std::string lines;
    for (const Message* message : messages) lines += Dump(Encode(*message), style);
    return lines;
  }
  Json list = Json::array();
  for (const Message* message : messages) list.push_back(Encode(*message));
  return Dump(list, style);
}

std::string ToJson(const ExecRecord& record, JsonStyle style) {
  Json out = Encode(record.command);
  PutBytes(out, "stdout", record.stdout_bytes);
  PutBytes(out, "stderr", record.stderr_bytes);
  Json& gaps = out["gaps"] = Json::array();
  for (const v1::Gap& gap : record.gaps) gaps.push_back(Encode(gap));
  return Dump(out, style);
}

std::string EventLine(const std::string& event, const Message& fields) {
  Json out = Json::object();
  out["event"] = event;
  out.update(Encode(fields));
  return Dump(out, JsonStyle::kOneLine);
}

}  // namespace hermes::client
