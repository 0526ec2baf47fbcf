#pragma once

// Messages as JSON for scripts. Pure and thread-safe.
//
// Field names are those of the proto; enums are their names; times are RFC 3339; durations are
// seconds with an "s" ("1.5s"); 64-bit numbers are numbers. Scalars are always present, messages
// and oneofs only when set. Bytes are text: valid UTF-8 as it is; otherwise every foreign byte is
// written as \xHH in the text, and a second field, named with the suffix _b64, holds the exact
// bytes. Digests (fields named ..._sha256) are lower-case hexadecimal.

#include <string>
#include <vector>

#include "google/protobuf/message.h"
#include "hermes/v1/exec.pb.h"

namespace hermes::client {

enum class JsonStyle { kOneLine, kIndented };

std::string ToJson(const google::protobuf::Message& message, JsonStyle style);

// A JSON array: indented, or with kOneLine one line per message without brackets (JSONL).
std::string ToJson(const std::vector<const google::protobuf::Message*>& messages, JsonStyle style);

// Everything `exec -o json` prints: the command's fields, its output and the gaps in it.
struct ExecRecord {
  v1::Command command;
  std::string stdout_bytes;
  std::string stderr_bytes;
  std::vector<v1::Gap> gaps;
};
std::string ToJson(const ExecRecord& record, JsonStyle style);

// One event as one line: {"event": "output", ...fields...}.
std::string EventLine(const std::string& event, const google::protobuf::Message& fields);

}  // namespace hermes::client
