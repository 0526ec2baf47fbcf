#pragma once

// SHA-256 of a request: tells whether two requests with one id are the same. Pure.

#include <google/protobuf/message_lite.h>

#include <string>

namespace hermes {

// Lower-case hex. Equal messages have equal digests, whatever the order in which their maps were
// filled. Nothing of the message can be read back from it.
std::string DigestOf(const google::protobuf::MessageLite& message);

}  // namespace hermes
