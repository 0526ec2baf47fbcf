// The contract on another host. One server and one account serve all tests of a process.

#include <filesystem>
#include <memory>
#include <utility>

#include "tests/contract/driver.h"
#include "tests/contract/ssh_stand.h"

namespace hermes::contract {
namespace {

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

enum class Server { kOpenSsh, kDropbear };

Place PlaceFor(std::string name, std::string engine, SshTransportChoice transport,
               Server server = Server::kOpenSsh) {
  Place place;
  place.name = std::move(name);
  place.engine = std::move(engine);
  place.backend = SshBackendIn;
  place.broken_backend = BrokenSshBackendIn;
  place.begin = server == Server::kOpenSsh ? StartOpenSsh : StartDropbear;
  place.end = [] { TheHost().reset(); };
  place.where = [transport](SandboxSpec& spec) { TheHost()->Fill(spec, transport); };
  if (place.engine == "runner") place.kill_far_end = KillFarRunner;
  place.complete = place.engine == "runner";
  place.scale = 10;
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
