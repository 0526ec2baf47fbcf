#pragma once

// What hermesd says to the control socket of a running `ssh` (its multiplexing protocol, version
// 4): one program per control connection, its three descriptors handed over. Pure; any thread.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace hermes::mux {

inline constexpr uint32_t kVersion = 4;
// Of what ssh sends, which is short; longer breaks the connection.
inline constexpr size_t kMaxMessage = 64 << 10;
// Of a reason; the rest is cut.
inline constexpr size_t kMaxText = 1024;

enum class Type : uint32_t {
  kHello = 0x00000001,
  kNewSession = 0x10000002,
  kAliveCheck = 0x10000004,
  kTerminate = 0x10000005,
  kOk = 0x80000001,
  kPermissionDenied = 0x80000002,
  kFailure = 0x80000003,
  kExit = 0x80000004,
  kAlive = 0x80000005,
  kOpened = 0x80000006,
  kTtyAllocFail = 0x80000008,
};

std::string EncodeHello();
// Without terminal, agent, X11 and escape character. The three descriptors follow it.
std::string EncodeNewSession(uint32_t request_id, std::string_view command);
// kAliveCheck or kTerminate.
std::string EncodeRequest(Type type, uint32_t request_id);

struct Message {
  Type type = Type::kOk;
  uint32_t id = 0;     // of the request; kExit, kTtyAllocFail: of the session; kHello: 0
  uint32_t value = 0;  // kHello: version, kExit: exit code, kOpened: session, kAlive: process id
  std::string text;    // kFailure, kPermissionDenied: the reason
  bool operator==(const Message&) const = default;
};

// Cuts what ssh sends into messages.
class Decoder {
 public:
  void Append(std::string_view bytes) { bytes_.append(bytes); }

  // The next complete message, nullopt when more bytes are needed. Types that nobody here asks for
  // are left out. An error (a length or a body that cannot be) is final.
  absl::StatusOr<std::optional<Message>> Next();

 private:
  std::string bytes_;
  size_t done_ = 0;  // bytes of `bytes_` that are used up
  bool broken_ = false;
};

}  // namespace hermes::mux
