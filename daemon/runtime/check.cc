#include "daemon/runtime/check.h"

#include <cstdio>
#include <cstdlib>

namespace hermes {

// Straight to stderr: the log may be what is broken.
void CheckFailed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, expression);
  std::fflush(stderr);
  std::abort();
}

}  // namespace hermes
