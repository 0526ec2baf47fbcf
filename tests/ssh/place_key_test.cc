// Where a stored session goes back to: its own runner's folder, on its own host, whatever
// ssh_config says by then. Over a transport that does what the test says.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/ssh/openssh_resolve.h"
#include "backends/ssh/ssh_backend.h"
#include "backends/ssh/ssh_handle.h"
#include "backends/ssh/ssh_host.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/fake_clock.h"
#include "tests/ssh/far_transport.h"

namespace hermes {
namespace {

using testing::HasSubstr;

const std::string kOne(64, '1'), kTwo(64, '2'), kThree(64, '3'), kFour(64, '4');

TEST(SshHandleTest, IsWhatWasStored) {
  const SshHandle handle{kOne, SshPlace{.name = "me@fe80::1:22", .route = "abc"}};
  EXPECT_EQ(handle.Text(), "ssh:" + kOne + ":abc:me@fe80::1:22");
  const std::optional<SshHandle> again = ParseSshHandle(handle.Text());
  ASSERT_TRUE(again && again->place);
  EXPECT_EQ(again->key, kOne);
  EXPECT_EQ(*again->place, *handle.place);
  const std::optional<SshHandle> direct = ParseSshHandle("ssh:" + kOne + "::me@h:22");
  ASSERT_TRUE(direct && direct->place);
  EXPECT_EQ(*direct->place, (SshPlace{.name = "me@h:22", .route = ""}));
}

TEST(SshHandleTest, OneOfAnEarlierVersionNamesItsFolder) {
  const std::optional<SshHandle> old = ParseSshHandle("ssh:" + kOne);
  ASSERT_TRUE(old);
  EXPECT_FALSE(old->place);
  EXPECT_EQ(old->PlaceKey(), "ssh:" + kOne);
  EXPECT_EQ(old->Directory(), "11111111");
}

TEST(SshHandleTest, NothingElseIsOne) {
  for (const std::string& text :
       {std::string(), std::string("ssh:"), std::string("local:x"), kOne, "ssh:" + kOne.substr(1),
        "ssh:" + kOne + "1", "ssh:" + kOne + ":", "ssh:" + kOne + ":abc", "ssh:" + kOne + ":abc:",
        "ssh:" + kOne.substr(8) + "; rm -rf:r:p", "ssh:" + std::string(64, 'A')}) {
    EXPECT_FALSE(ParseSshHandle(text)) << text;
  }
}

// What `ssh -G` says, as a route.
std::string RouteOf(const std::string& rest, const std::string& typed = "box") {
  return ParseResolved({}, "host " + typed + "\nhostname 10.0.0.5\nuser u\n" + rest)->facts.route;
}

TEST(SshRouteTest, IsOfWhatMayBeAnotherMachine) {
  EXPECT_EQ(RouteOf(""), "");
  EXPECT_EQ(RouteOf("proxyjump none\nproxycommand none\n"), "");
  EXPECT_EQ(RouteOf("serveraliveinterval 7\nciphers x\nidentityfile ~/.ssh/%n\n"), "");
  const std::string jump = RouteOf("proxyjump me@jump:33\n");
  EXPECT_EQ(jump.size(), 64u);
  EXPECT_EQ(RouteOf("ciphers x\nproxyjump me@jump:33\n"), jump);
  EXPECT_NE(RouteOf("proxyjump other\n"), jump);
  EXPECT_NE(RouteOf("proxyjump me@jump:33\nhostkeyalias k\n"), jump);
  EXPECT_NE(RouteOf("hostkeyalias k\n"), "");
  EXPECT_NE(RouteOf("proxycommand nc a %p\n"), RouteOf("proxycommand nc b %p\n"));
}

TEST(SshRouteTest, TheTypedNameIsPartOfItWhereTheCommandUsesIt) {
  EXPECT_EQ(RouteOf("proxycommand nc %h %p\n", "a"), RouteOf("proxycommand nc %h %p\n", "b"));
  EXPECT_NE(RouteOf("proxycommand nc %n %p\n", "a"), RouteOf("proxycommand nc %n %p\n", "b"));
}

class PlaceKeyTest : public testing::Test {
 protected:
  PlaceKeyTest() {
    Lead("h", kOne);
    Restart();
  }
  ~PlaceKeyTest() override {
    backend_.reset();
    clock_.Advance(Duration(0));
    EXPECT_EQ(far_.connections, 0);
  }

  // Where "box" leads, and how.
  void LeadNow(const std::string& host, const std::string& key, const std::string& route = "") {
    far_.names["box"] = {.host = host, .user = "u", .route = route, .sharing_key = key};
  }
  void Lead(const std::string& host, const std::string& key, const std::string& route = "") {
    LeadNow(host, key, route);
    clock_.Advance(kResolvedLife);
  }
  // As another hermesd of the same store.
  void Restart() {
    SshOptions options;
    options.daemon_id = "daemon";
    options.openssh = std::make_unique<FarTransport>(far_);
    options.libssh2 = std::make_unique<FarTransport>(far_);
    backend_ = MakeSshBackend(loop_, clock_, random_, std::move(options));
  }

