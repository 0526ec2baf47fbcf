// The SSH backend on a broken network and a host that dies: what was said is true, what ran goes
// on, no byte is lost or comes twice.

#include <array>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>

#include <openssl/evp.h>

#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/status.h"
#include "tests/ssh/place_stand.h"

namespace hermes {
namespace {

using contract::RunPtr;
using contract::TestSession;
using std::chrono::seconds;

constexpr size_t kBig = 64 << 20;
constexpr int kCuts = 10;
// For a machine that is busy, and less than what another question to a dead peer would take.
constexpr Duration kSlack = seconds(2);

// SHA-256 of bytes as they come.
class Digest {
 public:
  Digest() : context_(EVP_MD_CTX_new()) { EVP_DigestInit_ex(context_, EVP_sha256(), nullptr); }
  ~Digest() { EVP_MD_CTX_free(context_); }
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;
  void Add(std::string_view bytes) {
    EVP_DigestUpdate(context_, bytes.data(), bytes.size());
    size_ += bytes.size();
  }
  std::string End() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> raw;
    unsigned size = 0;
    EVP_DigestFinal_ex(context_, raw.data(), &size);
    return std::string(reinterpret_cast<char*>(raw.data()), size) + std::to_string(size_);
  }

 private:
  EVP_MD_CTX* context_;
  size_t size_ = 0;
};

class PlaceFaults : public PlaceStand, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    PlaceStand::SetUp();
    if (std::string(GetParam()) == "Libssh2") UseLibssh2();
  }

  // A file of random bytes over there; its digest.
  std::string MakeBigFile() {
    std::string block(1 << 20, '\0');
    std::ifstream random("/dev/urandom", std::ios::binary);
    std::ofstream file(account().home() + "/big", std::ios::binary);
    Digest digest;
    for (size_t bytes = 0; bytes < kBig; bytes += block.size()) {
      random.read(block.data(), static_cast<std::streamsize>(block.size()));
      file.write(block.data(), static_cast<std::streamsize>(block.size()));
      digest.Add(block);
    }
    return digest.End();
  }

  // A run that hands its output to `digest`; `seen` is called after each piece.
  RunPtr Cat(TestSession& session, Digest* digest, std::function<void()> seen = {}) {
    RunPtr run = world().Start(session, std::string("cat ~/big"));
    run->keep = false;
    run->tap = [digest, seen = std::move(seen)](const DataEvent& data) {
      digest->Add(data.data);
      if (seen) seen();
    };
    return run;
  }

  void ExpectExit(const RunPtr& run, int code) {
    EXPECT_EQ(run->outcome->state, CommandState::kExited) << run->Told();
    EXPECT_FALSE(run->outcome->signalled) << run->Told();
    EXPECT_EQ(run->outcome->value, code) << run->Told();
    EXPECT_TRUE(run->lost.empty());
  }

  // What a plain engine says of a command whose stream has broken.
  void ExpectUnknown(const RunPtr& run) {
    EXPECT_EQ(run->outcome->state, CommandState::kUnknown) << run->Told();
    EXPECT_EQ(run->outcome->cause, Cause::kSandboxLost) << run->Told();
    EXPECT_EQ(run->out, "up\n");
  }

  // Connections that ended while somebody wanted to log in.
  int RefusedLogins() const {
    int refused = 0;
    for (const std::string& line : SplitLines(server().Log())) {
      if (line.find("authenticating user") != std::string::npos) ++refused;
    }
    return refused;
  }

  // All at once: none goes on before every one of them has said that it is there.
  void RunHundreds(int max_sessions) {
    Serve({"MaxSessions " + std::to_string(max_sessions)});
    TestSession& session = Open("runner");
    MakeGate();
    const size_t clients = std::string(GetParam()) == "OpenSsh" ? 1 : 0;
    for (const size_t count : {50, 300}) {
      std::vector<std::string> scripts;
      for (size_t i = 0; i < count; ++i) {
        scripts.push_back(std::string("echo there; ") + kWaitAtGate + "; echo " +
                          std::to_string(i) + "; exit " + std::to_string(i % 9));
      }
      bool open = false;
      const auto all = RunTogether(session, scripts, {.heard = [&](size_t heard) {
                                     if (heard < count || std::exchange(open, true)) return;
                                     EXPECT_EQ(Clients().size(), clients) << "one per command?";
                                     LetThrough(count);
                                   }});
      for (size_t i = 0; i < all.size(); ++i) {
        EXPECT_TRUE(all[i]->status.ok()) << i << all[i]->status;
        EXPECT_EQ(all[i]->out, "there\n" + std::to_string(i) + "\n");
        EXPECT_EQ(all[i]->outcome.state, CommandState::kExited);
        EXPECT_EQ(all[i]->outcome.value, static_cast<int>(i % 9));
      }
    }
    EXPECT_EQ(Logins(), 1);
  }

  static std::string Numbers(int last) {
    std::string text;
    for (int i = 1; i <= last; ++i) text += std::to_string(i) + "\n";
    return text;
  }
};

