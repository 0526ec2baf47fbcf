// `hermes-runner connect`: what goes in comes out the same, whatever kind of descriptors the other
// side made its stdio of. The runner's end is an echo here.

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "tests/runner/harness.h"

namespace hermes::test {
namespace {

constexpr size_t kBytes = 24 << 20;

bool WriteWhole(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

class RelayTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hermes-relay-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (directory_ + "/s").copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(listen(listener_, 1), 0);
  }
  void TearDown() override {
    close(listener_);
    std::filesystem::remove_all(directory_);
  }
  // ends[0] is read from.
  static void MakePair(int ends[2]) {
    const bool pipes = std::string(GetParam()) == "Pipes";
    ASSERT_EQ(
        pipes ? pipe2(ends, O_CLOEXEC) : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends),
        0);
  }
  void Echo() const {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    std::string chunk(100'000, '\0');
    for (ssize_t n; (n = read(fd, chunk.data(), chunk.size())) > 0;) {
      if (!WriteWhole(fd, std::string_view(chunk).substr(0, static_cast<size_t>(n)))) break;
    }
    close(fd);
  }

  std::string directory_;
  int listener_ = -1;
};

TEST_P(RelayTest, CarriesEveryByteBothWays) {
  int in[2], out[2];
  MakePair(in);
  MakePair(out);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    execl(RunnerProgram().c_str(), "hermes-runner", "connect", directory_.c_str(), nullptr);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  std::string sent(kBytes, '\0');
  uint64_t state = 1;
  for (char& c : sent) c = static_cast<char>((state = state * 6364136223846793005 + 1) >> 56);
  std::thread echo([this] { Echo(); });
  std::thread writer([&] { EXPECT_TRUE(WriteWhole(in[1], sent)); });
  std::string got, chunk(1 << 20, '\0');
  while (got.size() < sent.size()) {
    const ssize_t n = read(out[0], chunk.data(), chunk.size());
    ASSERT_GT(n, 0) << got.size();
    got.append(chunk, 0, static_cast<size_t>(n));
  }
  EXPECT_TRUE(got == sent);
  writer.join();
  close(in[1]);
  EXPECT_EQ(read(out[0], chunk.data(), chunk.size()), 0) << "more than was sent";
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  echo.join();
  close(out[0]);
}

INSTANTIATE_TEST_SUITE_P(Stdio, RelayTest, testing::Values("Pipes", "Sockets"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace hermes::test
