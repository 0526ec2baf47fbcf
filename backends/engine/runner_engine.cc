#include "backends/engine/runner_engine.h"

#include <optional>
#include <utility>
#include <vector>

#include "backends/engine/command_stream.h"
#include "backends/engine/remote_tree.h"
#include "backends/engine/runner_wire.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// A file service whose daemon has left it alone for so long ends.
constexpr Duration kFilesLimit = std::chrono::hours(1);

class RunnerChannel : public Channel {
 public:
  explicit RunnerChannel(RunnerCommand::Ptr command) : command_(std::move(command)) {}
  ~RunnerChannel() override { command_->Drop(false); }

  Task<absl::StatusOr<ChannelEvent>> Read() override { return RunnerCommand::Read(command_); }
  void Abandon() override { command_->Abandon(); }
  Task<absl::Status> WriteStdin(uint64_t offset, std::string data, bool eof) override {
    return RunnerCommand::WriteStdin(command_, offset, std::move(data), eof);
  }
  uint64_t stdin_accepted() const override { return command_->stdin_accepted(); }
  Task<void> StdinTaken() override { return RunnerCommand::StdinTaken(command_); }
  absl::Status Signal(int signal, int scope) override { return command_->Signal(signal, scope); }
  absl::Status Resize(uint16_t cols, uint16_t rows) override {
    return command_->Resize(cols, rows);
  }
  Task<absl::StatusOr<TreeReport>> Kill(Duration grace, Cause cause) override {
    return RunnerCommand::Kill(command_, grace, cause);
  }
  void Ack(uint64_t stdout_offset, uint64_t stderr_offset) override {
    command_->Ack({{stdout_offset, stderr_offset}});
  }
  void Forget() override { command_->Drop(true); }

 private:
  RunnerCommand::Ptr command_;
};

// The file service of a runner, as a command of the session or apart from it; where the runner is
// an older one, what its place has. Which of them is known anew at each call: another runner may be
// there by then.
class EngineTree : public sync::RemoteTree {
 public:
  struct Place {
    RemoteTreeDeps deps;
    std::shared_ptr<RunnerLink> link;
    std::shared_ptr<RunnerSession> session;
  };
  explicit EngineTree(const Place& place)
      : place_(place),
        runner_(MakeRunnerTree(
            place.deps,
            [place](Lane lane, WishPtr wish) { return Open(place, lane, std::move(wish)); })),
        shell_(MakeShellTree(place.deps, place.session->sandbox)) {}

  Task<absl::StatusOr<sync::RemoteLook>> Look(sync::RemoteRoot root,
                                              std::optional<sync::Digest> expected) override {
    CO_ASSIGN_OR_RETURN(sync::RemoteTree * tree, co_await Best());
    co_return co_await tree->Look(std::move(root), expected);
  }
  Task<absl::StatusOr<sync::RemoteApplied>> Apply(sync::RemoteApply apply) override {
    CO_ASSIGN_OR_RETURN(sync::RemoteTree * tree, co_await Best());
    co_return co_await tree->Apply(std::move(apply));
  }
  Task<absl::Status> Fetch(sync::RemoteRoot root, Wanted wanted, TakeBytes take) override {
    CO_ASSIGN_OR_RETURN(sync::RemoteTree * tree, co_await Best());
    co_return co_await tree->Fetch(std::move(root), std::move(wanted), std::move(take));
  }

 private:
  Task<absl::StatusOr<sync::RemoteTree*>> Best() {
    const absl::StatusOr<bool> files = co_await RunnerLink::KnowFiles(place_.link, place_.session);
    if (!files.ok()) co_return Unreachable(files.status());
    co_return *files ? runner_.get() : shell_.get();
  }

  static Task<absl::StatusOr<FilesStream>> Open(Place place, Lane lane, WishPtr wish) {
    if (lane == Lane::kBulk) {
      absl::StatusOr<std::unique_ptr<Stream>> own =
          co_await place.session->sandbox->OpenFiles(lane, std::move(wish));
      if (own.ok()) co_return FilesStream{*std::move(own), ""};
      if (ReasonOf(own.status()) != Reason::k_CAPABILITY_MISSING) co_return own.status();
    }
    CommandSpec spec;
    spec.run_id = place.deps.random.Uuid();
    spec.files = true;
    spec.stdin_open = true;
    spec.state_mode = StateMode::kReadOnly;
    spec.run_timeout = kFilesLimit;
    std::string run_id = spec.run_id;
    absl::StatusOr<RunnerCommand::Ptr> command =
        co_await RunnerLink::Start(place.link, place.session, std::move(spec));
    if (!command.ok()) co_return Unreachable(command.status());
    auto channel = std::make_unique<RunnerChannel>(*std::move(command));
    co_return FilesStream{MakeCommandStream(std::move(channel)), std::move(run_id)};
  }

  // Whoever syncs asks again in either case.
  static absl::Status Unreachable(const absl::Status& status) {
    if (ReasonOf(status) != Reason::k_RECONNECTING) return status;
    return Error(Reason::k_BACKEND_UNREACHABLE, std::string(status.message()));
  }

  const Place place_;
  const std::unique_ptr<sync::RemoteTree> runner_;
  const std::unique_ptr<sync::RemoteTree> shell_;
};

