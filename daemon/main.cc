// hermesd: flags, configuration, wiring, signals. Everything is made here once, in the order of the
// arrows, and destroyed in the opposite order.

#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include <CLI/CLI.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/signal_set.hpp>

#include "backends/engine/runner_link.h"
#include "backends/local/local_backend.h"
#include "backends/runner/blob.h"
#include "backends/ssh/libssh2_transport.h"
#include "backends/ssh/openssh_transport.h"
#include "backends/ssh/ssh_backend.h"
#include "daemon/core/config.h"
#include "daemon/core/place_opener.h"
#include "daemon/core/session_store.h"
#include "daemon/core/session_table.h"
#include "daemon/rpc/listener.h"
#include "daemon/rpc/sd_notify.h"
#include "daemon/rpc/server.h"
#include "daemon/runtime/child.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/workers.h"
#include "sync/bundle.h"
#include "sync/host_root.h"
#include "sync/lock.h"
#include "sync/manager.h"
#include "sync/mount_pair.h"
#include "sync/real_fs.h"

namespace hermes {
namespace {

constexpr int kExitConfig = 78;  // EX_CONFIG: a restart would not help
constexpr int kWorkerThreads = 2;
// Of their own: one that waits for a lock of others must hold up no request.
constexpr int kSyncThreads = 4;

struct Flags {
  bool dev = false;
  bool check_config = false;
  std::string dir;
  std::string config = "/etc/hermesd/hermesd.toml";
};

int Fail(const absl::Status& status, int code) {
  std::fprintf(stderr, "hermesd: %s\n", std::string(status.message()).c_str());
  return code;
}

absl::Status MakePrivateDir(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error || ::chmod(path.c_str(), 0700) != 0) {
    return absl::UnavailableError("cannot make the directory " + path + ": " + error.message());
  }
  return absl::OkStatus();
}

std::string Home() {
  const char* home = std::getenv("HOME");
  return home == nullptr ? "" : home;
}

// Where the local runner listens: as configured, else the socket of its own systemd unit, else a
// private one below the state directory.
std::string RunnerDir(const Config& config) {
  if (!config.runner.dir.empty()) return config.runner.dir;
  const std::string of_user = Home() + "/.local/state/hermesd-runner";
  for (const std::string& dir : {std::string("/var/lib/hermesd-runner"), of_user}) {
    if (::access((dir + "/s").c_str(), R_OK | W_OK) == 0) return dir;
  }
  return config.state_dir + "/runner";
}

// The daemon's parts. Members are destroyed from the last to the first.
class Daemon {
 public:
  Daemon(Config config, bool dev) : config_(std::move(config)), dev_(dev) {}

  absl::Status Prepare();
  int Run();

 private:
  Task<void> Begin();
  Task<void> End();
  absl::Status Serve();
  std::unique_ptr<Backend> MakeSsh();
  void Fatal(const absl::Status& status);
  void OnSignal();
  sync::HostFence Fence() const;
  SessionTable::Deps TableDeps();
  std::string SpoolDir() const { return config_.state_dir + "/output"; }
  std::string BaseDir() const { return config_.state_dir + "/sync"; }
  std::string QuarantineDir() const { return config_.state_dir + "/quarantine"; }