TEST_P(PlaceFaults, TenCutsInOneOutputLoseNoByte) {
  Serve();
  DelayProxy& proxy = PutProxy();
  const std::string expected = MakeBigFile();
  TestSession& session = Open("runner");
  const auto cut_soon = [&] { proxy.CutAfter(1 + RandomNumber() % (5 << 20)); };
  int armed = 1;
  cut_soon();
  Digest digest;
  RunPtr run = Cat(session, &digest, [&] {
    if (proxy.cuts() < armed || armed == kCuts) return;
    ++armed;
    cut_soon();
  });
  world().WaitEnd(run, kLongPatience);
  world().WaitDrained(run, kLongPatience);
  ExpectExit(run, 0);
  EXPECT_EQ(digest.End(), expected);
  EXPECT_EQ(proxy.cuts(), kCuts);
}

TEST_P(PlaceFaults, KilledSshdDoesNotDisturbACommand) {
  Serve();
  TestSession& session = Open("runner");
  RunPtr run = world().Start(
      session, std::string("for i in $(seq 1 200); do echo $i; sleep 0.01; done; exit 7"));
  ASSERT_TRUE(world().Until([&] { return run->out.size() > 20; }));
  server().KillSessions();
  world().WaitEnd(run, kLongPatience);
  world().WaitDrained(run);
  ExpectExit(run, 7);
  EXPECT_EQ(run->out, Numbers(200));
}

TEST_P(PlaceFaults, AHostThatRebootsLosesItsCommandsAndServesAgain) {
  Serve();
  TestSession& session = Open("runner");
  RunPtr run = world().Start(session, std::string("echo up; sleep 1000"));
  ASSERT_TRUE(world().Until([&] { return !run->out.empty(); }));
  account().KillProcesses();
  server().Restart();
  world().WaitEnd(run, kLongPatience);
  EXPECT_EQ(run->outcome->state, CommandState::kUnknown) << run->Told();
  EXPECT_EQ(run->outcome->cause, Cause::kRunnerDied) << run->Told();
  EXPECT_EQ(run->out, "up\n");
  ExpectEcho(session);
  EXPECT_NE(session.changed_to, "") << "nobody was told that it is another place now";
  EXPECT_NE(session.changed_to, session.facts.incarnation);
}

// Each engine notices in time; what only the runner keeps goes on.
TEST_P(PlaceFaults, ASilentNetworkIsNoticedInTimeAndWaitedOut) {
  Serve();
  DelayProxy& proxy = PutProxy();
  TestSession& session = Open("runner");
  TestSession& plain = Open("plain");
  // Ends while nothing comes through.
  RunPtr run = world().Start(session, std::string("echo first; sleep 5; echo second; exit 5"));
  RunPtr lost = world().Start(plain, std::string("echo up; sleep 1000"));
  ASSERT_TRUE(world().Until([&] { return run->out == "first\n" && lost->out == "up\n"; }));
  const int before = proxy.connections();
  ASSERT_EQ(session.sandbox->open_streams(), 1u);
  proxy.Stop();
  const auto noticed = [&] { return lost->outcome && session.sandbox->open_streams() == 0; };
  EXPECT_TRUE(world().Until(noticed, kAliveLimit + kSlack)) << "the connection is still believed";
  EXPECT_FALSE(run->outcome.has_value()) << "nobody can know yet";
  EXPECT_EQ(run->out, "first\n");
  proxy.Resume();
  world().WaitEnd(lost, kLongPatience);
  ExpectUnknown(lost);
  world().WaitEnd(run, kLongPatience);
  world().WaitDrained(run);
  ExpectExit(run, 5);
  EXPECT_EQ(run->out, "first\nsecond\n");
  ExpectEcho(session);
  ExpectEcho(plain);
  EXPECT_GT(proxy.connections(), before) << "the dead connection was never given up";
  account().KillProcesses();  // nobody else ends what a plain engine lost
}

