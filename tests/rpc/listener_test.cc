#include "daemon/rpc/listener.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "daemon/rpc/sd_notify.h"
#include "tests/rpc/scratch.h"

namespace hermes {
namespace {

mode_t ModeOf(const std::string& path) {
  struct stat info = {};
  EXPECT_EQ(stat(path.c_str(), &info), 0);
  return info.st_mode & 07777;
}

bool Connects(const std::string& path) { return ConnectUnix(path).valid(); }

TEST(ListenUnixTest, TheSocketIsTheOwnersUnlessAsked) {
  Scratch scratch;
  const mode_t before = umask(0);
  const auto fd = ListenUnix(scratch.path("s"), 0600);
  umask(before);
  ASSERT_TRUE(fd.ok()) << fd.status();
  EXPECT_EQ(ModeOf(scratch.path("s")), 0600u);
  EXPECT_TRUE(Connects(scratch.path("s")));
  const auto open = ListenUnix(scratch.path("t"), 0666);
  ASSERT_TRUE(open.ok());
  EXPECT_EQ(ModeOf(scratch.path("t")), 0666u);
}

TEST(ListenUnixTest, ADeadSocketIsReplacedALivingOneIsNot) {
  Scratch scratch;
  {
    ASSERT_TRUE(ListenUnix(scratch.path("s"), 0600).ok());
  }
  EXPECT_FALSE(Connects(scratch.path("s")));
  const auto again = ListenUnix(scratch.path("s"), 0600);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(absl::IsAlreadyExists(ListenUnix(scratch.path("s"), 0600).status()));
  EXPECT_TRUE(Connects(scratch.path("s")));
}

TEST(ListenUnixTest, OtherFilesAndLongPathsAreRefused) {
  Scratch scratch;
  close(open(scratch.path("file").c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_TRUE(absl::IsAlreadyExists(ListenUnix(scratch.path("file"), 0600).status()));
  EXPECT_EQ(access(scratch.path("file").c_str(), F_OK), 0);
  EXPECT_FALSE(ListenUnix(scratch.path(std::string(120, 'x')), 0600).ok());
  EXPECT_FALSE(ListenUnix("", 0600).ok());
}

TEST(ActivationTest, ForeignOrMissingVariablesMeanNoSocket) {
  setenv("LISTEN_PID", "1", 1);
  setenv("LISTEN_FDS", "1", 1);
  const auto foreign = TakeActivationSocket();
  ASSERT_TRUE(foreign.ok());
  EXPECT_FALSE(foreign->has_value());
  EXPECT_EQ(getenv("LISTEN_FDS"), nullptr);
  EXPECT_FALSE((*TakeActivationSocket()).has_value());
}

TEST(ActivationTest, AnythingButOneListeningUnixSocketIsAnError) {
  setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
  setenv("LISTEN_FDS", "2", 1);
  EXPECT_FALSE(TakeActivationSocket().ok());
  EXPECT_EQ(getenv("LISTEN_PID"), nullptr);
}

class NotifySocket {
 public:
  explicit NotifySocket(const std::string& address)
      : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un name = {};
    name.sun_family = AF_UNIX;
    memcpy(name.sun_path, address.data(), address.size());
    if (address[0] == '@') name.sun_path[0] = '\0';
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&name), length), 0);
  }
  std::string Receive() {
    char buffer[512];
    const ssize_t got = recv(fd_.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    return got < 0 ? "" : std::string(buffer, static_cast<size_t>(got));
  }

 private:
  Fd fd_;
};

TEST(SdNotifyTest, SaysReadyStatusAndStoppingOnPathAndAbstractSockets) {
  Scratch scratch;
  for (const std::string& address :
       {scratch.path("notify"), "@hermes-notify-test-" + std::to_string(getpid())}) {
    NotifySocket socket(address);
    const SdNotify notify(address);
    EXPECT_TRUE(notify.Ready("listens").ok());
    EXPECT_EQ(socket.Receive(), "READY=1\nSTATUS=listens");
    EXPECT_TRUE(notify.Status("two\nlines").ok());
    EXPECT_EQ(socket.Receive(), "STATUS=two lines");
    EXPECT_TRUE(notify.Stopping().ok());
    EXPECT_EQ(socket.Receive(), "STOPPING=1");
  }
}

TEST(SdNotifyTest, TheVariableIsTakenOutOfTheEnvironment) {
  Scratch scratch;
  NotifySocket socket(scratch.path("notify"));
  setenv("NOTIFY_SOCKET", scratch.path("notify").c_str(), 1);
  const SdNotify notify = SdNotify::FromEnvironment();
  EXPECT_EQ(getenv("NOTIFY_SOCKET"), nullptr);
  EXPECT_TRUE(notify.Stopping().ok());
  EXPECT_EQ(socket.Receive(), "STOPPING=1");
  EXPECT_TRUE(SdNotify::FromEnvironment().Stopping().ok());
}

TEST(SdNotifyTest, BadAddressesAreErrorsNotCrashes) {
  EXPECT_FALSE(SdNotify("relative").Stopping().ok());
  EXPECT_FALSE(SdNotify("/" + std::string(200, 'x')).Stopping().ok());
  EXPECT_FALSE(SdNotify("/nonexistent/socket").Stopping().ok());
}

}  // namespace
}  // namespace hermes
