#include "backends/local/local_backend.h"

#include <pwd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <utility>
#include <vector>

#include "backends/local/fd_stream.h"
#include "backends/local/install.h"
#include "daemon/runtime/child.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"
#include "sync/manifest.h"

namespace hermes {
namespace {

constexpr std::string_view kHandlePrefix = "local:";
constexpr size_t kMaxComplaint = 1024;  // bytes of a failed runner's stderr that the error shows

absl::Status Unreachable(const std::string& what) {
  return Error(Reason::k_BACKEND_UNREACHABLE, what);
}

std::string BootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

// The daemon's own variable, as its service manager or login set it, else what the account says.
std::string OwnOr(const char* name, const char* otherwise) {
  const char* value = getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

std::string Home() {
  const passwd* account = getpwuid(geteuid());
  return OwnOr("HOME", account != nullptr ? account->pw_dir : "/");
}

// What a login would start from: nothing of the daemon's environment but who it is, the user's
// language, time zone and run-time directory.
std::vector<std::string> CleanEnvironment() {
  std::vector<std::string> environment = {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + Home()};
  if (const passwd* account = getpwuid(geteuid()); account != nullptr) {
    environment.push_back("USER=" + OwnOr("USER", account->pw_name));
    environment.push_back("LOGNAME=" + OwnOr("LOGNAME", account->pw_name));
    environment.push_back("SHELL=" + OwnOr("SHELL", account->pw_shell));
  }
  for (const char* name : {"LANG", "LC_ALL", "LC_CTYPE", "TZ", "XDG_RUNTIME_DIR"}) {
    if (const char* value = getenv(name); value != nullptr) {
      environment.push_back(std::string(name) + "=" + value);
    }
  }
  return environment;
}

// nullopt: nobody listens.
absl::StatusOr<std::optional<Fd>> TryConnect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Unreachable(std::string(ErrnoStatus(errno, "make a socket").message()));
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    return std::optional<Fd>(std::move(fd));
  }
  if (errno == ENOENT || errno == ECONNREFUSED) return std::optional<Fd>();
  return Unreachable(std::string(ErrnoStatus(errno, "connect to " + path).message()));
}

// What a program that has ended left in its stderr pipe.
std::string Complaint(const Fd& pipe) {
  std::string text(kMaxComplaint, '\0');
  const ssize_t bytes = read(pipe.get(), text.data(), text.size());
  text.resize(bytes > 0 ? static_cast<size_t>(bytes) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

struct Config {
  Loop& loop;
  Clock& clock;
  LocalOptions options;
  std::string socket_path() const { return options.runner_dir + "/s"; }
};

absl::Status CheckPath(const Config& config) {
  if (config.options.runner_dir.empty() || config.options.runner_dir.front() != '/') {
    return Unreachable("the local backend's runner_dir must be an absolute path");
  }
  if (config.socket_path().size() <= kMaxSocketPath) return absl::OkStatus();
  return Unreachable("the local backend's runner_dir is too long: " + config.socket_path() +
                     " exceeds " + std::to_string(kMaxSocketPath) + " bytes");
}

// Starts the runner and returns when it listens: its foreground process ends then, and leaves one
// behind that is no child of ours.
Task<absl::Status> StartRunner(std::shared_ptr<const Config> config) {
  const LocalOptions& options = config->options;
  std::string program = options.runner_override;
  if (program.empty()) {
    if (options.runner_image.empty()) {
      co_return Error(Reason::k_CAPABILITY_MISSING, "this build carries no hermes-runner");
    }
    CO_ASSIGN_OR_RETURN(program, InstallProgram(options.runner_dir + "/bin", options.runner_image));
  }
  Child::Pipes pipes;
  ChildSpec spec;
  spec.argv = {program, "serve", options.runner_dir};
  spec.environment = CleanEnvironment();
  spec.cwd = "/";
  absl::StatusOr<std::unique_ptr<Child>> child =
      Child::Spawn(config->loop, std::move(spec), &pipes);
  if (!child.ok()) co_return Unreachable(std::string(child.status().message()));
  Fd in(pipes.stdin_fd), out(pipes.stdout_fd), err(pipes.stderr_fd);
  bool expired = false;
  Child::ExitStatus end = co_await WithDeadline(
      config->clock, config->clock.Now() + kRunnerStartLimit, (*child)->Wait(),
      [process = child->get()] { process->SignalGroup(SIGKILL); }, &expired);
  if (expired) co_return Unreachable("hermes-runner was not ready in time");
  if (end.signalled || end.value != 0) {
    co_return Unreachable("hermes-runner did not start: " + Complaint(err));
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> Connect(std::shared_ptr<const Config> config) {
  CO_RETURN_IF_ERROR(CheckPath(*config));
  CO_RETURN_IF_ERROR(EnsurePrivateDirectory(config->options.runner_dir));
  CO_ASSIGN_OR_RETURN(std::optional<Fd> fd, TryConnect(config->socket_path()));
  if (!fd) {
    CO_RETURN_IF_ERROR(co_await StartRunner(config));
    CO_ASSIGN_OR_RETURN(fd, TryConnect(config->socket_path()));
  }
  if (!fd) co_return Unreachable("hermes-runner does not listen at " + config->socket_path());
  co_return MakeSocketStream(config->loop, fd->release());
}

class LocalSandbox : public Sandbox {
 public:
  explicit LocalSandbox(std::shared_ptr<const Config> config) : config_(std::move(config)) {}

  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string boot_line, Lane lane,
                                                           WishPtr wish) override {
    ChildSpec spec;
    spec.argv = {"/bin/sh", "-c", std::move(boot_line)};
    spec.environment = CleanEnvironment();
    spec.cwd = Home();
    Child::Pipes pipes;
    absl::StatusOr<std::unique_ptr<Child>> child =
        Child::Spawn(config_->loop, std::move(spec), &pipes);
    if (!child.ok()) co_return Unreachable(std::string(child.status().message()));
    co_return MakeChildStream(config_->loop, *std::move(child), pipes);
  }

  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr) override {
    return Connect(config_);
  }

  // The runner may be outside of what the daemon's service is confined to; a child of ours is not,
  // and would see other files. On one host the runner's own link is as wide as any.
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane, WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "only the runner serves files here");
  }
  std::string place_key() const override { return "local"; }
  std::string handle() const override { return std::string(kHandlePrefix) + BootId(); }

  // The place is this host: there is nothing to let go of and nothing that may be destroyed.
  Task<absl::Status> Close(bool destroy) override { co_return absl::OkStatus(); }

 private:
  std::shared_ptr<const Config> config_;
};

class LocalBackend : public Backend {
 public:
  LocalBackend(Loop& loop, Clock& clock, LocalOptions options)
      : config_(std::make_shared<const Config>(Config{loop, clock, std::move(options)})) {}

