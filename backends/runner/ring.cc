#include "backends/runner/ring.h"

#include <sys/mman.h>

#include <algorithm>

namespace hermes::runner {

int Ring::Space(size_t limit, iovec pieces[2]) {
  if (memory_ == nullptr) {
    void* memory = mmap(nullptr, capacity_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return 0;
    madvise(memory, capacity_, MADV_DONTFORK);
    memory_ = static_cast<char*>(memory);
    base_ = end_;
  }
  if (used() == 0) base_ = end_;  // start over at the front: the same few pages stay in use
  return Pieces(end_, std::min(limit, room()), pieces);
}

int Ring::Slice(uint64_t from, size_t bytes, iovec pieces[2]) const {
  return Pieces(from, bytes, pieces);
}

void Ring::DropBefore(uint64_t offset) { first_ = std::clamp(offset, first_, end_); }

Ring::~Ring() {
  first_ = end_;
  Free();
}

void Ring::Free() {
  if (memory_ == nullptr || used() != 0) return;
  munmap(memory_, capacity_);
  memory_ = nullptr;
}

int Ring::Pieces(uint64_t from, size_t bytes, iovec pieces[2]) const {
  if (bytes == 0 || memory_ == nullptr) return 0;
  size_t at = static_cast<size_t>((from - base_) % capacity_);
  size_t head = std::min(bytes, capacity_ - at);
  pieces[0] = {memory_ + at, head};
  if (head == bytes) return 1;
  pieces[1] = {memory_, bytes - head};
  return 2;
}

}  // namespace hermes::runner
