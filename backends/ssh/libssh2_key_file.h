#pragma once

// Private keys as files: what kind one is, and why it cannot be used. Reading blocks: on Workers.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace hermes {

inline constexpr size_t kMaxKeyFile = 64 << 10;  // bytes; what lies beyond is not read

// A key without a passphrase. Its text is wiped at the end.
struct PrivateKey {
  PrivateKey() = default;
  ~PrivateKey();
  PrivateKey(PrivateKey&&) = default;
  PrivateKey& operator=(PrivateKey&&) = default;

  std::string path;
  std::string text;
  std::string type;         // "ssh-ed25519"; empty: the format does not say
  std::string public_blob;  // empty: the format does not say
  bool rsa() const { return type == "ssh-rsa"; }
};

// NOT_FOUND (without a reason of the catalogue) when there is no such file; else
// BACKEND_AUTH_FAILED: unreadable, open to others, no key, or behind a passphrase.
absl::StatusOr<PrivateKey> ReadKeyFile(const std::string& path);

// The part of it that looks at the text only. Pure.
absl::StatusOr<PrivateKey> ParseKey(const std::string& path, std::string text);

}  // namespace hermes
