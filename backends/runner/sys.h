#pragma once

// The few system helpers that everything in the runner uses: an owning descriptor, monotonic time,
// small files. No state of its own.

#include <stdint.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

namespace hermes::runner {

// Owns one descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) : fd_(other.Release()) {}
  Fd& operator=(Fd&& other) {
    Reset(other.Release());
    return *this;
  }
  ~Fd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void Reset(int fd = -1);

 private:
  int fd_ = -1;
};

// Straight to the kernel: what libc does beside is for threads and old C programs, and costs 4 kB
// of program.
int64_t NowUs();  // CLOCK_MONOTONIC
pid_t Fork();
void IgnoreSignal(int signal);
[[noreturn]] void Die();

std::string Decimal(uint64_t value);
std::optional<uint64_t> ParseDecimal(std::string_view text);
std::string RandomHex(size_t bytes);

// A pipe or a pair of sockets; both ends close on exec. False: errno says why.
bool MakePipe(Fd* read_end, Fd* write_end);
bool MakeSocketPair(int type, Fd* one, Fd* other);
bool SetNonBlocking(int fd);

// An anonymous file holding `text`, at offset 0, closed on exec. Where memfd_create fails: an
// unlinked file in `directory`.
Fd TextFile(std::string_view text, const std::string& directory);

bool WriteAll(int fd, std::string_view data);

// The whole of a regular file, never through a symbolic link; nullopt also when it is larger.
std::optional<std::string> ReadSmallFile(const std::string& path, size_t limit_bytes);

// Replaces `path` as a whole, mode 0600. On failure the old file stays.
bool ReplaceFile(const std::string& path, std::string_view data);

bool IsDirectory(const std::string& path);

// Makes `path` and its missing parents, 0700. True if it is a directory of this uid in the end.
bool MakePrivateDirectory(const std::string& path);

void CloseRange(int first, int last);  // every descriptor from `first` to `last`
inline constexpr int kLastFd = 0x7fffffff;

}  // namespace hermes::runner
