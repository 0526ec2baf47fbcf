#pragma once

// The small encodings that SSH's files and messages share: base64, length-prefixed strings, names
// of keys. Pure; input may be hostile.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hermes {

// nullopt: not base64. Padding may be missing, blanks may not be in it.
std::optional<std::string> DecodeBase64(std::string_view text);
std::string EncodeBase64(std::string_view bytes);  // without padding

// Reads big-endian fields from the front; false at the first that is not whole.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : rest_(bytes) {}
  bool Byte(uint8_t* value);
  bool U32(uint32_t* value);
  bool String(std::string_view* value);
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

void PutU32(std::string& out, uint32_t value);
void PutString(std::string& out, std::string_view value);

// The type that a public key names itself: "ssh-ed25519"; empty if it names none.
std::string KeyTypeOf(std::string_view blob);
// "SHA256:..." as ssh shows it.
std::string KeyFingerprint(std::string_view blob);

std::string Sha256Hex(std::string_view bytes);

// Text of a peer's, fit for a message: printable ASCII, at most `most` bytes.
std::string PrintableWords(std::string_view text, size_t most = 200);

}  // namespace hermes
