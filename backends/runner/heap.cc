// The heap: libc's brings 8 kB of program for what this one needs. For one thread. A block comes
// from a list of freed blocks of its size, a power of two, else from a fresh piece of memory, and
// goes back to its list for good; a larger one is a mapping of its own, which ends with it. So what
// small blocks took once stays with the process: the buffers that may grow to megabytes are the
// large ones.

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

namespace {

constexpr size_t kSmallest = 32;            // with its head
constexpr size_t kClasses = 13;             // up to 128 KiB with its head
constexpr size_t kRefillBytes = 512 << 10;  // costs memory only where it is touched
constexpr size_t kLargest = kSmallest << (kClasses - 1);
constexpr size_t kPageBytes = 4096;

// Before each block; keeps what follows aligned for anything.
struct alignas(16) Head {
  size_t bytes;  // the head counted
};

struct Unused {
  Unused* next;
};

Unused* unused[kClasses];
char* fresh;
size_t fresh_bytes;

size_t ClassOf(size_t bytes) {
  size_t index = 0;
  while ((kSmallest << index) < bytes) ++index;
  return index;
}

void* Map(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

void* Fresh(size_t bytes) {
  if (fresh_bytes < bytes) {
    fresh = static_cast<char*>(Map(kRefillBytes));
    fresh_bytes = fresh == nullptr ? 0 : kRefillBytes;
    if (fresh == nullptr) return nullptr;
  }
  fresh_bytes -= bytes;
  fresh += bytes;
  return fresh - bytes;
}

void* Begin(void* memory, size_t bytes) {
  if (memory == nullptr) return nullptr;
  Head* head = static_cast<Head*>(memory);
  head->bytes = bytes;
  return head + 1;
}

void* Allocate(size_t bytes) {
  if (bytes > PTRDIFF_MAX - kPageBytes) {
    errno = ENOMEM;
    return nullptr;
  }
  bytes += sizeof(Head);
  if (bytes > kLargest) {
    bytes = (bytes + kPageBytes - 1) & ~(kPageBytes - 1);
    return Begin(Map(bytes), bytes);
  }
  size_t index = ClassOf(bytes);
  if (Unused* block = unused[index]) {
    unused[index] = block->next;
    return block;
  }
  bytes = kSmallest << index;
  return Begin(Fresh(bytes), bytes);
}

size_t BytesOf(void* memory) { return (static_cast<Head*>(memory) - 1)->bytes - sizeof(Head); }

}  // namespace

extern "C" {

void* malloc(size_t bytes) { return Allocate(bytes); }

void free(void* memory) {
  if (memory == nullptr) return;
  Head* head = static_cast<Head*>(memory) - 1;
  if (head->bytes > kLargest) {
    munmap(head, head->bytes);
    return;
  }
  Unused* block = static_cast<Unused*>(memory);
  size_t index = ClassOf(head->bytes);
  block->next = unused[index];
  unused[index] = block;
}

// libc's own callers; with one missing, libc's whole heap would be linked.
void* calloc(size_t count, size_t each) {
  size_t bytes;
  void* memory = __builtin_mul_overflow(count, each, &bytes) ? nullptr : Allocate(bytes);
  return memory == nullptr ? nullptr : memset(memory, 0, bytes);
}

void* realloc(void* memory, size_t bytes) {
  void* larger = Allocate(bytes);
  if (larger == nullptr || memory == nullptr) return larger;
  size_t known = BytesOf(memory);
  memcpy(larger, memory, known < bytes ? known : bytes);
  free(memory);
  return larger;
}
}
