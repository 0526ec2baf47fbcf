// What the C++ library's run time would bring: this program links none. Allocation failure ends the
// process: every buffer here is bounded, so there is nothing sensible left to do.

#include <stdlib.h>

#include <new>
#include <string>

namespace {
[[noreturn]] void Die() { abort(); }

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

extern "C" void __cxa_pure_virtual() { Die(); }
_LIBCPP_BEGIN_NAMESPACE_STD
void __libcpp_verbose_abort(const char*, ...) { Die(); }
_LIBCPP_END_NAMESPACE_STD

// What libc++'s headers declare as instantiated elsewhere.
template class std::basic_string<char>;
template std::string std::operator+(const char*, const std::string&);
