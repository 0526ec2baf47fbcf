#include "backends/ssh/mux_wire.h"

#include "daemon/runtime/status.h"

namespace hermes::mux {
namespace {

constexpr size_t kWord = 4;  // bytes of a number
constexpr uint32_t kNoEscapeCharacter = 0xffffffff;

void Put(std::string& to, uint32_t number) {
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<char>(number >> shift));
}

void Put(std::string& to, std::string_view text) {
  Put(to, static_cast<uint32_t>(text.size()));
  to.append(text);
}

std::string Framed(std::string_view body) {
  std::string frame;
  Put(frame, body);
  return frame;
}

// Takes numbers and texts off the front; one that does not fit makes all later ones fail.
class Body {
 public:
  explicit Body(std::string_view bytes) : rest_(bytes) {}
  bool ok() const { return ok_; }

  uint32_t Number() {
    if (rest_.size() < kWord) return Fail();
    uint32_t number = 0;
    for (size_t i = 0; i < kWord; ++i) number = number << 8 | static_cast<unsigned char>(rest_[i]);
    rest_.remove_prefix(kWord);
    return number;
  }

  std::string_view Text() {
    const uint32_t size = Number();
    if (!ok_ || size > rest_.size()) {
      Fail();
      return {};
    }
    const std::string_view text = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return text;
  }

 private:
  uint32_t Fail() {
    ok_ = false;
    rest_ = {};
    return 0;
  }

  std::string_view rest_;
  bool ok_ = true;
};

// True: `message` is one that somebody waits for.
bool Decode(Body& body, Message& message) {
  message.type = static_cast<Type>(body.Number());
  switch (message.type) {
    case Type::kHello:
      message.value = body.Number();
      return true;
    case Type::kOk:
    case Type::kTtyAllocFail:
      message.id = body.Number();
      return true;
    case Type::kExit:
    case Type::kAlive:
    case Type::kOpened:
      message.id = body.Number();
      message.value = body.Number();
      return true;
    case Type::kPermissionDenied:
    case Type::kFailure:
      message.id = body.Number();
      message.text = body.Text().substr(0, kMaxText);
      return true;
    default:
      return false;
  }
}

absl::Status Broken() {
  return Error(Reason::k_BACKEND_UNREACHABLE, "ssh sends what cannot be on its control socket");
}

}  // namespace

std::string EncodeHello() {
  std::string body;
  Put(body, static_cast<uint32_t>(Type::kHello));
  Put(body, kVersion);
  return Framed(body);
}

std::string EncodeNewSession(uint32_t request_id, std::string_view command) {
  std::string body;
  Put(body, static_cast<uint32_t>(Type::kNewSession));
  Put(body, request_id);
  Put(body, "");  // reserved
  for (int flag = 0; flag < 4; ++flag) Put(body, 0U);
  Put(body, kNoEscapeCharacter);
  Put(body, "");  // terminal type
  Put(body, command);
  return Framed(body);
}

std::string EncodeRequest(Type type, uint32_t request_id) {
  std::string body;
  Put(body, static_cast<uint32_t>(type));
  Put(body, request_id);
  return Framed(body);
}

absl::StatusOr<std::optional<Message>> Decoder::Next() {
  while (!broken_) {
    const std::string_view rest = std::string_view(bytes_).substr(done_);
    if (rest.size() < kWord) break;
    const uint32_t size = Body(rest).Number();
    broken_ = size < kWord || size > kMaxMessage;
    if (broken_ || rest.size() - kWord < size) break;

    Message message;
    Body body(rest.substr(kWord, size));
    const bool wanted = Decode(body, message);
    broken_ = !body.ok();
    done_ += kWord + size;
    if (wanted && !broken_) return message;
  }
  if (broken_) return Broken();
  bytes_.erase(0, done_);
  done_ = 0;
  return std::nullopt;
}

}  // namespace hermes::mux