// Whatever a login, the search for the runner or its handshake had come to.
TEST_P(PlaceFaults, CutsWhileConnectingAgainAreRetried) {
  Serve();
  DelayProxy& proxy = PutProxy();
  TestSession& session = Open("runner");
  RunPtr run = world().Start(
      session, std::string("for i in $(seq 1 100); do echo $i; sleep 0.05; done; exit 6"));
  ASSERT_TRUE(world().Until([&] { return !run->out.empty(); }));
  constexpr int kShortCuts = 3;  // after two in mid login the third waits for what the host counts
  proxy.CutAfter(1 + RandomNumber() % 4000, kShortCuts);
  world().WaitEnd(run, kLongPatience);
  world().WaitDrained(run);
  ExpectExit(run, 6);
  EXPECT_EQ(run->out, Numbers(100));
  EXPECT_GT(proxy.cuts(), 0);
}

TEST_P(PlaceFaults, SessionsShareOneLoginAndCloseAlone) {
  Serve();
  TestSession& first = Open("runner");
  TestSession& second = Open("runner");
  TestSession& third = Open("plain");
  RunPtr of_second = world().Start(second, std::string("sleep 1; echo two"));
  RunPtr of_third = world().Start(third, std::string("sleep 1; echo three"));
  ASSERT_TRUE(world().Until([&] { return of_second->started && of_third->started; }));
  EXPECT_TRUE(world().Await(first.engine->Close(Duration(0))).ok());
  first.engine.reset();
  first.sandbox.reset();
  for (const RunPtr& run : {of_second, of_third}) {
    world().WaitEnd(run);
    world().WaitDrained(run);
    ExpectExit(run, 0);
  }
  EXPECT_EQ(of_second->out + of_third->out, "two\nthree\n");
  EXPECT_EQ(Logins(), 1);
}

TEST_P(PlaceFaults, RefusedCredentialsAreNotTriedAgainSoon) {
  Serve();
  DelayProxy& proxy = PutProxy();
  NewKey();
  for (const char* engine : {"runner", "plain", "runner"}) {
    const absl::Status opened = TryOpen(engine);
    EXPECT_EQ(ReasonOf(opened), Reason::k_BACKEND_AUTH_FAILED) << opened;
    EXPECT_THAT(std::string(opened.message()), testing::HasSubstr("not tried again for"));
  }
  EXPECT_EQ(proxy.connections(), 1);
  EXPECT_TRUE(Eventually([this] { return RefusedLogins() > 0; })) << server().Log();
  EXPECT_EQ(RefusedLogins(), 1);
}

// Another key each time, as often as a caller likes: the host counts our address.
TEST_P(PlaceFaults, RefusedLoginsStayBelowWhatHostsPunish) {
  Serve();
  SteadyTime penalty = world().clock.Now();  // lasts until then, as PerSourcePenalties reckons it
  for (int seen = 0; seen < 4;) {
    NewKey();
    EXPECT_EQ(ReasonOf(TryOpen("plain")), Reason::k_BACKEND_AUTH_FAILED);
    const SteadyTime now = world().clock.Now();
    for (; seen < RefusedLogins(); ++seen) penalty = std::max(penalty, now) + seconds(5);
    EXPECT_LT(penalty - now, seconds(15)) << seen << " logins";
  }
}

TEST_P(PlaceFaults, ACutMakesAPlainCommandUnknown) {
  Serve();
  DelayProxy& proxy = PutProxy();
  TestSession& session = Open("plain");
  RunPtr run = world().Start(session, std::string("echo up; sleep 1000"));
  ASSERT_TRUE(world().Until([&] { return !run->out.empty(); }));
  proxy.Cut();
  world().WaitEnd(run, kLongPatience);
  ExpectUnknown(run);
  ExpectEcho(session);
  account().KillProcesses();  // nobody else ends what a plain engine lost
}

