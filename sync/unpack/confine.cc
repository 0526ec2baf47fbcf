#include "sync/unpack/confine.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <iterator>
#include <vector>

namespace hermes::sync::unpack {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "say what seccomp calls this architecture"
#endif

// A sanitizer's runtime maps terabytes, opens pipes and makes calls of its own.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HERMES_SANITIZED 1
#endif
#endif
#ifdef HERMES_SANITIZED
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// Reading, writing, memory, leaving; the C library's allocator needs the rest of these.
constexpr uint32_t kAllowed[] = {
    __NR_read,  __NR_write,           __NR_exit_group, __NR_exit,
    __NR_brk,   __NR_munmap,          __NR_mremap,     __NR_rt_sigreturn,
    __NR_futex, __NR_restart_syscall, __NR_madvise,
};

bool Limit(__rlimit_resource what, uint64_t most) {
  const rlimit limit{most, most};
  return setrlimit(what, &limit) == 0;
}

// No file grows, none is opened beyond the three, no process is added.
bool SetLimits() {
  bool set = Limit(RLIMIT_CORE, 0);
  set = Limit(RLIMIT_FSIZE, 0) && set;
  set = Limit(RLIMIT_NPROC, 0) && set;
  set = Limit(RLIMIT_CPU, kMaxCpuSeconds) && set;
  if (kSanitized) return set;
  set = Limit(RLIMIT_AS, kMaxMemoryBytes) && set;
  return Limit(RLIMIT_NOFILE, STDERR_FILENO + 1) && set;
}

// All rights over files that the kernel's version knows, given to nobody.
bool ForbidFiles(long abi) {
  constexpr uint64_t kRightsOfAbi[] = {0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff};
  constexpr long kNewest = std::size(kRightsOfAbi) - 1;
  // Newer fields of the structure are about sockets, signals: seccomp's business.
  uint64_t handled = kRightsOfAbi[abi < kNewest ? abi : kNewest];
  const long ruleset = syscall(__NR_landlock_create_ruleset, &handled, sizeof handled, 0);
  if (ruleset < 0) return false;
  const bool restricted = syscall(__NR_landlock_restrict_self, ruleset, 0) == 0;
  close(static_cast<int>(ruleset));
  return restricted;
}

sock_filter Load(size_t offset) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
}
sock_filter Return(uint32_t action) { return BPF_STMT(BPF_RET | BPF_K, action); }
// Goes on with the next instruction if equal, else over it.
sock_filter IfEqual(uint32_t value) { return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1); }

bool FilterCalls() {
  std::vector<sock_filter> program = {
      Load(offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
      Return(SECCOMP_RET_KILL_PROCESS),
      Load(offsetof(seccomp_data, nr)),
  };
  for (uint32_t call : kAllowed) {
    program.push_back(IfEqual(call));
    program.push_back(Return(SECCOMP_RET_ALLOW));
  }
  // Memory, but none that could be executed.
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mmap, 0, 3));
  program.push_back(Load(offsetof(seccomp_data, args) + 2 * sizeof(uint64_t)));
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0));
  program.push_back(Return(SECCOMP_RET_ALLOW));
  program.push_back(Return(SECCOMP_RET_KILL_PROCESS));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace

Hello Confine() {
  Hello hello;
  syscall(__NR_close_range, STDERR_FILENO + 1, ~0U, 0);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) hello.layers |= kNoNewPrivileges;
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0) hello.layers |= kNotDumpable;
  const long abi =
      syscall(__NR_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi > 0) {
    hello.landlock_abi = static_cast<uint32_t>(abi);
    if (ForbidFiles(abi)) hello.layers |= kLandlock;
  }
  if (SetLimits()) hello.layers |= kLimits;
  if (!kSanitized && FilterCalls()) hello.layers |= kSeccomp;
  return hello;
}

}  // namespace hermes::sync::unpack
