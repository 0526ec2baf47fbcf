// The contract on another host: a real SSH server on this machine, with an account of its own that
// is not root. One server and one account serve all tests of a process.

#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "backends/runner/blob.h"
#include "backends/ssh/libssh2_transport.h"
#include "backends/ssh/openssh_transport.h"
#include "backends/ssh/ssh_backend.h"
#include "daemon/runtime/workers.h"
#include "tests/contract/driver.h"
#include "tests/hosts/ssh_server.h"
#include "tests/hosts/test_account.h"

namespace hermes::contract {
namespace {

// As small as it may be: what the sessions of this process share.
struct Host {
  TempDir folder;
  std::unique_ptr<TestAccount> account = TestAccount::Make();
  SshKey key = SshKey::Make(folder.path(), "key");
  std::unique_ptr<SshServer> server;
  bool stopped = false;
};

std::unique_ptr<Host>& TheHost() {
  static std::unique_ptr<Host> host;
  return host;
}

void StartOpenSsh() {
  auto host = std::make_unique<Host>();
  OpenSshOptions options;
  options.logins = {{host->account->name(), {host->key.public_line}}};
  host->server = OpenSshServer::Start(std::move(options));
  TheHost() = std::move(host);
}

void StartDropbear() {
  auto host = std::make_unique<Host>();
  host->account->AuthorizeKey(host->key.public_line);
  host->server = DropbearServer::Start();
  TheHost() = std::move(host);
}

// What a backend refers to; lives until the process ends.
struct Needs {
  explicit Needs(Loop& loop) : workers(loop, 1) {}
  SystemRandom random;
  ThreadWorkers workers;
};

std::unique_ptr<Backend> MakeBackend(Loop& loop, Clock& clock, const std::string& dir) {
  static auto* kept = new std::vector<std::unique_ptr<Needs>>;
  kept->push_back(std::make_unique<Needs>(loop));
  Needs& needs = *kept->back();
  OpenSshTransportOptions openssh;
  openssh.runtime_dir = dir + "/ssh";
  SshOptions options;
  options.daemon_id = "contract";
  options.learned_known_hosts = dir + "/known_hosts";
  options.host_key = "accept-new";
  options.programs = {RunnerBinary("x86_64"), RunnerBinary("aarch64")};
  options.openssh = MakeOpenSshTransport(loop, clock, needs.random, std::move(openssh));
  options.libssh2 = MakeLibssh2Transport(loop, clock, needs.workers);
  return MakeSshBackend(loop, clock, needs.random, std::move(options));
}

// An earlier test may have left the server stopped.
std::unique_ptr<Backend> SshBackendIn(Loop& loop, Clock& clock, const std::string& dir) {
  Host& host = *TheHost();
  if (std::exchange(host.stopped, false)) host.server->Restart();
  return MakeBackend(loop, clock, dir);
}

// No server listens until it is started again at the same port.
std::pair<std::unique_ptr<Backend>, std::function<void()>> BrokenSshBackendIn(
    Loop& loop, Clock& clock, const std::string& dir) {
  TheHost()->server->Stop();
  TheHost()->stopped = true;
  return {MakeBackend(loop, clock, dir), [] {
            TheHost()->server->Restart();
            TheHost()->stopped = false;
          }};
}

void KillFarRunner(const std::string&) {
  if (TheHost() == nullptr) return;
  const std::string folder = TheHost()->account->home() + "/.cache/hermesd";
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
  place.where = [transport](SandboxSpec& spec) {
    spec.ssh.host = TheHost()->server->host();
    spec.ssh.port = static_cast<uint32_t>(TheHost()->server->port());
    spec.ssh.user = TheHost()->account->name();
    spec.ssh.key_file = TheHost()->key.private_path;
    spec.ssh.transport = transport;
  };
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