  template <typename T>
  T Await(Task<T> task) {
    std::optional<T> result;
    asio::co_spawn(loop_.executor(), std::move(task),
                   [&result](std::exception_ptr, T value) { result.emplace(std::move(value)); });
    clock_.Advance(Duration(0));
    if (!result) clock_.Advance(kLoginPauseMost);
    EXPECT_TRUE(result.has_value()) << "it goes on";
    return *std::move(result);
  }
  absl::StatusOr<std::unique_ptr<Sandbox>> TryOpen(const std::string& handle = "") {
    SandboxSpec spec{.session_id = "s"};
    spec.ssh.host = "box";
    return Await(handle.empty() ? backend_->Open(spec) : backend_->Reattach(spec, handle));
  }
  std::unique_ptr<Sandbox> Open(const std::string& handle = "") {
    absl::StatusOr<std::unique_ptr<Sandbox>> sandbox = TryOpen(handle);
    EXPECT_TRUE(sandbox.ok()) << sandbox.status();
    return *std::move(sandbox);
  }
  // The folder that a runner is looked for in. The streams of this host end at once.
  std::string Folder(Sandbox& sandbox) {
    far_.commands.clear();
    EXPECT_FALSE(Await(sandbox.ConnectRunner(nullptr)).ok());
    EXPECT_EQ(far_.commands.size(), 1u);
    const std::string mark = "' hermes ";
    const std::string& command = far_.commands.at(0);
    const size_t at = command.find(mark) + mark.size();
    return command.substr(at, command.find(' ', at) - at);
  }
  // Closes it as a Cleanup does. True: the runner was asked to leave.
  bool Leaves(Sandbox& sandbox) {
    far_.commands.clear();
    EXPECT_TRUE(Await(sandbox.Close(true)).ok());
    return !far_.commands.empty();
  }

  Loop loop_;
  FakeClock clock_{loop_};
  SystemRandom random_;
  Far far_{loop_};
  std::unique_ptr<Backend> backend_;
};

TEST_F(PlaceKeyTest, AStoredSessionKeepsItsFolderWhateverElseChanges) {
  std::unique_ptr<Sandbox> session = Open();
  const std::string handle = session->handle(), key = session->place_key();
  EXPECT_EQ(Folder(*session), "daemon-11111111");
  session.reset();
  Lead("h", kTwo);
  Restart();
  session = Open(handle);
  EXPECT_EQ(session->place_key(), key) << "its link and what its mounts know";
  EXPECT_EQ(session->handle(), handle);
  EXPECT_EQ(session->description(), "u@h:22");
  EXPECT_EQ(Folder(*session), "daemon-11111111");
  const std::unique_ptr<Sandbox> fresh = Open();
  EXPECT_NE(fresh->place_key(), key);
  EXPECT_EQ(Folder(*fresh), "daemon-22222222");
  EXPECT_EQ(far_.connections, 1) << "two folders, one connection";
}

TEST_F(PlaceKeyTest, AStoredSessionOfAnEarlierVersionKeepsItsFolder) {
  Lead("h", kTwo);
  const std::unique_ptr<Sandbox> session = Open("ssh:" + kOne);
  EXPECT_EQ(session->place_key(), "ssh:" + kOne);
  EXPECT_EQ(Folder(*session), "daemon-11111111");
  Lead("elsewhere", kThree);
  EXPECT_FALSE(TryOpen(session->handle()).ok()) << "from now on it is written down where that is";
}

TEST_F(PlaceKeyTest, AStoredSessionIsNotLedElsewhere) {
  const std::string handle = Open()->handle();
  Lead("elsewhere", kTwo);
  absl::Status status = TryOpen(handle).status();
  EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_UNREACHABLE) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("is on u@h:22, and ssh_config now leads box to u@elsewhere:22"));
  EXPECT_THAT(MetadataOf(status)["next"], HasSubstr("cleanup SESSION --discard"));
  EXPECT_LE(MetadataOf(status)["next"].size(), 256u);
  Lead("h", kThree, "by a jump host");
  status = TryOpen(handle).status();
  EXPECT_EQ(ReasonOf(status), Reason::k_BACKEND_UNREACHABLE) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("by another way"));
  EXPECT_EQ(far_.logins, 0);
  LeadNow("h", kFour);
  EXPECT_TRUE(TryOpen(handle).ok()) << "it is mended, and tried at once";
}

TEST_F(PlaceKeyTest, TheLastOfAFolderTakesTheRunnerAway) {
  const std::string handle = Open()->handle();
  Lead("h", kTwo);
  const std::unique_ptr<Sandbox> one = Open(handle), two = Open(handle), fresh = Open();
  for (const auto& session : {one.get(), two.get(), fresh.get()}) Folder(*session);
  EXPECT_FALSE(Leaves(*one)) << "another is in the same folder";
  EXPECT_TRUE(Leaves(*fresh)) << "the others are in another one";
  EXPECT_THAT(far_.commands.at(0), HasSubstr(" hermes daemon-22222222"));
  EXPECT_TRUE(Leaves(*two));
  EXPECT_THAT(far_.commands.at(0), HasSubstr(" hermes daemon-11111111"));
}

TEST_F(PlaceKeyTest, WhatIsNoHandleIsRefused) {
  for (const std::string handle : {"local:x", "ssh:abc", "x"})
    EXPECT_EQ(ReasonOf(TryOpen(handle).status()), Reason::k_STORE_CORRUPT) << handle;
}

}  // namespace
}  // namespace hermes
