// The contract on another host. One server and one account serve all tests of a process.

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "tests/contract/driver.h"
#include "tests/contract/ssh_stand.h"
#include "tests/fakes/eventually.h"
#include "tests/hosts/processes.h"

namespace hermes::contract {
namespace {

constexpr size_t kShownWords = 200;  // bytes of a command line, in a failure

// What the sessions of this process share.
struct Host : SshStand {
  bool stopped = false;
};

std::unique_ptr<Host>& TheHost() {
  static std::unique_ptr<Host> host;
  return host;
}

void StartOpenSsh() {
  TheHost() = std::make_unique<Host>();
  TheHost()->ServeOpenSsh();
}

void StartDropbear() {
  TheHost() = std::make_unique<Host>();
  TheHost()->ServeDropbear();
}

// An earlier test may have left the server stopped.
std::unique_ptr<Backend> SshBackendIn(Loop& loop, Clock& clock, const std::string& dir) {
  Host& host = *TheHost();
  if (std::exchange(host.stopped, false)) host.server().Restart();
  return SshStand::MakeBackend(loop, clock, dir);
}

// No server listens until it is started again at the same port.
std::pair<std::unique_ptr<Backend>, std::function<void()>> BrokenSshBackendIn(
    Loop& loop, Clock& clock, const std::string& dir) {
  TheHost()->server().Stop();
  TheHost()->stopped = true;
  return {SshStand::MakeBackend(loop, clock, dir), [] {
            TheHost()->server().Restart();
            TheHost()->stopped = false;
          }};
}

void KillFarRunner(const std::string&) {
  if (TheHost() == nullptr) return;
  const std::string folder = TheHost()->account().home() + "/.cache/hermesd";
  if (!std::filesystem::exists(folder)) return;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    KillRunnerOf(entry.path().string() + "/s");
  }
}

// What is left of the suite when its last test is over, before the account goes with all that runs
// as it: an ssh here, there a session of the server, a command, a file service. A runner lingers by
// design, for its sessions were not closed: the suite's end has killed that one (KillFarRunner),
// and its commands and waiting shells must end with it.
std::string Left(Host& host) {
  std::string left;
  for (const ProcessFacts& process : DescendantsOf(getpid())) {
    if (process.name == "ssh") left += " ssh here,";
  }
  for (const pid_t pid : host.server().SessionPids()) {
    left += " session " + std::to_string(pid) + " of the server,";
  }
  for (const pid_t pid : host.account().Processes()) {
    ProcessFacts facts;
    if (!ReadProcess(pid, &facts)) continue;
    if (facts.name == "sshd" || facts.name == "dropbear") continue;
    std::string words = ReadWholeFile("/proc/" + std::to_string(pid) + "/cmdline");
    std::replace(words.begin(), words.end(), '\0', ' ');
    left += " " + facts.name + " (" + words.substr(0, kShownWords) + "),";
  }
  return left;
}

void EndHost() {
  EXPECT_TRUE(Eventually([] { return Left(*TheHost()).empty(); }))
      << "the suite has left:" << Left(*TheHost());
  TheHost().reset();
}

enum class Server { kOpenSsh, kDropbear };

// With HERMES_DEEP a runner's tests repeat all that they can. Without a runner each command costs a
// channel and a shell, and Dropbear's a login now and then: as often as fits into the tests' limits
// on two busy cores.
int ScaleOf(const Place& place, Server server) {
  if (std::getenv("HERMES_DEEP") == nullptr) return 10;
  if (place.complete) return 1;
  return server == Server::kOpenSsh ? 2 : 5;
}

Place PlaceFor(std::string name, std::string engine, SshTransportChoice transport,
               Server server = Server::kOpenSsh) {
  Place place;
  place.name = std::move(name);
  place.engine = std::move(engine);
  place.backend = SshBackendIn;
  place.broken_backend = BrokenSshBackendIn;
  place.begin = server == Server::kOpenSsh ? StartOpenSsh : StartDropbear;
  place.end = EndHost;
  place.where = [transport](SandboxSpec& spec) { TheHost()->Fill(spec, transport); };
  if (place.engine == "runner") place.kill_far_end = KillFarRunner;
  place.complete = place.engine == "runner";
  place.scale = ScaleOf(place, server);
  return place;
}

std::string NameOf(const ::testing::TestParamInfo<Place>& info) { return info.param.name; }

constexpr auto kOpenSsh = SshTransportChoice::kOpenSsh;
constexpr auto kLibssh2 = SshTransportChoice::kLibssh2;

INSTANTIATE_TEST_SUITE_P(OpenSsh, BackendContract,
                         ::testing::Values(PlaceFor("OpensshRunner", "runner", kOpenSsh),
                                           PlaceFor("OpensshPlain", "plain", kOpenSsh),
                                           PlaceFor("Libssh2Runner", "runner", kLibssh2),
                                           PlaceFor("Libssh2Plain", "plain", kLibssh2)),
                         NameOf);

INSTANTIATE_TEST_SUITE_P(
    Dropbear, BackendContract,
    ::testing::Values(PlaceFor("OpensshRunner", "runner", kOpenSsh, Server::kDropbear),
                      PlaceFor("OpensshPlain", "plain", kOpenSsh, Server::kDropbear),
                      PlaceFor("Libssh2Runner", "runner", kLibssh2, Server::kDropbear),
                      PlaceFor("Libssh2Plain", "plain", kLibssh2, Server::kDropbear)),
    NameOf);

}  // namespace
}  // namespace hermes::contract
