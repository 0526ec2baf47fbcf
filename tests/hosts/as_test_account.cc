// as_test_account PROGRAM [WORD...]: runs a test as an account made for it, which is no root's, and
// removes the account with all that ran as it. Its exit code is the program's; 77 where no account
// can be made, 1 when something of it was left.

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/hosts/processes.h"
#include "tests/hosts/test_account.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::minutes kLimit{10};

int RunAsAccount(std::vector<std::string> words) {
  const std::unique_ptr<TestAccount> account = TestAccount::Make();
  // The build may lie where the account cannot go.
  std::string folder = (fs::temp_directory_path() / "hermes-as-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) GiveUp("make " + folder);
  ::chmod(folder.c_str(), 0755);
  const fs::path program = words.front();
  words.front() = folder + "/" + program.filename().string();
  fs::copy_file(program, words.front());
  const pid_t pid =
      Spawn({.argv = words,
             .env = {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + account->home(),
                     "USER=" + account->name(), std::string(kOwnAccount) + "=" + account->name()},
             .uid = account->uid(),
             .gid = account->gid(),
             .directory = account->home()});
  int status = AwaitChild(pid, kLimit);
  if (status < 0) KillChild(pid);
  for (const std::string& left : account->Remove()) {
    std::printf("%s left behind: %s\n", account->name().c_str(), left.c_str());
    status = 1;
  }
  fs::remove_all(folder);
  return status;
}

}  // namespace
}  // namespace hermes

int main(int argc, char** argv) {
  if (argc < 2) return 64;
  if (const std::string why = hermes::TestAccount::Unsupported(); !why.empty()) {
    std::printf("skipped: %s\n", why.c_str());
    return 77;
  }
  return hermes::RunAsAccount({argv + 1, argv + argc});
}
