// What hermes-unpack can still do once it is confined. Each question costs a process.

#include "sync/unpack/confine.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace hermes::sync::unpack {
namespace {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HERMES_SANITIZED 1
#endif
#endif

void SkipWithoutSeccomp() {
#ifdef HERMES_SANITIZED
  GTEST_SKIP() << "a sanitizer's runtime needs the calls that are forbidden";
#endif
}

[[noreturn]] void Try(const std::function<void()>& act) {
  Confine();
  act();
  _exit(0);
}

TEST(ConfineDeathTest, KillsWhoeverReachesOut) {
  SkipWithoutSeccomp();
  if (testing::Test::IsSkipped()) return;
  int inherited = open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(inherited, 0);
  const std::vector<std::pair<const char*, std::function<void()>>> acts = {
      {"open", [] { open("/etc/passwd", O_RDONLY | O_CLOEXEC); }},
      {"create", [] { open("evil", O_WRONLY | O_CREAT | O_CLOEXEC, 0600); }},
      {"unlink", [] { unlink("evil"); }},
      {"rename", [] { rename("evil", "worse"); }},
      {"socket", [] { socket(AF_UNIX, SOCK_STREAM, 0); }},
      {"exec", [] { execl("/bin/true", "true", nullptr); }},
      {"fork", [] { static_cast<void>(fork()); }},
      {"kill", [] { kill(getppid(), SIGTERM); }},
      {"ptrace", [] { ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }},
      {"dup", [] { static_cast<void>(dup(0)); }},
      {"executable memory",
       [] {
         static_cast<void>(
             mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
       }},
      {"making memory executable", [] { mprotect(nullptr, 4096, PROT_EXEC); }},
  };
  for (const auto& [name, act] : acts) {
    EXPECT_EXIT(Try(act), testing::KilledBySignal(SIGSYS), "") << name;
  }
  close(inherited);
}

TEST(ConfineDeathTest, LeavesReadingAndMemory) {
  EXPECT_EXIT(Try([] {
                std::vector<std::string> texts;
                for (int i = 0; i < 100; ++i) texts.emplace_back(1 << (i % 21), 'x');
                char byte = 0;
                if (read(0, &byte, 0) != 0 && errno != EBADF) _exit(1);
              }),
              testing::ExitedWithCode(0), "");
}

TEST(ConfineDeathTest, ClosesWhatWasInherited) {
  int inherited = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(inherited, 0);
  EXPECT_EXIT(Try([inherited] {
                char byte = 0;
                if (read(inherited, &byte, 1) != -1) _exit(1);
              }),
              testing::ExitedWithCode(0), "");
  close(inherited);
}

// Makes the kernel one that has no such call.
void TakeAway(uint32_t call) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{std::size(program), program};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) _exit(2);
}

TEST(ConfineDeathTest, GoesOnWithoutLandlockAndSaysSo) {
  SkipWithoutSeccomp();
  if (testing::Test::IsSkipped()) return;
  EXPECT_EXIT(
      {
        TakeAway(__NR_landlock_create_ruleset);
        Hello hello = Confine();
        const bool reported = hello.landlock_abi == 0 && (hello.layers & kLandlock) == 0;
        _exit(reported && (hello.layers & kSeccomp) != 0 ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

// Landlock alone still keeps every file away.
[[noreturn]] void OpenUnderLandlockAlone() {
  TakeAway(__NR_prctl);  // and so seccomp
  Hello hello = Confine();
  const bool alone = (hello.layers & kSeccomp) == 0 && (hello.layers & kLandlock) != 0;
  // As root, who may take back the limit on descriptors; others are kept away by that, too.
  const rlimit files{16, 16};
  const bool raised = setrlimit(RLIMIT_NOFILE, &files) == 0;
  const bool opened = open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0;
  _exit(alone && !opened && errno == (raised ? EACCES : EMFILE) ? 0 : 1);
}

TEST(ConfineDeathTest, LandlockAloneOpensNothing) {
  if (syscall(__NR_landlock_create_ruleset, nullptr, 0, 1U) <= 0) {
    GTEST_SKIP() << "this kernel has no Landlock";
  }
  EXPECT_EXIT(OpenUnderLandlockAlone(), testing::ExitedWithCode(0), "");
}

TEST(ConfineDeathTest, ReportsTheLayersThatAreOn) {
  EXPECT_EXIT(
      {
        Hello hello = Confine();
        uint32_t always = kNoNewPrivileges | kNotDumpable | kLimits;
        const bool landlock = (hello.layers & kLandlock) != 0;
        _exit((hello.layers & always) == always && landlock == (hello.landlock_abi > 0) ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace hermes::sync::unpack
