#pragma once

// Fd: the one owner of a file descriptor. Move-only; closes at the end of its life. Thread: the
// owner's.

#include <unistd.h>

#include <utility>

namespace hermes {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    reset(other.release());
    return *this;
  }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

  // Gives the descriptor away, unclosed.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

  // Closes what it owns and owns `fd` from now on. errno is kept. A failed close is not reported:
  // who needs to know that data arrived calls fsync first.
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

}  // namespace hermes
