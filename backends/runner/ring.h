#pragma once

// Bytes of one output stream that are not acknowledged yet, addressed by absolute offset. Memory is
// mapped when the first byte comes, touched only as far as it is used, and not copied into forks.

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

namespace hermes::runner {

class Ring {
 public:
  // `reserve` more bytes fit once OpenReserve was called.
  Ring(size_t limit, size_t reserve) : capacity_(limit + reserve), limit_(limit) {}
  ~Ring();
  Ring(const Ring&) = delete;

  uint64_t first() const { return first_; }
  uint64_t end() const { return end_; }
  size_t used() const { return static_cast<size_t>(end_ - first_); }
  size_t room() const { return limit_ - used(); }
  void OpenReserve() { limit_ = capacity_; }

  // The free space as one or two pieces, at most `limit` bytes; 0 pieces when full or out of
  // memory. Commit says how much of it was filled.
  int Space(size_t limit, iovec pieces[2]);
  void Commit(size_t bytes) { end_ += bytes; }

  // [from, from + bytes) as one or two pieces; the range must be held.
  int Slice(uint64_t from, size_t bytes, iovec pieces[2]) const;

  void DropBefore(uint64_t offset);
  void Free();  // gives the memory back; nothing may be held

 private:
  int Pieces(uint64_t from, size_t bytes, iovec pieces[2]) const;

  const size_t capacity_;
  size_t limit_;
  char* memory_ = nullptr;
  uint64_t first_ = 0;
  uint64_t end_ = 0;
  uint64_t base_ = 0;  // the offset that lies at memory_[0]
};

}  // namespace hermes::runner
