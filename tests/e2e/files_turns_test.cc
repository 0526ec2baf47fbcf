// Two daemons that land on one host root take turns, whether or not they know a common lock file,
// and no version of anybody is lost between them.

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <set>
#include <thread>

#include "tests/e2e/files_fixture.h"
#include "tests/hosts/processes.h"

namespace hermes {
namespace {

// What the two daemons' home is like: with a ~/.hermes they lock its file, as other programs do.
enum class Home { kWithHermes, kBare };

class TwoDaemonsTest : public FilesTest, public testing::WithParamInterface<Home> {
 protected:
  TwoDaemonsTest() {
    fs::create_directory(home());
    if (GetParam() == Home::kWithHermes) fs::create_directory(home() + "/.hermes");
    daemon_.Kill(SIGTERM);
    for (DaemonProcess* daemon : {&daemon_, &second_}) {
      daemon->SetHome(home());
      daemon->Start();
    }
  }
  void CreateBoth() {
    Create();
    v1::CreateSessionRequest other = Request("s");
    other.mutable_mounts(0)->set_remote_root(dir_ + "/far2");
    const grpc::Status status = Create(second_, other);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  using FilesTest::Create;

  std::string home() const { return dir_ + "/home"; }
  static std::string Shown(const DaemonProcess& daemon) {
    return RunProgram({.argv = {BinDir() + "/hermesctl", "--socket", daemon.socket(), "session",
                                "show", "s"}})
        .out;
  }

  DaemonProcess second_;
};

TEST_P(TwoDaemonsTest, SessionsShowTheLockThatTheyHonour) {
  CreateBoth();
  const std::string lock = home() + "/.hermes/.sync.lock";
  for (const DaemonProcess* daemon : {&daemon_, &second_}) {
    const bool shown = Shown(*daemon).find(lock) != std::string::npos;
    EXPECT_EQ(shown, GetParam() == Home::kWithHermes) << Shown(*daemon);
  }
}

// The first is stopped in the midst of its landing.
TEST_P(TwoDaemonsTest, OneWaitsWhileTheOtherLands) {
  constexpr int kFiles = 300;  // "99" is the last to land
  constexpr int kRounds = 10;
  for (int i = 0; i < kFiles; ++i) Spit(Host(std::to_string(i)), "at first");
  CreateBoth();
  const auto write = [&](const DaemonProcess& daemon, const std::string& far, int count,
                         const std::string& text) {
    const std::string script = "cd " + dir_ + "/" + far + "; for i in $(seq 0 " +
                               std::to_string(count - 1) + "); do echo " + text + " > $i; done";
    ASSERT_EQ(ExecuteToEnd(daemon, Shell("s", script)).finished, 1);
  };
  bool stopped = false;
  for (int round = 0; round < kRounds && !stopped; ++round) {
    const std::string number = std::to_string(round);
    write(second_, "far2", 1, "second" + number);
    write(daemon_, "far", kFiles, "first" + number);
    const FirstRename rename(dir_ + "/host");
    const pid_t pid = daemon_.pid();
    std::thread client([this] { EXPECT_TRUE(Pull(daemon_).status.ok()); });
    EXPECT_TRUE(rename.Await());
    ::kill(pid, SIGSTOP);
    stopped = Slurp(Host("99")) != "first" + number + "\n";
    bool waited = false;
    const Synced pulled = Pull(second_, "s", [&](const std::string& phase) {
      if (phase != "waiting") return;
      waited = true;
      EXPECT_EQ(Slurp(Host("0")), "first" + number + "\n");
      ::kill(pid, SIGCONT);
    });
    ::kill(pid, SIGCONT);
    client.join();
    EXPECT_TRUE(pulled.status.ok()) << pulled.status.error_message();
    EXPECT_TRUE(waited || !stopped);
    EXPECT_EQ(Slurp(Host("0")), "second" + number + "\n");
  }
  EXPECT_TRUE(stopped) << "each landing was over too soon";
}

// Everybody edits the same names, both sandboxes and a program of the host, and whoever replaces a
// version keeps what came out. So each version lies under a name, with who replaced it, or in undo.
TEST_P(TwoDaemonsTest, NoVersionOfAnySideIsLost) {
  constexpr int kNames = 4;
  constexpr int kRounds = 12;
  for (int i = 0; i < kNames; ++i) Spit(Host("f" + std::to_string(i)), "at first\n");
  CreateBoth();
  fs::create_directory(dir_ + "/taken");
  std::atomic<int> failed = 0;
  std::atomic<int> at_work = 2;
  const auto sandbox = [&](const DaemonProcess& daemon, const std::string& far) {
    for (int round = 0; round < kRounds; ++round) {
      const std::string tag = far + "-" + std::to_string(round);
      const std::string script = "cd " + dir_ + "/" + far + "; for i in $(seq 0 " +
                                 std::to_string(kNames - 1) + "); do mv f$i " + dir_ + "/taken/" +
                                 tag + "-f$i; echo " + tag + "-f$i > f$i; done";
      const Seen seen = ExecuteToEnd(daemon, Shell("s", script));
      const Synced pulled = Pull(daemon);
      if (seen.finished == 1 && pulled.status.ok()) continue;
      ++failed;
      ADD_FAILURE() << seen.status.error_message() << pulled.status.error_message();
    }
    --at_work;
  };
  int edits = 0;
  const auto host = [&] {
    for (; at_work > 0; ++edits) {
      const std::string tag = "host-" + std::to_string(edits);
      const std::string name = "f" + std::to_string(edits % kNames);
      const std::string mine = dir_ + "/taken/" + tag;
      Spit(mine, tag + "\n");
      if (::renameat2(AT_FDCWD, mine.c_str(), AT_FDCWD, Host(name).c_str(), RENAME_EXCHANGE) != 0)
        ++failed;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));  // a busy person
    }
  };
  std::thread one([&] { sandbox(daemon_, "far"); });
  std::thread two([&] { sandbox(second_, "far2"); });
  host();
  one.join();
  two.join();
  EXPECT_EQ(failed, 0);
  std::set<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(dir_)) {
    if (entry.is_regular_file() && entry.path().filename() != "journal")
      found.insert(Slurp(entry.path()));
  }
  for (int edit = 0; edit < edits; ++edit) {
    EXPECT_TRUE(found.contains("host-" + std::to_string(edit) + "\n")) << edit << " of " << edits;
  }
  for (const char* far : {"far", "far2"}) {
    for (int i = 0; i < kRounds * kNames; ++i) {
      const std::string version =
          std::string(far) + "-" + std::to_string(i / kNames) + "-f" + std::to_string(i % kNames);
      EXPECT_TRUE(found.contains(version + "\n")) << version;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Homes, TwoDaemonsTest, testing::Values(Home::kWithHermes, Home::kBare),
                         [](const auto& home) {
                           return home.param == Home::kBare ? "Bare" : "WithHermes";
                         });

}  // namespace
}  // namespace hermes