class RunnerEngine : public Engine {
 public:
  RunnerEngine(RunnerLinks& links, RunnerEngineOptions options)
      : capabilities_(options.capabilities),
        reason_(std::move(options.reason)),
        tree_deps_{links.clock(), links.random()},
        link_(links.For(options.sandbox->place_key())),
        session_(std::make_shared<RunnerSession>()) {
    session_->sandbox = std::move(options.sandbox);
    session_->lease = options.lease;
    session_->changed = std::move(options.changed);
    session_->reachable = std::move(options.reachable);
  }
  ~RunnerEngine() override {
    session_->changed = nullptr;
    session_->reachable = nullptr;
    link_->Unregister(session_);
  }

  const Capabilities& capabilities() const override { return capabilities_; }

  Task<absl::StatusOr<SessionFacts>> Open(SessionSpec spec) override {
    session_->spec = std::move(spec);
    absl::Status opened = co_await RunnerLink::Open(link_, session_);
    if (!opened.ok()) co_return opened;
    capabilities_.shell_functions = session_->facts.shell == kBash;
    SessionFacts facts;
    facts.generation = session_->facts.generation;
    facts.cwd = session_->facts.cwd;
    facts.incarnation = link_->start_token();
    facts.engine = "runner";
    facts.engine_reason = reason_;
    co_return facts;
  }

  Task<absl::StatusOr<std::unique_ptr<Channel>>> Start(CommandSpec spec) override {
    if (std::string_view missing = Missing(spec); !missing.empty()) {
      return Refuse(std::string(missing));
    }
    return Handle(RunnerLink::Start(link_, session_, std::move(spec)));
  }

  std::string home() const override { return link_->home(); }
  bool runs_files() const override { return link_->runs_files(); }
  std::unique_ptr<sync::RemoteTree> NewRemoteTree() override {
    return std::make_unique<EngineTree>(EngineTree::Place{tree_deps_, link_, session_});
  }

  Task<absl::StatusOr<std::unique_ptr<Channel>>> Adopt(std::string run_id, uint64_t stdout_offset,
                                                       uint64_t stderr_offset) override {
    return Handle(
        RunnerLink::Adopt(link_, session_, std::move(run_id), {{stdout_offset, stderr_offset}}));
  }

  void SetSudoPassword(std::string password) override {
    session_->spec.sudo_password = std::move(password);
    link_->SendSecret(session_);
  }

  Task<absl::StatusOr<TreeReport>> Close(Duration grace) override {
    return RunnerLink::Close(link_, session_, grace);
  }

 private:
  static constexpr uint8_t kBash = 1;  // of frames::Opened.shell

  // What the command asks for that this place cannot do; empty: nothing.
  std::string_view Missing(const CommandSpec& spec) const {
    if (spec.pty && !capabilities_.pty) return "a terminal";
    if (spec.stdin_open && !capabilities_.stdin_stream) return "open stdin";
    if (spec.merge_stderr && !capabilities_.merged_order) return "merged output";
    if (!spec.argv.empty() && !capabilities_.argv) return "commands without a shell";
    return "";
  }
  static Task<absl::StatusOr<std::unique_ptr<Channel>>> Refuse(std::string what) {
    co_return Error(Reason::k_CAPABILITY_MISSING, "this place has no " + what);
  }

  static Task<absl::StatusOr<std::unique_ptr<Channel>>> Handle(
      Task<absl::StatusOr<RunnerCommand::Ptr>> task) {
    absl::StatusOr<RunnerCommand::Ptr> command = co_await std::move(task);
    if (!command.ok()) co_return command.status();
    co_return std::make_unique<RunnerChannel>(*std::move(command));
  }

  Capabilities capabilities_;
  std::string reason_;
  const RemoteTreeDeps tree_deps_;
  std::shared_ptr<RunnerLink> link_;
  std::shared_ptr<RunnerSession> session_;
};

class SharedSandbox : public Sandbox {
 public:
  explicit SharedSandbox(std::shared_ptr<Sandbox> sandbox) : sandbox_(std::move(sandbox)) {}
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string boot_line, Lane lane,
                                                           WishPtr wish) override {
    return sandbox_->OpenStream(std::move(boot_line), lane, std::move(wish));
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr wish) override {
    return sandbox_->ConnectRunner(std::move(wish));
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane lane, WishPtr wish) override {
    return sandbox_->OpenFiles(lane, std::move(wish));
  }
  std::string place_key() const override { return sandbox_->place_key(); }
  std::string description() const override { return sandbox_->description(); }
  std::string handle() const override { return sandbox_->handle(); }
  Task<absl::Status> Close(bool destroy) override { return sandbox_->Close(destroy); }

 private:
  std::shared_ptr<Sandbox> sandbox_;
};

}  // namespace

std::unique_ptr<Engine> MakeRunnerEngine(RunnerLinks& links, RunnerEngineOptions options) {
  return std::make_unique<RunnerEngine>(links, std::move(options));
}

std::unique_ptr<Sandbox> ShareSandbox(std::shared_ptr<Sandbox> sandbox) {
  return std::make_unique<SharedSandbox>(std::move(sandbox));
}

}  // namespace hermes
