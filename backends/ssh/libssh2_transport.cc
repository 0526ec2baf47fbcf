#include "backends/ssh/libssh2_transport.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/ssh/libssh2_auth.h"
#include "backends/ssh/libssh2_core.h"
#include "backends/ssh/libssh2_login.h"
#include "backends/ssh/libssh2_stream.h"
#include "backends/ssh/libssh2_wire.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr uint32_t kDefaultPort = 22;
constexpr std::string_view kName = "libssh2";

struct Account {
  std::string name;
  std::string home;
};

// $HOME wins, as in a shell.
Account OwnAccount() {
  Account account;
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(::geteuid(), &entry, buffer.data(), buffer.size(), &found) == 0 && found) {
    account.name = found->pw_name;
    account.home = found->pw_dir;
  }
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home == '/') account.home = home;
  return account;
}

std::string Expanded(const std::string& path, const std::string& home) {
  return path.starts_with("~/") ? home + path.substr(1) : path;
}

class Libssh2Connection : public SshConnection {
 public:
  explicit Libssh2Connection(std::shared_ptr<Libssh2Core> core) : core_(std::move(core)) {
    core_->Start();
  }
  ~Libssh2Connection() override { core_->Leave(); }

  Task<absl::StatusOr<std::unique_ptr<Stream>>> Run(std::string command) override {
    return RunProgramOver(core_, std::move(command));
  }
  bool alive() const override { return core_->alive(); }
  absl::Status why() const override { return core_->why(); }
  bool one_at_a_time() const override { return core_->one_at_a_time(); }

 private:
  std::shared_ptr<Libssh2Core> core_;
};

class Libssh2Transport : public SshTransport {
 public:
  Libssh2Transport(Loop& loop, Clock& clock, Workers& workers)
      : loop_(loop), clock_(clock), workers_(workers) {}

  std::string_view name() const override { return kName; }
  absl::Status Available() const override { return absl::OkStatus(); }

  Task<absl::StatusOr<SshResolved>> Resolve(SshTarget target) override {
    absl::StatusOr<Libssh2LoginSpec> spec = SpecOf(std::move(target));
    if (!spec.ok()) co_return spec.status();
    const SshSpec& wanted = spec->target.spec;
    std::string digest;
    for (const std::string& part :
         {std::string(kName), std::to_string(::geteuid()), spec->address.host,
          std::to_string(spec->address.port), spec->user, wanted.key_file, wanted.host_key}) {
      PutString(digest, part);
    }
    std::vector<std::string> files = KeyFiles(wanted.key_file, spec->home);
    if (wanted.key_file.empty()) files.push_back(spec->agent_socket);
    co_return SshResolved{.host = spec->address.host,
                          .user = spec->user,
                          .port = spec->address.port,
                          .sharing_key = Sha256Hex(digest),
                          .credential_files = std::move(files),
                          .known_hosts_files = KnownHostsFiles(spec->target, spec->home)};
  }

  Task<absl::StatusOr<std::unique_ptr<SshConnection>>> Connect(SshTarget target, WishPtr wish,
                                                               SshTries* tries) override {
    absl::StatusOr<Libssh2LoginSpec> spec = SpecOf(std::move(target));
    if (!spec.ok()) co_return spec.status();
    spec->wish = std::move(wish);
    absl::StatusOr<Libssh2LoggedIn> in =
        co_await Libssh2Login({loop_, clock_, workers_}, *std::move(spec), tries);
    if (!in.ok()) co_return in.status();
    co_return std::make_unique<Libssh2Connection>(
        std::make_shared<Libssh2Core>(loop_, clock_, std::move(in->link), std::move(in->session)));
  }

 private:
  static absl::StatusOr<Libssh2LoginSpec> SpecOf(SshTarget target) {
    if (!target.spec.config_file.empty() || !target.spec.options.empty()) {
      return BadField("ssh.transport",
                      "libssh2 does not read ssh_config: use openssh with config_file or options");
    }
    const Account own = OwnAccount();
    SshSpec& spec = target.spec;
    spec.key_file = Expanded(spec.key_file, own.home);
    if (spec.host_key.empty()) spec.host_key = "strict";
    Libssh2LoginSpec login;
    login.address = {spec.host, spec.port == 0 ? kDefaultPort : spec.port};
    login.user = spec.user.empty() ? own.name : spec.user;
    login.home = own.home;
    const char* agent = std::getenv("SSH_AUTH_SOCK");
    if (agent != nullptr) login.agent_socket = agent;
    login.target = std::move(target);
    return login;
  }

  Loop& loop_;
  Clock& clock_;
  Workers& workers_;
};

}  // namespace

std::unique_ptr<SshTransport> MakeLibssh2Transport(Loop& loop, Clock& clock, Workers& workers) {
  return std::make_unique<Libssh2Transport>(loop, clock, workers);
}

}  // namespace hermes
