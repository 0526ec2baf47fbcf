#include "backends/runner/blob.h"

// Two symbols around each program's bytes. The assembler reads the file; no other tool is needed.
#define HERMES_EMBED(name, path)    \
  asm(".section .rodata\n"          \
      ".balign 16\n"                \
      ".global hermes_runner_" name \
      "_begin\n"                    \
      "hermes_runner_" name         \
      "_begin:\n"                   \
      ".incbin \"" path             \
      "\"\n"                        \
      ".global hermes_runner_" name \
      "_end\n"                      \
      "hermes_runner_" name         \
      "_end:\n"                     \
      ".byte 0\n"                   \
      ".text\n")

extern "C" {
#ifdef HERMES_RUNNER_X86_64
HERMES_EMBED("x86_64", HERMES_RUNNER_X86_64);
extern const char hermes_runner_x86_64_begin[];
extern const char hermes_runner_x86_64_end[];
#endif
#ifdef HERMES_RUNNER_AARCH64
HERMES_EMBED("aarch64", HERMES_RUNNER_AARCH64);
extern const char hermes_runner_aarch64_begin[];
extern const char hermes_runner_aarch64_end[];
#endif
}

namespace hermes {

std::span<const char> RunnerBinary(std::string_view arch) {
#ifdef HERMES_RUNNER_X86_64
  if (arch == "x86_64") return {hermes_runner_x86_64_begin, hermes_runner_x86_64_end};
#endif
#ifdef HERMES_RUNNER_AARCH64
  if (arch == "aarch64") return {hermes_runner_aarch64_begin, hermes_runner_aarch64_end};
#endif
  return {};
}

}  // namespace hermes
