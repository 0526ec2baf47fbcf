#include "tests/contract/ssh_stand.h"

#include <utility>
#include <vector>

#include "backends/runner/blob.h"
#include "backends/ssh/libssh2_transport.h"
#include "backends/ssh/openssh_transport.h"
#include "backends/ssh/ssh_backend.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/workers.h"
#include "tests/hosts/processes.h"

namespace hermes {
namespace {

struct Needs {
  explicit Needs(Loop& loop) : workers(loop, 1) {}
  SystemRandom random;
  ThreadWorkers workers;
};

}  // namespace

std::string SshStand::Unsupported() {
  const std::string account = TestAccount::IsOwn() ? "" : TestAccount::Unsupported();
  return account.empty() ? OpenSshServer::Unsupported() : account;
}

const SshKey& SshStand::key() {
  if (!key_) NewKey();
  return *key_;
}

void SshStand::MakeAccount(AccountSpec spec) {
  account_ = TestAccount::IsOwn() ? TestAccount::Own() : TestAccount::Make(std::move(spec));
}

void SshStand::ServeOpenSsh(OpenSshOptions options) {
  if (account_ == nullptr) MakeAccount();
  options.logins.push_back({account_->name(), {key().public_line}});
  server_ = OpenSshServer::Start(std::move(options));
}

void SshStand::ServeDropbear() {
  if (account_ == nullptr) MakeAccount();
  account_->AuthorizeKey(key().public_line);
  server_ = DropbearServer::Start();
}

std::unique_ptr<Backend> SshStand::MakeHastyBackend(Loop& loop, Clock& clock,
                                                    const std::string& dir, Duration place_limit) {
  static auto* kept = new std::vector<std::unique_ptr<Needs>>;
  kept->push_back(std::make_unique<Needs>(loop));
  Needs& needs = *kept->back();
  OpenSshTransportOptions openssh;
  openssh.runtime_dir = dir + "/s";
  SshOptions options;
  options.daemon_id = "stand";
  options.learned_known_hosts = dir + "/learned";
  options.host_key = "accept-new";
  options.place_limit = place_limit;
  options.programs = {RunnerBinary("x86_64"), RunnerBinary("aarch64")};
  options.openssh = MakeOpenSshTransport(loop, clock, needs.random, std::move(openssh));
  options.libssh2 = MakeLibssh2Transport(loop, clock, needs.workers);
  return MakeSshBackend(loop, clock, needs.random, std::move(options));
}

void SshStand::Fill(SandboxSpec& spec, SshTransportChoice transport, int port) {
  spec.ssh.host = server_->host();
  spec.ssh.port = static_cast<uint32_t>(port != 0 ? port : server_->port());
  spec.ssh.user = account_->name();
  spec.ssh.key_file = key().private_path;
  spec.ssh.transport = transport;
}

}  // namespace hermes
