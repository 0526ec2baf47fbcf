// Streams over a control socket whose other side the test plays.

#include "backends/ssh/mux_stream.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>
#include <optional>
#include <thread>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/temp_dir.h"
#include "tests/runtime/run.h"

namespace hermes {
namespace {

constexpr uint32_t kOpened = 0x80000006, kExit = 0x80000004, kFailure = 0x80000003;

std::string Words(std::initializer_list<uint32_t> words) {
  std::string bytes;
  for (const uint32_t word : words) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(word >> shift));
  }
  return bytes;
}

// What ssh would have: the connection, the request and the program's three descriptors.
struct Asked {
  Fd connection;
  std::string request;
  Fd in, out, err;

  void Say(const std::string& bytes) const {
    EXPECT_EQ(send(connection.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
};

std::string ReadExactly(int fd, size_t size) {
  std::string bytes(size, '\0');
  EXPECT_EQ(recv(fd, bytes.data(), size, MSG_WAITALL), static_cast<ssize_t>(size));
  return bytes;
}

std::string ReadPacket(int fd) {
  const std::string head = ReadExactly(fd, 4);
  size_t size = 0;
  for (const char c : head) size = size << 8 | static_cast<unsigned char>(c);
  return head + ReadExactly(fd, size);
}

Fd ReceiveDescriptor(int fd) {
  char byte = 0;
  iovec data{.iov_base = &byte, .iov_len = 1};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof(space);
  EXPECT_EQ(recvmsg(fd, &message, MSG_CMSG_CLOEXEC), 1);
  int received = -1;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr) memcpy(&received, CMSG_DATA(header), sizeof(int));
  return Fd(received);
}

// Says what the test tells it to.
class FakeMaster : public MuxMaster {
 public:
  Task<absl::Status> Check() override {
    ++checks;
    co_return status;
  }
  absl::Status status = absl::OkStatus();
  int checks = 0;
};

class MuxStreamTest : public testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    listener_ = Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path().c_str(), path().size());
    ASSERT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(listen(listener_.get(), 8), 0);
  }

  // Plays ssh for one request while the stream is opened.
  absl::StatusOr<std::unique_ptr<Stream>> Open(std::function<void(Asked&)> answer,
                                               const std::string& command = "true") {
    std::thread ssh([&] {
      asked_.connection = Fd(accept(listener_.get(), nullptr, nullptr));
      asked_.request = ReadPacket(asked_.connection.get()) + ReadPacket(asked_.connection.get());
      asked_.in = ReceiveDescriptor(asked_.connection.get());
      asked_.out = ReceiveDescriptor(asked_.connection.get());
      asked_.err = ReceiveDescriptor(asked_.connection.get());
      answer(asked_);
    });
    auto stream = RunTask(loop_, OpenMuxStream(loop_, clock_, master_, path(), command));
    ssh.join();
    return stream;
  }

  absl::StatusOr<size_t> Read(Stream& stream) {
    char buffer[16];
    return RunTask(loop_, stream.ReadStdout(buffer));
  }

  std::string path() const { return dir_.path() + "/s"; }

  TempDir dir_;
  Loop loop_;
  SystemClock clock_{loop_};
  Fd listener_;
  std::shared_ptr<FakeMaster> master_ = std::make_shared<FakeMaster>();
  Asked asked_;
};

void SayOpened(Asked& asked) { asked.Say(mux::EncodeHello() + Words({12, kOpened, 1, 9})); }

TEST_F(MuxStreamTest, SendsTheRequestAndItsThreeDescriptorsAtOnce) {
  auto stream = Open(SayOpened, "echo hi");
  ASSERT_TRUE(stream.ok()) << stream.status();
  EXPECT_EQ(asked_.request, mux::EncodeHello() + mux::EncodeNewSession(1, "echo hi"));
  EXPECT_EQ(RunTask(loop_, (*stream)->Write("in")), absl::OkStatus());
  char bytes[2];
  EXPECT_EQ(read(asked_.in.get(), bytes, 2), 2);
  (*stream)->CloseStdin();
  EXPECT_EQ(read(asked_.in.get(), bytes, 2), 0);
  EXPECT_EQ(write(asked_.err.get(), "err", 3), 3);
  char buffer[8];
  EXPECT_EQ(*RunTask(loop_, (*stream)->ReadStderr(buffer)), 3u);
}

TEST_F(MuxStreamTest, AnEndIsBelievedOnlyWhenSshIsAtWork) {
  auto stream = Open(SayOpened);
  ASSERT_TRUE(stream.ok());
  asked_.out.reset();
  EXPECT_EQ(*Read(**stream), 0u);
  EXPECT_EQ(master_->checks, 1);
  master_->status = Error(Reason::k_BACKEND_UNREACHABLE, "gone");
  const auto end = Read(**stream);
  EXPECT_EQ(ReasonOf(end.status()), Reason::k_BACKEND_UNREACHABLE);
}

