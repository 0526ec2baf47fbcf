#include "backends/ssh/openssh_transport.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "backends/ssh/openssh_command.h"
#include "backends/ssh/openssh_failure.h"
#include "backends/ssh/openssh_folder.h"
#include "backends/ssh/openssh_jumps.h"
#include "backends/ssh/openssh_master.h"
#include "backends/ssh/openssh_only_key.h"
#include "backends/ssh/openssh_resolve.h"
#include "backends/ssh/openssh_tool.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

class OpenSshConnection : public SshConnection {
 public:
  OpenSshConnection(Loop& loop, Clock& clock, std::shared_ptr<OpenSshMaster> master)
      : loop_(loop), clock_(clock), master_(std::move(master)) {}
  ~OpenSshConnection() override { master_->Leave(); }

  Task<absl::StatusOr<std::unique_ptr<Stream>>> Run(std::string command) override {
    return RunOver(loop_, clock_, master_, std::move(command));
  }
  bool alive() const override { return master_->alive(); }
  absl::Status why() const override { return master_->why(); }
  bool one_at_a_time() const override { return master_->one_at_a_time(); }

 private:
  static Task<absl::StatusOr<std::unique_ptr<Stream>>> RunOver(
      Loop& loop, Clock& clock, std::shared_ptr<OpenSshMaster> master, std::string command) {
    CO_RETURN_IF_ERROR(master->why());
    co_return co_await OpenMuxStream(loop, clock, master, master->control_path(),
                                     std::move(command));
  }

  Loop& loop_;
  Clock& clock_;
  std::shared_ptr<OpenSshMaster> master_;
};

// What the transport's coroutines share.
struct Shared {
  Loop& loop;
  Clock& clock;
  Random& random;
  OpenSshTransportOptions options;
  bool swept = false;
  bool version_known = false;
  absl::Status version_fits = absl::OkStatus();
  std::optional<std::string> usual_ciphers;  // see UsualCiphers
};

bool InPath(const std::string& program) {
  if (program.find('/') != std::string::npos) return access(program.c_str(), X_OK) == 0;
  const char* path = getenv("PATH");
  std::string_view rest = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(':'), rest.size());
    const std::string candidate = std::string(rest.substr(0, end)) + "/" + program;
    if (access(candidate.c_str(), X_OK) == 0) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

absl::Status CheckProgram(const Shared& shared) {
  if (InPath(shared.options.ssh_program)) return shared.version_fits;
  return Error(Reason::k_CAPABILITY_MISSING,
               "there is no " + shared.options.ssh_program + ": install OpenSSH's client");
}

// Asks the program once in our life; a failure to ask is no verdict.
Task<absl::Status> CheckVersion(std::shared_ptr<Shared> shared) {
  CO_RETURN_IF_ERROR(CheckProgram(*shared));
  if (shared->version_known) co_return absl::OkStatus();
  ChildSpec spec{.argv = {shared->options.ssh_program, "-V"}, .environment = SshEnvironment()};
  CO_ASSIGN_OR_RETURN(const ToolResult said,
                      co_await RunTool(shared->loop, shared->clock, std::move(spec)));
  shared->version_known = true;
  if (OpenSshVersion(said.err) < kOldestOpenSsh) {
    shared->version_fits =
        Error(Reason::k_CAPABILITY_MISSING, shared->options.ssh_program + " is \"" +
                                                OneLine(said.err) + "\"; OpenSSH 8.7 is needed");
  }
  co_return shared->version_fits;
}

absl::Status CheckKeyFile(const SshSpec& spec) {
  if (spec.key_file.empty() || access(ExpandHome(spec.key_file).c_str(), R_OK) == 0) {
    return absl::OkStatus();
  }
  // ssh would go on with other keys.
  return BadField("ssh.key_file", spec.key_file + " can't be read by hermesd's account");
}

absl::Status PrepareFolder(Shared& shared) {
  RETURN_IF_ERROR(PrepareSocketFolder(shared.options.runtime_dir));
  if (!std::exchange(shared.swept, true)) {
    EndLeftovers(shared.loop, shared.clock, shared.options.runtime_dir);
  }
  return absl::OkStatus();
}

Task<absl::StatusOr<OpenSshResolved>> Look(std::shared_ptr<Shared> shared, SshTarget target) {
  CO_RETURN_IF_ERROR(co_await CheckVersion(shared));
  CO_RETURN_IF_ERROR(CheckKeyFile(target.spec));
  SshCommand command{.program = shared->options.ssh_program, .target = std::move(target)};
  co_return co_await ResolveWay(shared->loop, shared->clock, std::move(command));
}

Task<absl::StatusOr<SshResolved>> ResolveFacts(std::shared_ptr<Shared> shared, SshTarget target) {
  CO_ASSIGN_OR_RETURN(OpenSshResolved resolved, co_await Look(shared, std::move(target)));
  co_return std::move(resolved.facts);
}

// Lives for as long as the login. Empty: the configuration as it is names no other key.
absl::StatusOr<std::string> WriteOnlyKey(Shared& shared, const OpenSshMaster::Plan& plan,
                                         std::string_view resolved) {
  const std::optional<std::string> config = OnlyKeyConfig(plan.command.target.spec, resolved);
  if (!config) return std::string();
  std::string path =
      ControlPath(shared.options.runtime_dir, shared.random.Hex(kControlNameBytes) + ".conf");
  const Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid() ||
      write(file.get(), config->data(), config->size()) != static_cast<ssize_t>(config->size())) {
    return Error(Reason::k_BACKEND_UNREACHABLE,
                 std::string(ErrnoStatus(errno, "write " + path).message()));
  }
  return path;
}

