#include "backends/ssh/libssh2_key_file.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "backends/ssh/libssh2_wire.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr std::string_view kMagic("openssh-key-v1\0", 15);
constexpr std::string_view kOpenSshBegin = "-----BEGIN OPENSSH PRIVATE KEY-----";
constexpr std::string_view kOpenSshEnd = "-----END OPENSSH PRIVATE KEY-----";

absl::Status Unusable(const std::string& path, const std::string& why) {
  return Error(Reason::k_BACKEND_AUTH_FAILED, "the key file " + path + " " + why);
}

absl::Status Locked(const std::string& path) {
  return Unusable(path,
                  "has a passphrase: add it to an agent (ssh-add) and give no key_file, or use the "
                  "openssh transport with an agent");
}

absl::StatusOr<PrivateKey> ParseOpenSsh(PrivateKey key) {
  std::string_view body = std::string_view(key.text);
  body.remove_prefix(body.find(kOpenSshBegin) + kOpenSshBegin.size());
  body = body.substr(0, body.find(kOpenSshEnd));
  std::string digits;
  for (char c : body)
    if (std::strchr(" \t\r\n", c) == nullptr) digits.push_back(c);
  std::optional<std::string> bytes = DecodeBase64(digits);
  OPENSSL_cleanse(digits.data(), digits.size());
  if (!bytes || !bytes->starts_with(kMagic)) return Unusable(key.path, "is damaged");
  WireReader reader(std::string_view(*bytes).substr(kMagic.size()));
  std::string_view cipher, kdf, kdf_options, blob;
  uint32_t keys = 0;
  const bool whole = reader.String(&cipher) && reader.String(&kdf) && reader.String(&kdf_options) &&
                     reader.U32(&keys) && reader.String(&blob);
  const bool locked = whole && cipher != "none";
  if (whole) {
    key.public_blob = blob;
    key.type = KeyTypeOf(blob);
  }
  OPENSSL_cleanse(bytes->data(), bytes->size());
  if (!whole) return Unusable(key.path, "is damaged");
  if (locked) return Locked(key.path);
  return key;
}

}  // namespace

PrivateKey::~PrivateKey() { OPENSSL_cleanse(text.data(), text.size()); }

absl::StatusOr<PrivateKey> ParseKey(const std::string& path, std::string text) {
  PrivateKey key;
  key.path = path;
  key.text = std::move(text);
  if (key.text.find(kOpenSshBegin) != std::string::npos) return ParseOpenSsh(std::move(key));
  auto has = [&key](const char* words) { return key.text.find(words) != std::string::npos; };
  if (has("-----BEGIN ENCRYPTED PRIVATE KEY-----") || has("Proc-Type: 4,ENCRYPTED")) {
    return Locked(path);
  }
  if (has("-----BEGIN RSA PRIVATE KEY-----")) {
    key.type = "ssh-rsa";
  } else if (!has("-----BEGIN EC PRIVATE KEY-----") && !has("-----BEGIN PRIVATE KEY-----")) {
    return Unusable(path, has("ssh-") || has("ecdsa-") ? "is a public key: give the private one"
                                                       : "is not a private key");
  }
  return key;
}

absl::StatusOr<PrivateKey> ReadKeyFile(const std::string& path) {
  // Non-blocking: a named pipe must not hold us.
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) {
    if (errno == ENOENT || errno == ENOTDIR) return absl::NotFoundError(path);
    return Unusable(path, std::string("can't be read: ") + std::strerror(errno));
  }
  struct stat facts{};
  if (::fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) {
    return Unusable(path, "is not a file");
  }
  if (facts.st_uid == ::geteuid() && (facts.st_mode & 077) != 0) {
    return Unusable(path, "can be read by others: run `chmod 600 " + path + "`");
  }
  std::string text(kMaxKeyFile, '\0');
  const ssize_t got = ::read(file.get(), text.data(), text.size());
  if (got < 0) return Unusable(path, std::string("can't be read: ") + std::strerror(errno));
  text.resize(static_cast<size_t>(got));
  return ParseKey(path, std::move(text));
}

}  // namespace hermes
