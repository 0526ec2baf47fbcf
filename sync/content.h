#pragma once

// What sync knows of one version of a regular file: its bytes by digest and size, and whether it is
// executable. Times, owners and other mode bits are no part of it: two files of equal Content are
// the same version. Only regular files travel; directories come and go with them. Pure.

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hermes::sync {

struct Digest {  // SHA-256
  std::array<uint8_t, 32> bytes = {};
  auto operator<=>(const Digest&) const = default;
};

std::string Hex(const Digest& digest);                    // 64 lower-case digits
std::optional<Digest> ParseDigest(std::string_view hex);  // exactly what Hex writes

struct Content {
  Digest digest;
  uint64_t size = 0;  // follows from the digest; 0 where a list of digests is all that is known
  bool executable = false;
  bool operator==(const Content& other) const {
    return digest == other.digest && executable == other.executable;
  }
};

using MaybeContent = std::optional<Content>;  // nullopt: there is no such file

// Hashes bytes as they pass. Not copyable; one Finish per object.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;
  void Update(std::string_view bytes);
  Digest Finish();

 private:
  void* context_;  // EVP_MD_CTX
};

Digest DigestOf(std::string_view bytes);

}  // namespace hermes::sync
