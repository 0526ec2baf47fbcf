#include "backends/runner/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace hermes::runner {

void Fd::Reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

int64_t NowUs() {
  timespec now;
  syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

pid_t Fork() { return _Fork(); }

void IgnoreSignal(int signal) {
  struct {
    void (*handler)(int);
    unsigned long flags;
    void* restorer;
    uint64_t mask;
  } ignored = {.handler = SIG_IGN, .flags = 0, .restorer = nullptr, .mask = 0};
  syscall(SYS_rt_sigaction, signal, &ignored, nullptr, sizeof ignored.mask);
}

void Die() { __builtin_trap(); }

std::string Decimal(uint64_t value) {
  char digits[20];
  size_t at = sizeof digits;
  do {
    digits[--at] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  return std::string(digits + at, sizeof digits - at);
}

std::optional<uint64_t> ParseDecimal(std::string_view text) {
  if (text.empty() || text.size() > 18) return std::nullopt;
  uint64_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return value;
}

std::string RandomHex(size_t bytes) {
  std::string hex;
  for (size_t i = 0; i < bytes; ++i) {
    uint8_t byte = 0;
    if (getrandom(&byte, 1, 0) != 1) Die();  // an answer that can be guessed is worse than none
    hex.push_back("0123456789abcdef"[byte >> 4]);
    hex.push_back("0123456789abcdef"[byte & 15]);
  }
  return hex;
}

bool MakePipe(Fd* read_end, Fd* write_end) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  read_end->Reset(ends[0]);
  write_end->Reset(ends[1]);
  return true;
}

bool MakeSocketPair(int type, Fd* one, Fd* other) {
  int ends[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) return false;
  one->Reset(ends[0]);
  other->Reset(ends[1]);
  return true;
}

bool SetNonBlocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

Fd TextFile(std::string_view text, const std::string& directory) {
  Fd file(memfd_create("script", MFD_CLOEXEC));
  if (!file.valid()) {
    std::string path = directory + "/" + RandomHex(8);
    file.Reset(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (file.valid()) unlink(path.c_str());
  }
  if (file.valid() && (!WriteAll(file.get(), text) || lseek(file.get(), 0, SEEK_SET) != 0))
    file.Reset();
  return file;
}

bool WriteAll(int fd, std::string_view data) {
  while (!data.empty()) {
    ssize_t n = write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

std::optional<std::string> ReadSmallFile(const std::string& path, size_t limit_bytes) {
  Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat facts;
  if (!file.valid() || fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode))
    return std::nullopt;
  if (static_cast<uint64_t>(facts.st_size) > limit_bytes) return std::nullopt;
  std::string content(static_cast<size_t>(facts.st_size), '\0');
  size_t have = 0;
  while (have < content.size()) {
    ssize_t n = read(file.get(), content.data() + have, content.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    have += static_cast<size_t>(n);
  }
  content.resize(have);
  return content;
}

bool ReplaceFile(const std::string& path, std::string_view data) {
  std::string fresh = path + "~" + RandomHex(4);
  Fd file(open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return false;
  if (WriteAll(file.get(), data) && rename(fresh.c_str(), path.c_str()) == 0) return true;
  unlink(fresh.c_str());
  return false;
}

bool IsDirectory(const std::string& path) {
  struct stat facts;
  return stat(path.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode);
}

bool MakePrivateDirectory(const std::string& path) {
  for (size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1))
    mkdir(path.substr(0, at).c_str(), 0700);
  mkdir(path.c_str(), 0700);
  struct stat facts;
  return stat(path.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode) && facts.st_uid == geteuid();
}

void CloseRange(int first, int last) {
  if (first > last) return;
  constexpr long kCloseRange = 436;  // the same on every architecture; Linux 5.9
  if (syscall(kCloseRange, static_cast<unsigned>(first), static_cast<unsigned>(last), 0) == 0)
    return;
  DIR* open_files = opendir("/proc/self/fd");
  if (open_files == nullptr) return;
  int own = dirfd(open_files);
  while (dirent* entry = readdir(open_files)) {
    int fd = static_cast<int>(ParseDecimal(entry->d_name).value_or(0));
    if (fd >= first && fd <= last && fd != own) close(fd);
  }
  closedir(open_files);
}

}  // namespace hermes::runner