TEST_P(PlaceFaults, AKilledSshdMakesAPlainCommandUnknown) {
  Serve();
  TestSession& session = Open("plain");
  RunPtr run = world().Start(session, std::string("echo up; sleep 1000"));
  ASSERT_TRUE(world().Until([&] { return !run->out.empty(); }));
  server().KillSessions();
  world().WaitEnd(run, kLongPatience);
  ExpectUnknown(run);
  ExpectEcho(session);
  account().KillProcesses();
}

TEST_P(PlaceFaults, ManyPlainCommandsTakeTurns) {
  Serve({"MaxSessions 2"});
  TestSession& session = Open("plain");
  std::vector<std::string> scripts;
  for (int i = 0; i < 20; ++i) scripts.push_back("sleep 0.1; echo " + std::to_string(i));
  const auto all = RunTogether(session, scripts);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_TRUE(all[i]->status.ok()) << i << all[i]->status;
    EXPECT_EQ(all[i]->out, std::to_string(i) + "\n");
    EXPECT_EQ(all[i]->outcome.state, CommandState::kExited);
    EXPECT_EQ(all[i]->outcome.value, 0);
  }
}

TEST_P(PlaceFaults, HundredsOfCommandsShareOneChannelOfTwo) { RunHundreds(2); }
TEST_P(PlaceFaults, HundredsOfCommandsShareOneChannelOfTen) { RunHundreds(10); }

TEST_P(PlaceFaults, NewKeysWhileDataMovesDoNotDisturb) {
  Serve({"RekeyLimit 4M"});
  const std::string expected = MakeBigFile();
  for (const char* engine : {"runner", "plain"}) {
    SCOPED_TRACE(engine);
    TestSession& session = Open(engine);
    Digest digest;
    RunPtr run = Cat(session, &digest);
    world().WaitEnd(run, kLongPatience);
    world().WaitDrained(run);
    ExpectExit(run, 0);
    EXPECT_EQ(digest.End(), expected);
  }
}

TEST_P(PlaceFaults, AServerThatClosesIdleChannelsDoesNotEndSilentCommands) {
  if (OpenSshServer::Version() < 902) GTEST_SKIP() << "this sshd has no ChannelTimeout";
  Serve({"ChannelTimeout session:*=3s"});
  TestSession& session = Open("runner");
  RunPtr run = world().Start(session, std::string("sleep 8; echo woke; exit 4"));
  world().WaitEnd(run, kLongPatience);
  world().WaitDrained(run);
  ExpectExit(run, 4);
  EXPECT_EQ(run->out, "woke\n");
}

TEST_P(PlaceFaults, AServerThatClosesIdleChannelsMakesASilentPlainCommandUnknown) {
  if (OpenSshServer::Version() < 902) GTEST_SKIP() << "this sshd has no ChannelTimeout";
  Serve({"ChannelTimeout session:*=1s"});
  TestSession& session = Open("plain");
  RunPtr run = world().Start(session, std::string("echo up; sleep 1000"));
  world().WaitEnd(run, kLongPatience);
  ExpectUnknown(run);
  ExpectEcho(session);
  account().KillProcesses();
}

class PlaceWithoutSsh : public PlaceStand {
 protected:
  void SetUp() override {
    PlaceStand::SetUp();
    path_ = getenv("PATH");
    setenv("PATH", "/no/such/folder", 1);
  }
  void TearDown() override {
    PlaceStand::TearDown();
    setenv("PATH", path_.c_str(), 1);
  }

 private:
  std::string path_;
};

TEST_F(PlaceWithoutSsh, TheLibraryLogsIn) {
  Serve();
  UseWhatIsThere();
  ExpectEcho(Open("runner"));
  EXPECT_EQ(Logins(), 1);
  EXPECT_TRUE(Clients().empty());
}

INSTANTIATE_TEST_SUITE_P(Transports, PlaceFaults, testing::Values("OpenSsh", "Libssh2"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace hermes