TEST_F(MuxStreamTest, TheStatusMayComeBeforeTheOutput) {
  auto stream = Open(SayOpened);
  ASSERT_TRUE(stream.ok());
  asked_.Say(Words({12, kExit, 9, 3}));
  EXPECT_EQ(RunTask(loop_, (*stream)->WaitEnd())->value, 3);
  EXPECT_EQ(write(asked_.out.get(), "late", 4), 4);
  EXPECT_EQ(*Read(**stream), 4u);
  asked_.out.reset();
  asked_.connection.reset();
  EXPECT_EQ(*Read(**stream), 0u);
  EXPECT_EQ(RunTask(loop_, (*stream)->WaitEnd())->value, 3);
}

TEST_F(MuxStreamTest, AClosedConnectionWithoutAStatusIsNoEnd) {
  auto stream = Open(SayOpened);
  ASSERT_TRUE(stream.ok());
  asked_.connection.reset();
  EXPECT_FALSE(RunTask(loop_, (*stream)->WaitEnd()).has_value());
}

TEST_F(MuxStreamTest, DestroyingItClosesEverything) {
  auto stream = Open(SayOpened);
  ASSERT_TRUE(stream.ok());
  stream->reset();
  char byte;
  EXPECT_EQ(read(asked_.in.get(), &byte, 1), 0);
  EXPECT_LT(write(asked_.out.get(), "x", 1), 0);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(recv(asked_.connection.get(), &byte, 1, 0), 0);
}

TEST_F(MuxStreamTest, ARefusalLeavesNothingOpen) {
  const std::string text = "Session open refused by peer";
  const auto size = static_cast<uint32_t>(text.size());
  auto stream = Open([&](Asked& asked) {
    asked.Say(mux::EncodeHello() + Words({12 + size, kFailure, 1, size}) + text);
  });
  EXPECT_TRUE(IsSlotBusy(stream.status())) << stream.status();
  char byte;
  EXPECT_EQ(read(asked_.in.get(), &byte, 1), 0);
  EXPECT_EQ(recv(asked_.connection.get(), &byte, 1, 0), 0);
}

TEST_F(MuxStreamTest, AnEndBeforeTheReplySaysHowTheConnectionBroke) {
  master_->status = Error(Reason::k_BACKEND_UNREACHABLE, "ssh said why");
  auto stream = Open([](Asked& asked) { asked.connection.reset(); });
  EXPECT_EQ(stream.status(), master_->status);
}

// The far side may take its time, ssh may not.
TEST_F(MuxStreamTest, AReplyIsWaitedForAsLongAsSshIsAtWork) {
  FakeClock clock(loop_);
  std::optional<absl::Status> opened;
  asio::co_spawn(loop_.executor(), OpenMuxStream(loop_, clock, master_, path(), "true"),
                 [&](std::exception_ptr, absl::StatusOr<std::unique_ptr<Stream>> stream) {
                   opened = stream.status();
                 });
  for (int asked = 0; asked < 5; ++asked) {
    clock.Advance(kReplyPatience - std::chrono::milliseconds(1));
    EXPECT_EQ(master_->checks, asked);
    clock.Advance(std::chrono::milliseconds(1));
    EXPECT_EQ(master_->checks, asked + 1);
  }
  EXPECT_FALSE(opened.has_value());
  master_->status = Error(Reason::k_BACKEND_UNREACHABLE, "stopped");
  clock.Advance(kReplyPatience);
  ASSERT_TRUE(opened.has_value());
  EXPECT_EQ(*opened, master_->status);
  EXPECT_EQ(clock.alarms(), 0u);
}

TEST_F(MuxStreamTest, NonsenseAndOtherVersionsAreErrors) {
  auto nonsense = Open([](Asked& asked) { asked.Say(Words({0xffffffff})); });
  EXPECT_EQ(ReasonOf(nonsense.status()), Reason::k_BACKEND_UNREACHABLE);
  auto version = Open([](Asked& asked) { asked.Say(Words({8, 1, 5})); });
  EXPECT_EQ(ReasonOf(version.status()), Reason::k_CAPABILITY_MISSING);
}

TEST_F(MuxStreamTest, NobodyThereIsUnreachable) {
  auto stream = RunTask(loop_, OpenMuxStream(loop_, clock_, master_, path() + "x", "true"));
  EXPECT_EQ(ReasonOf(stream.status()), Reason::k_BACKEND_UNREACHABLE);
}

}  // namespace
}  // namespace hermes
