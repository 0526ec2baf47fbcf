#include "backends/local/install.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string_view>

#include "daemon/runtime/check.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr size_t kNameBytes = 8;  // of the digest: 16 hex digits

std::string Digest(std::span<const char> bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  CHECK(EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr) == 1);
  return std::string(reinterpret_cast<char*>(digest), size);
}

std::string Hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned char c : bytes) {
    hex.push_back(kDigits[c >> 4]);
    hex.push_back(kDigits[c & 15]);
  }
  return hex;
}

absl::Status Failed(const std::string& what, int err) {
  return Error(err == ENOSPC || err == EDQUOT ? Reason::k_DISK_FULL : Reason::k_BACKEND_UNREACHABLE,
               std::string(ErrnoStatus(err, what).message()));
}

bool IsUndamaged(const std::string& path, std::span<const char> image) {
  Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat info{};
  if (!file.valid() || fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode) ||
      (info.st_mode & 0777) != 0700 || info.st_size != static_cast<off_t>(image.size())) {
    return false;
  }
  std::string content(image.size(), '\0');
  const ssize_t bytes = pread(file.get(), content.data(), content.size(), 0);
  return bytes == static_cast<ssize_t>(image.size()) &&
         std::string_view(content) == std::string_view(image.data(), image.size());
}

absl::Status WriteProgram(const std::string& path, std::span<const char> image) {
  Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0700));
  if (!file.valid()) return Failed("create " + path, errno);
  for (size_t done = 0; done < image.size();) {
    const ssize_t bytes = write(file.get(), image.data() + done, image.size() - done);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return Failed("write " + path, errno);
    done += static_cast<size_t>(bytes);
  }
  if (fchmod(file.get(), 0700) != 0) return Failed("set the mode of " + path, errno);
  return absl::OkStatus();
}

}  // namespace

absl::Status EnsurePrivateDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return Failed("make " + path, errno);
  struct stat info{};
  if (lstat(path.c_str(), &info) != 0) return Failed("look at " + path, errno);
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
    return Error(Reason::k_BACKEND_UNREACHABLE,
                 path + " must be a directory of this account that nobody else can enter");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> InstallProgram(const std::string& directory,
                                           std::span<const char> image) {
  RETURN_IF_ERROR(EnsurePrivateDirectory(directory));
  std::string path = directory + "/" + Hex(Digest(image).substr(0, kNameBytes));
  if (IsUndamaged(path, image)) return path;
  const std::string fresh = path + "." + std::to_string(getpid());
  absl::Status written = WriteProgram(fresh, image);
  if (written.ok() && rename(fresh.c_str(), path.c_str()) != 0) {
    written = Failed("rename " + fresh, errno);
  }
  if (!written.ok()) {
    unlink(fresh.c_str());
    return written;
  }
  return path;
}

}  // namespace hermes
