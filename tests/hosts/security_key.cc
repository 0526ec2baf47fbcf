// A security key in software, in the form in which ssh loads a maker's (SecurityKeyProvider): one
// Ed25519 key whose handle is the key itself. It is touched by whoever opens for writing the FIFO
// that its application names: "ssh:" and a path. For tests: a real key keeps its secret.

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

namespace {

constexpr uint32_t kApiVersion = 0x000a0000;
constexpr uint32_t kEd25519 = 1;
constexpr int kFailed = -1;
constexpr int kUnsupported = -2;
constexpr size_t kKeyBytes = 32;
constexpr size_t kSignatureBytes = 64;

using Key = std::array<uint8_t, kKeyBytes>;

std::string Bytes(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// What ssh frees.
uint8_t* Copy(std::string_view bytes) {
  auto* copy = static_cast<uint8_t*>(malloc(bytes.size()));
  std::copy(bytes.begin(), bytes.end(), copy);
  return copy;
}

std::string Sha256(std::string_view text) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const uint8_t*>(text.data()), text.size(), digest.data());
  return Bytes(digest.data(), digest.size());
}

EVP_PKEY* Load(const Key& key) {
  return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, key.data(), key.size());
}

std::string PublicHalf(const Key& key) {
  Key half;
  size_t size = half.size();
  EVP_PKEY* pair = Load(key);
  EVP_PKEY_get_raw_public_key(pair, half.data(), &size);
  EVP_PKEY_free(pair);
  return Bytes(half.data(), half.size());
}

std::string Sign(const Key& key, std::string_view text) {
  std::array<uint8_t, kSignatureBytes> signature;
  size_t size = signature.size();
  EVP_PKEY* pair = Load(key);
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  EVP_DigestSignInit(context, nullptr, nullptr, nullptr, pair);
  EVP_DigestSign(context, signature.data(), &size, reinterpret_cast<const uint8_t*>(text.data()),
                 text.size());
  EVP_MD_CTX_free(context);
  EVP_PKEY_free(pair);
  return Bytes(signature.data(), signature.size());
}

bool AwaitTouch(std::string_view application) {
  const std::string fifo(application.substr(application.find(':') + 1));
  const int fd = open(fifo.c_str(), O_RDONLY | O_CLOEXEC);  // until there is a writer
  if (fd >= 0) close(fd);
  return fd >= 0;
}

}  // namespace

// The names of the functions and the layouts are those of the interface.
extern "C" {

struct Option;

struct EnrollResponse {
  uint8_t flags;
  uint8_t* public_key;
  size_t public_key_len;
  uint8_t* key_handle;
  size_t key_handle_len;
  uint8_t* signature;
  size_t signature_len;
  uint8_t* attestation_cert;
  size_t attestation_cert_len;
  uint8_t* authdata;
  size_t authdata_len;
};

struct SignResponse {
  uint8_t flags;
  uint32_t counter;
  uint8_t* sig_r;
  size_t sig_r_len;
  uint8_t* sig_s;
  size_t sig_s_len;
};

struct ResidentKey;

uint32_t sk_api_version() { return kApiVersion; }

int sk_enroll(uint32_t algorithm, const uint8_t* challenge, size_t challenge_size,
              const char* application, uint8_t flags, const char* pin, Option** options,
              EnrollResponse** response) {
  if (algorithm != kEd25519) return kUnsupported;
  Key key;
  if (RAND_bytes(key.data(), key.size()) != 1) return kFailed;
  auto* made = static_cast<EnrollResponse*>(calloc(1, sizeof(EnrollResponse)));
  made->flags = flags;
  made->public_key = Copy(PublicHalf(key));
  made->public_key_len = kKeyBytes;
  made->key_handle = Copy(Bytes(key.data(), key.size()));
  made->key_handle_len = kKeyBytes;
  made->signature = Copy(Sign(key, Bytes(challenge, challenge_size)));
  made->signature_len = kSignatureBytes;
  *response = made;
  return 0;
}

int sk_sign(uint32_t algorithm, const uint8_t* data, size_t data_size, const char* application,
            const uint8_t* handle, size_t handle_size, uint8_t flags, const char* pin,
            Option** options, SignResponse** response) {
  if (algorithm != kEd25519 || handle_size != kKeyBytes) return kUnsupported;
  if (!AwaitTouch(application)) return kFailed;
  Key key;
  std::copy_n(handle, kKeyBytes, key.begin());
  constexpr uint32_t kCounter = 1;
  std::string text = Sha256(application);
  text += static_cast<char>(flags);
  text += std::string("\0\0\0\1", 4);  // the counter, most significant byte first
  text += Sha256(Bytes(data, data_size));
  auto* made = static_cast<SignResponse*>(calloc(1, sizeof(SignResponse)));
  made->flags = flags;
  made->counter = kCounter;
  made->sig_r = Copy(Sign(key, text));
  made->sig_r_len = kSignatureBytes;
  *response = made;
  return 0;
}

int sk_load_resident_keys(const char* pin, Option** options, ResidentKey*** keys, size_t* count) {
  return kUnsupported;
}

}  // extern "C"