  std::string_view name() const override { return "local"; }
  absl::Status Available() const override { return CheckPath(*config_); }
  absl::Status Check(const SandboxSpec& spec) const override {
    if (!spec.ssh.host.empty()) return BadField("ssh", "is for the ssh backend");
    // What is sent into its own source would be sent again, and deeper, for ever.
    for (size_t i = 0; i < spec.mounts.size(); ++i) {
      std::string far = spec.mounts[i].remote_root;
      if (far.starts_with("~/")) far.replace(0, 1, Home());
      if (!sync::Related(spec.mounts[i].host_root, far)) continue;
      return BadField("mounts[" + std::to_string(i) + "].remote_root",
                      far + " lies in " + spec.mounts[i].host_root +
                          " or above it, and both are on this host: keep them apart");
    }
    return absl::OkStatus();
  }

  Capabilities runner_capabilities() const override {
    Capabilities all;
    all.split_stderr = true;
    all.merged_order = true;
    all.pty = true;
    all.stdin_stream = true;
    all.survives_daemon = true;
    all.remote_deadline = true;
    all.shell_functions = true;
    all.residual_tracking = true;
    all.argv = true;
    all.kill_method = KillMethod::kSupervisor;
    all.kill_verified = true;
    return all;
  }

  Capabilities plain_capabilities() const override {
    Capabilities some;
    some.split_stderr = true;
    some.merged_order = true;
    some.stdin_stream = true;
    some.remote_deadline = true;
    some.shell_functions = true;
    some.argv = true;
    some.kill_method = KillMethod::kGroupAndCookie;
    return some;
  }

  Task<absl::StatusOr<std::unique_ptr<Sandbox>>> Open(SandboxSpec spec) override {
    CO_RETURN_IF_ERROR(CheckPath(*config_));
    co_return std::make_unique<LocalSandbox>(config_);
  }

  // After a reboot this host is still the place: the runner's start token tells the incarnations
  // apart.
  Task<absl::StatusOr<std::unique_ptr<Sandbox>>> Reattach(SandboxSpec spec,
                                                          std::string handle) override {
    if (!handle.starts_with(kHandlePrefix)) {
      co_return Error(Reason::k_STORE_CORRUPT, "this is no handle of the local backend");
    }
    CO_RETURN_IF_ERROR(CheckPath(*config_));
    co_return std::make_unique<LocalSandbox>(config_);
  }

 private:
  std::shared_ptr<const Config> config_;
};

}  // namespace

std::unique_ptr<Backend> MakeLocalBackend(Loop& loop, Clock& clock, LocalOptions options) {
  return std::make_unique<LocalBackend>(loop, clock, std::move(options));
}

}  // namespace hermes