// Without the type of the key that the host just showed, so that it shows another. False: there is
// nothing to leave out.
bool LeaveOut(const absl::Status& failure, SshCommand& command) {
  if (ReasonOf(failure) != Reason::k_HOST_KEY_CHANGED || !IsPinned(command.target.spec)) {
    return false;
  }
  for (const auto& [name, value] : command.target.spec.options) {
    if (strcasecmp(name.c_str(), "HostKeyAlgorithms") == 0) return false;
  }
  const Metadata metadata = MetadataOf(failure);
  const auto type = metadata.find(std::string(kShownType));
  if (type == metadata.end()) return false;
  command.refused_key_types.push_back(type->second);
  // The keys of this type sign by other names.
  if (type->second == "ssh-rsa") command.refused_key_types.emplace_back("rsa-sha2-*");
  return true;
}

// The first key shown is the one that the host prefers: that is what the error is about.
Task<absl::StatusOr<std::shared_ptr<OpenSshMaster>>> LogIn(std::shared_ptr<Shared> shared,
                                                           OpenSshMaster::Plan plan,
                                                           SshTries* tried) {
  absl::Status first;
  for (int tries = 1;; ++tries) {
    plan.control_path =
        ControlPath(shared->options.runtime_dir, shared->random.Hex(kControlNameBytes));
    auto master = co_await OpenSshMaster::Login(shared->loop, shared->clock, plan, tried);
    if (master.ok()) co_return master;
    if (first.ok()) first = master.status();
    if (tries == kPinTries || IsWithdrawn(plan.wish) || !LeaveOut(master.status(), plan.command))
      co_return first;
  }
}

// Those that ssh takes when nobody says anything: asked once in our life. Empty: it did not say.
Task<std::string> UsualCiphers(std::shared_ptr<Shared> shared) {
  if (!shared->usual_ciphers) {
    ChildSpec spec{.argv = {shared->options.ssh_program, "-G", "-F", "none", "--", "localhost"},
                   .environment = SshEnvironment()};
    const auto said = co_await RunTool(shared->loop, shared->clock, std::move(spec));
    if (!said.ok()) co_return "";
    const auto parsed = ParseResolved({}, said->out);
    shared->usual_ciphers = parsed.ok() ? parsed->ciphers : "";
  }
  co_return *shared->usual_ciphers;
}

// An order that somebody chose stays, whether in the options or in ssh_config.
Task<std::string> CiphersFor(std::shared_ptr<Shared> shared, SshSpec spec, std::string accepted) {
  const std::string fastest = FastestFirst(accepted, CpuHasAes());
  if (fastest.empty() || GivesCiphers(spec)) co_return "";
  co_return co_await UsualCiphers(std::move(shared)) == accepted ? fastest : "";
}

Task<absl::StatusOr<std::unique_ptr<SshConnection>>> Connect(std::shared_ptr<Shared> shared,
                                                             SshTarget target, WishPtr wish,
                                                             SshTries* tries) {
  CO_RETURN_IF_ERROR(PrepareFolder(*shared));
  CO_ASSIGN_OR_RETURN(OpenSshResolved resolved, co_await Look(shared, target));
  const std::string ciphers = co_await CiphersFor(shared, target.spec, resolved.ciphers);
  OpenSshMaster::Plan plan{.command = {.program = shared->options.ssh_program,
                                       .target = std::move(target),
                                       .user_known_hosts = resolved.user_known_hosts,
                                       .ciphers = ciphers,
                                       .jumps = std::move(resolved.jumps),
                                       .proxied = resolved.proxied},
                           .resolved = std::move(resolved.facts),
                           .control_path = {},
                           .wish = std::move(wish)};
  CO_ASSIGN_OR_RETURN(plan.command.config_file, WriteOnlyKey(*shared, plan, resolved.output));
  const std::string config_file = plan.command.config_file;
  auto master = co_await LogIn(shared, std::move(plan), tries);
  if (!config_file.empty()) unlink(config_file.c_str());
  if (!master.ok()) co_return master.status();
  co_return std::make_unique<OpenSshConnection>(shared->loop, shared->clock, *std::move(master));
}

class OpenSshTransport : public SshTransport {
 public:
  explicit OpenSshTransport(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  std::string_view name() const override { return "openssh"; }
  absl::Status Available() const override { return CheckProgram(*shared_); }
  Task<absl::StatusOr<SshResolved>> Resolve(SshTarget target) override {
    return ResolveFacts(shared_, std::move(target));
  }
  Task<absl::StatusOr<std::unique_ptr<SshConnection>>> Connect(SshTarget target, WishPtr wish,
                                                               SshTries* tries) override {
    return hermes::Connect(shared_, std::move(target), std::move(wish), tries);
  }

 private:
  std::shared_ptr<Shared> shared_;
};

}  // namespace

std::unique_ptr<SshTransport> MakeOpenSshTransport(Loop& loop, Clock& clock, Random& random,
                                                   OpenSshTransportOptions options) {
  return std::make_unique<OpenSshTransport>(std::shared_ptr<Shared>(
      new Shared{.loop = loop, .clock = clock, .random = random, .options = std::move(options)}));
}

}  // namespace hermes
