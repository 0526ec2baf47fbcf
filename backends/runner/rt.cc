// What the C++ library's run time would bring: this program links none. Allocation failure ends the
// process: every buffer here is bounded, so there is nothing sensible left to do.

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <new>
#include <string>

#include "backends/runner/sys.h"

using hermes::runner::Die;

namespace {
void* Allocate(size_t bytes) {
  void* memory = malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) Die();
  return memory;
}
}  // namespace

void* operator new(size_t bytes) { return Allocate(bytes); }
void* operator new[](size_t bytes) { return Allocate(bytes); }
void operator delete(void* memory) noexcept { free(memory); }
void operator delete[](void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t) noexcept { free(memory); }
void operator delete[](void* memory, size_t) noexcept { free(memory); }

// NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming): the ABI's name
extern "C" void __cxa_pure_virtual() { Die(); }
_LIBCPP_BEGIN_NAMESPACE_STD
void __libcpp_verbose_abort(const char*, ...) { Die(); }
_LIBCPP_END_NAMESPACE_STD

// What libc++'s headers declare as instantiated elsewhere.
template class std::basic_string<char>;
template std::string std::operator+(const char*, const std::string&);

// In place of libc's, which carry a way around every kernel older than ours.
extern "C" {

int fstatat(int directory, const char* path, struct stat* facts, int flags) {
#ifdef SYS_newfstatat
  return static_cast<int>(syscall(SYS_newfstatat, directory, path, facts, flags));
#else
  return static_cast<int>(syscall(SYS_fstatat, directory, path, facts, flags));
#endif
}

int fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  long argument = va_arg(list, long);
  va_end(list);
  return static_cast<int>(syscall(SYS_fcntl, fd, command, argument));
}

int socketpair(int domain, int type, int protocol, int* ends) {
  return static_cast<int>(syscall(SYS_socketpair, domain, type, protocol, ends));
}

int pipe2(int* ends, int flags) { return static_cast<int>(syscall(SYS_pipe2, ends, flags)); }
}