  const Config config_;
  const bool dev_;
  SdNotify notify_ = SdNotify::FromEnvironment();
  Loop loop_;
  SystemClock clock_{loop_};
  SystemRandom random_;
  ThreadWorkers workers_{loop_, kWorkerThreads};
  ThreadWorkers sync_workers_{loop_, kSyncThreads};
  sync::RealFs fs_;
  sync::SyncLocks locks_;
  Stats stats_;
  asio::signal_set signals_{loop_.context(), SIGTERM, SIGINT};
  std::string daemon_id_;
  std::unique_ptr<SessionStore> store_;
  std::unique_ptr<RunnerLinks> links_;
  std::unique_ptr<PlaceOpener> places_;
  std::unique_ptr<sync::MountPairs> pairs_;
  std::unique_ptr<SessionTable> table_;
  std::unique_ptr<RpcServer> server_;
  bool ending_ = false;
  int exit_code_ = 0;
};

absl::Status Daemon::Prepare() {
  for (const std::string& dir : {config_.state_dir, SpoolDir(), BaseDir(), QuarantineDir()}) {
    absl::Status made = MakePrivateDir(dir);
    if (!made.ok()) return made;
  }
  std::error_code ignored;
  const bool made = std::filesystem::create_directories(config_.runtime_dir, ignored);
  // Who may call must get to the socket; what they may do is checked there.
  const bool others = !config_.access.full.empty() || !config_.access.operate.empty();
  if (made && others) (void)::chmod(config_.runtime_dir.c_str(), 0711);
  absl::StatusOr<std::unique_ptr<SessionStore>> store =
      OpenSqliteStore(loop_, config_.state_dir + "/hermesd.db");
  if (!store.ok()) return store.status();
  store_ = *std::move(store);
  if (dev_) std::ofstream(config_.state_dir + "/hermesd.pid") << ::getpid() << "\n";
  return absl::OkStatus();
}

Task<void> Daemon::Begin() {
  absl::StatusOr<SessionStore::Contents> contents = co_await store_->Load(clock_.NowWall());
  if (!contents.ok()) {
    Fatal(contents.status());
    co_return;
  }
  daemon_id_ = contents->daemon_id;
  links_ = std::make_unique<RunnerLinks>(RunnerLinks::Deps{loop_, clock_, random_, daemon_id_});
  places_ = std::make_unique<PlaceOpener>(*links_, PlainEngineDeps{loop_, clock_, random_});
  if (config_.local.enabled) {
    LocalOptions local{RunnerDir(config_), RunnerBinary("x86_64"), config_.runner.binary};
    places_->Add(MakeLocalBackend(loop_, clock_, std::move(local)), config_.local.runner);
  }
  if (config_.ssh.enabled) places_->Add(MakeSsh(), config_.ssh.runner);
  table_ = std::make_unique<SessionTable>(TableDeps());
  size_t sessions = contents->sessions.size();
  table_->Load(*std::move(contents));
  if (absl::Status served = Serve(); !served.ok()) {
    Fatal(served);
    co_return;
  }
  std::string status = "serving " + std::to_string(sessions) + " sessions at " + config_.socket;
  LogInfo("ready: " + status);
  (void)notify_.Ready(status);
}

sync::HostFence Daemon::Fence() const {
  sync::HostFence fence{sync::HomesOfPeople(),
                        {config_.state_dir, config_.runtime_dir, RunnerDir(config_)}};
  if (!Home().empty()) fence.homes.push_back(Home());
  return fence;
}

SessionTable::Deps Daemon::TableDeps() {
  const TableLimits limits{.max_sessions = config_.limits.max_sessions,
                           .max_sessions_per_uid = config_.limits.max_sessions_per_uid,
                           .max_commands = config_.limits.max_commands,
                           .max_commands_per_uid = config_.limits.max_commands_per_uid,
                           .max_commands_per_session = config_.limits.max_commands_per_session,
                           .output_spool_bytes = config_.limits.output_spool_bytes,
                           .result_retention = config_.limits.result_retention,
                           .request_id_retention = config_.limits.request_id_retention};
  pairs_ = std::make_unique<sync::MountPairs>(
      sync::MountPairs::Deps{loop_, clock_, sync_workers_, fs_, locks_, Fence(), BaseDir()});
  using std::chrono::seconds;
  const sync::UndoLimits undo{
      .max_age_s = std::chrono::duration_cast<seconds>(config_.sync.undo_max_age).count(),
      .max_bytes = config_.sync.undo_max_bytes};
  return {.loop = loop_,
          .clock = clock_,
          .random = random_,
          .workers = workers_,
          .store = *store_,
          .stats = stats_,
          .engines = *places_,
          .spool_dir = SpoolDir(),
          .limits = limits,
          .sync = {.loop = loop_,
                   .clock = clock_,
                   .random = random_,
                   .workers = sync_workers_,
                   .fs = fs_,
                   .locks = locks_,
                   .pairs = *pairs_,
                   .unpack_program = sync::FindUnpack(),
                   .quarantine_dir = QuarantineDir(),
                   .undo = undo,
                   .confinement = &stats_.unpack_confinement,
                   .conflicts = &stats_.sync_conflicts,
                   .drift = &stats_.sync_drift},
          .hermes_home = Home().empty() ? "" : Home() + "/.hermes"};
}

std::unique_ptr<Backend> Daemon::MakeSsh() {
  OpenSshTransportOptions openssh;
  openssh.runtime_dir = config_.runtime_dir + "/ssh";
  SshOptions options;
  options.daemon_id = daemon_id_;
  options.learned_known_hosts = config_.state_dir + "/known_hosts";
  options.host_key = config_.ssh.host_key;
  options.transport = config_.ssh.transport;
  options.programs = {RunnerBinary("x86_64"), RunnerBinary("aarch64")};
  options.openssh = MakeOpenSshTransport(loop_, clock_, random_, std::move(openssh));
  options.libssh2 = MakeLibssh2Transport(loop_, clock_, workers_);
  return MakeSshBackend(loop_, clock_, random_, std::move(options));
}

absl::Status Daemon::Serve() {
  absl::StatusOr<std::optional<Fd>> activation = TakeActivationSocket();
  if (!activation.ok()) return activation.status();
  RpcOptions options;
  options.socket_path = activation->has_value() ? "" : config_.socket;
  options.activation = *std::move(activation);
  options.access = {::getuid(), config_.access.full, config_.access.operate};
  options.info = {.version = HERMES_VERSION,
                  .commit = HERMES_COMMIT,
                  .daemon_id = daemon_id_,
                  .start_time = clock_.NowWall(),
                  .limits = {.max_run_timeout = config_.limits.max_run_timeout}};
  options.on_drain = [this] { OnSignal(); };
  RpcDeps deps{loop_, clock_, random_, workers_, *table_, *store_, *places_};
  absl::StatusOr<std::unique_ptr<RpcServer>> server = RpcServer::Start(deps, std::move(options));
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  return absl::OkStatus();
}

void Daemon::Fatal(const absl::Status& status) {
  LogError(std::string(status.message()));
  exit_code_ = 1;
  loop_.Stop();
}

void Daemon::OnSignal() {
  if (std::exchange(ending_, true)) return;
  LogInfo("draining: open streams are told to attach again, commands go on");
  (void)notify_.Stopping();
  asio::co_spawn(loop_.executor(), End(), asio::detached);
}

Task<void> Daemon::End() {
  if (server_ != nullptr) co_await server_->Drain();
  if (table_ != nullptr) co_await table_->Drain();
  if (links_ != nullptr) co_await links_->Stop();
  if (table_ != nullptr) co_await table_->Join();
  if (server_ != nullptr) co_await server_->Join();
  loop_.Stop();
}

int Daemon::Run() {
  signals_.async_wait([this](std::error_code error, int) {
    if (!error) OnSignal();
  });
  asio::co_spawn(loop_.executor(), Begin(), asio::detached);
  loop_.Run();
  return exit_code_;
}

absl::StatusOr<Config> Configure(const Flags& flags) {
  if (!flags.dev) return LoadConfig(flags.config);
  if (flags.dir.empty()) return absl::InvalidArgumentError("--dev needs --dir DIR");
  std::string dir = std::filesystem::absolute(flags.dir).lexically_normal().string();
  if (dir.size() > 1 && dir.back() == '/') dir.pop_back();
  absl::StatusOr<Config> config = DevConfig(dir);
  if (!config.ok()) return config;
  absl::Status made = MakePrivateDir(dir);
  if (!made.ok()) return made;
  return config;
}

int Main(const Flags& flags) {
  ::umask(077);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGHUP, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);   // a file size limit is a full disk, not a death
  ::prctl(PR_SET_DUMPABLE, 0);  // secrets live in this memory
  absl::StatusOr<Config> config = Configure(flags);
  if (!config.ok()) return Fail(config.status(), kExitConfig);
  if (flags.check_config) {
    std::printf("%s: ok\n", flags.dev ? flags.dir.c_str() : flags.config.c_str());
    return 0;
  }
  InitLog(config->log_level, std::getenv("JOURNAL_STREAM") != nullptr);
  if (absl::Status raised = RaiseFileLimit(); !raised.ok())
    LogWarning(std::string(raised.message()));
  Daemon daemon(*std::move(config), flags.dev);
  if (absl::Status prepared = daemon.Prepare(); !prepared.ok()) return Fail(prepared, 1);
  return daemon.Run();
}

// Output moves in pieces of up to 256 KiB. By default malloc gives such a piece back to the kernel
// when it is freed and faults it in, zeroed, for the next one.
void KeepFreedPieces() {
  constexpr int kPiece = 1 << 20;
  constexpr int kKept = 8 << 20;  // so much free memory stays with the process
  mallopt(M_MMAP_THRESHOLD, kPiece);
  mallopt(M_TRIM_THRESHOLD, kKept);
}

}  // namespace
}  // namespace hermes

int main(int argc, char** argv) {
  CLI::App app("hermesd holds sandbox sessions and runs commands in them");
  hermes::Flags flags;
  app.add_option("--config", flags.config, "configuration file")->capture_default_str();
  app.add_flag("--dev", flags.dev, "no configuration file: everything under --dir");
  app.add_option("--dir", flags.dir,
                 "the private directory of --dev; its socket is DIR/hermes.sock");
  app.add_flag("--check-config", flags.check_config, "check the configuration and exit");
  app.set_version_flag("--version",
                       std::string("hermesd ") + HERMES_VERSION + " (" + HERMES_COMMIT + ")");
  CLI11_PARSE(app, argc, argv);
  hermes::KeepFreedPieces();
  return hermes::Main(flags);
}
