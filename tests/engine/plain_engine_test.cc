// The plain engine in places that have less than a bash: only dash, only busybox. A place is this
// host with a PATH of links; what every place must do is in tests/contract.

#include "backends/engine/plain_engine.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/local/local_backend.h"
#include "daemon/runtime/fd.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/temp_dir.h"

namespace hermes {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Programs are found in one directory only.
class NarrowSandbox : public Sandbox {
 public:
  NarrowSandbox(std::unique_ptr<Sandbox> inner, std::string path)
      : inner_(std::move(inner)), path_(std::move(path)) {}
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string boot_line, Lane lane,
                                                           WishPtr wish) override {
    return inner_->OpenStream("PATH=" + path_ + "; export PATH; echo noise; " + boot_line, lane,
                              std::move(wish));
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr wish) override {
    return inner_->ConnectRunner(std::move(wish));
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane lane, WishPtr wish) override {
    return inner_->OpenFiles(lane, std::move(wish));
  }
  std::string place_key() const override { return inner_->place_key(); }
  std::string handle() const override { return inner_->handle(); }
  Task<absl::Status> Close(bool destroy) override { return inner_->Close(destroy); }

 private:
  std::unique_ptr<Sandbox> inner_;
  std::string path_;
};

enum class Shells { kNone, kDash, kBusybox, kBash };

struct Ran {
  std::string out, err;
  std::optional<Outcome> outcome;
  bool drained = false;
};

class PlainEngineTest : public ::testing::TestWithParam<Shells> {
 protected:
  PlainEngineTest() {
    signal(SIGPIPE, SIG_IGN);
    setenv("HOME", dir_.path().c_str(), 1);
    setenv("XDG_RUNTIME_DIR", dir_.path().c_str(), 1);  // captures of killed readers stay in there
    LocalOptions options;
    options.runner_dir = dir_.path() + "/runner";
    backend_ = MakeLocalBackend(loop_, clock_, std::move(options));
  }
  ~PlainEngineTest() override {
    if (engine_) EXPECT_TRUE(Await(engine_->Close(Duration(0))).ok());
    engine_.reset();
    loop_.RunReady();
  }

  template <typename T>
  T Await(Task<T> task) {
    std::optional<T> result;
    asio::co_spawn(loop_.executor(), std::move(task), [&](std::exception_ptr, T value) {
      result.emplace(std::move(value));
      loop_.Stop();
    });
    while (!result) loop_.Run();
    return *std::move(result);
  }

  void Link(const std::string& program, const std::string& name) {
    for (const char* from : {"/usr/bin/", "/bin/", "/usr/sbin/"}) {
      if (!std::filesystem::exists(from + program)) continue;
      std::filesystem::create_symlink(from + program, dir_.path() + "/bin/" + name);
      return;
    }
  }

  absl::StatusOr<SessionFacts> Open() {
    std::filesystem::create_directory(dir_.path() + "/bin");
    const bool busybox = GetParam() == Shells::kBusybox;
    if (GetParam() == Shells::kBash) Link("bash", "bash");
    if (GetParam() == Shells::kDash) Link("dash", "sh");
    if (busybox) Link("busybox", "sh");
    for (const char* name : {"dd", "env", "grep", "sleep", "rm", "base64", "setsid", "cat", "tr"}) {
      Link(busybox ? "busybox" : name, name);
    }
    auto inner = Await(backend_->Open({"s", {}}));
    auto sandbox = std::make_shared<NarrowSandbox>(*std::move(inner), dir_.path() + "/bin");
    engine_ = MakePlainEngine({loop_, clock_, random_},
                              {std::move(sandbox), backend_->plain_capabilities(), "test"});
    SessionSpec spec;
    spec.session_id = "s";
    spec.env = {{"PATH", dir_.path() + "/bin"}};
    return Await(engine_->Open(std::move(spec)));
  }

  std::unique_ptr<Channel> Start(CommandSpec spec) {
    spec.run_id = random_.Uuid();
    auto channel = Await(engine_->Start(std::move(spec)));
    EXPECT_TRUE(channel.ok()) << channel.status();
    return *std::move(channel);
  }

  // Reads until `done` says so, or the end.
  void Read(Channel& channel, Ran* ran, std::function<bool(const Ran&)> done) {
    while (!ran->drained && !done(*ran)) {
      ChannelEvent event = *Await(channel.Read());
      if (auto* data = std::get_if<DataEvent>(&event)) {
        (data->stream == OutputStream::kStdout ? ran->out : ran->err) += data->data;
      }
      if (auto* ended = std::get_if<EndedEvent>(&event)) ran->outcome = ended->outcome;
      ran->drained = std::holds_alternative<DrainedEvent>(event);
    }
  }

  Ran Run(CommandSpec spec) {
    std::unique_ptr<Channel> channel = Start(std::move(spec));
    Ran ran;
    Read(*channel, &ran, [](const Ran&) { return false; });
    channel->Forget();
    return ran;
  }
  Ran Run(std::string script) {
    CommandSpec spec;
    spec.script = std::move(script);
    return Run(std::move(spec));
  }

  TempDir dir_;
  Loop loop_;
  SystemClock clock_{loop_};
  SystemRandom random_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Engine> engine_;
};

using PlainShells = PlainEngineTest;

TEST_P(PlainShells, OutputEndAndStateAreRight) {
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(engine_->capabilities().shell_functions, GetParam() == Shells::kBash);
  Ran ran = Run("printf 'a\\377b'; echo e >&2; export A='1 2'; cd /usr; exit 3");
  EXPECT_EQ(ran.out,
            "a\xff"
            "b");
  EXPECT_EQ(ran.err, "e\n");
  EXPECT_EQ(ran.outcome->state, CommandState::kExited);
  EXPECT_EQ(ran.outcome->value, 3);
  EXPECT_TRUE(ran.outcome->state_committed) << ran.outcome->state_reason;
  EXPECT_EQ(Run("echo \"$A\"; pwd; echo \"${HERMES_RUN_m-}${HERMES_RUN_c-}\"").out,
            "1 2\n/usr\n\n");
}

TEST_P(PlainShells, ASignalIsToldFromItsCode) {
  ASSERT_TRUE(Open().ok());
  for (int signal : {1, 2, 9, 13, 15}) {
    Ran ran = Run("kill -" + std::to_string(signal) + " $$");
    EXPECT_TRUE(ran.outcome->signalled) << signal;
    EXPECT_EQ(ran.outcome->value, signal);
    EXPECT_EQ(ran.err, "") << "nothing of the reader's own";
    ran = Run("exit " + std::to_string(128 + signal));
    EXPECT_FALSE(ran.outcome->signalled) << signal;
    EXPECT_EQ(ran.outcome->value, 128 + signal);
  }
}

TEST_P(PlainShells, AProgramThatTookTheShellsPlaceEndsWithItsOwnCode) {
  ASSERT_TRUE(Open().ok());
  Ran ran = Run("exec sh -c 'exit 9' || exec bash -c 'exit 9'");
  if (GetParam() == Shells::kBash) ran = Run("exec bash -c 'exit 9'");
  EXPECT_EQ(ran.outcome->value, 9);
  EXPECT_FALSE(ran.outcome->state_committed);
}

TEST_P(PlainShells, StdinIsTheCommandsToTheLastByte) {
  ASSERT_TRUE(Open().ok());
  CommandSpec spec;
  spec.script = "cat";
  spec.stdin_open = true;
  std::unique_ptr<Channel> channel = Start(spec);
  std::string data(300'000, 'x');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 31 >> 3);
  Ran ran;
  asio::co_spawn(loop_.executor(), channel->WriteStdin(0, data, true),
                 [](std::exception_ptr, absl::Status status) { EXPECT_TRUE(status.ok()); });
  while (!ran.drained) {
    Read(*channel, &ran, [last = ran.out.size()](const Ran& now) { return now.out.size() > last; });
    channel->Ack(ran.out.size(), 0);
  }
  EXPECT_TRUE(ran.out == data) << ran.out.size();
}

TEST_P(PlainShells, ArgumentsAreNotInterpreted) {
  ASSERT_TRUE(Open().ok());
  CommandSpec spec;
  spec.argv = {"env", "-i", "A=$HOME *", "B='\"", "env"};
  EXPECT_EQ(Run(spec).out, "A=$HOME *\nB='\"\n");
  spec.argv = {"no-such-program"};
  EXPECT_EQ(Run(spec).outcome->launch_stage, LaunchStage::kNotFound);
}

TEST_P(PlainShells, TheDeadlineIsKeptOverThereAndChildrenAreGone) {
  ASSERT_TRUE(Open().ok());
  CommandSpec spec;
  spec.script = "setsid sleep 61 & sleep 62 & echo $!; trap '' TERM; sleep 63; sleep 64";
  spec.run_timeout = milliseconds(400);
  spec.kill_grace = milliseconds(200);
  Ran ran = Run(spec);
  EXPECT_EQ(ran.outcome->state, CommandState::kKilled);
  EXPECT_EQ(ran.outcome->cause, Cause::kRunTimeout);
  EXPECT_TRUE(ran.drained) << "nobody holds the pipes";
  ASSERT_TRUE(ran.outcome->tree.has_value());
  EXPECT_EQ(ran.outcome->tree->survivors, 0u);
  EXPECT_EQ(kill(static_cast<pid_t>(std::stoi(ran.out)), 0) == 0 &&
                std::filesystem::exists("/proc/" + std::to_string(std::stoi(ran.out)) + "/exe"),
            false);
}

// Nothing but its place below the reader tells whose it is.
TEST_P(PlainShells, TheDeadlineIsKeptByAProgramThatClearedItsEnvironment) {
  ASSERT_TRUE(Open().ok());
  for (const bool argv : {false, true}) {
    CommandSpec spec;
    if (argv) spec.argv = {"env", "-i", dir_.path() + "/bin/sleep", "60"};
    if (!argv) spec.script = "exec env -i " + dir_.path() + "/bin/sleep 60";
    spec.run_timeout = milliseconds(300);
    const Ran ran = Run(spec);
    EXPECT_EQ(ran.outcome->state, CommandState::kKilled);
    EXPECT_EQ(ran.outcome->cause, Cause::kRunTimeout);
  }
}

TEST_P(PlainShells, TheDeadlineIsKeptWhenNobodyIsConnectedAnyMore) {
  ASSERT_TRUE(Open().ok());
  CommandSpec spec;
  spec.script = "trap '' HUP; echo $$; exec sleep 68";
  spec.run_timeout = milliseconds(700);
  std::unique_ptr<Channel> channel = Start(spec);
  Ran ran;
  Read(*channel, &ran, [](const Ran& now) { return now.out.ends_with('\n'); });
  Fd process(static_cast<int>(syscall(SYS_pidfd_open, std::stoi(ran.out), 0)));
  ASSERT_TRUE(process.valid());
  channel.reset();
  engine_.reset();  // breaks the stream, as the death of hermesd does
  loop_.RunReady();
  pollfd end{process.get(), POLLIN, 0};
  EXPECT_EQ(poll(&end, 1, 0), 0) << "it runs on";
  EXPECT_EQ(poll(&end, 1, 10'000), 1) << "until its deadline";
}

TEST_P(PlainShells, AKillEndsTheTree) {
  ASSERT_TRUE(Open().ok());
  CommandSpec spec;
  spec.script = "setsid sleep 65 & echo s; sleep 66";
  std::unique_ptr<Channel> channel = Start(spec);
  Ran ran;
  Read(*channel, &ran, [](const Ran& now) { return now.out == "s\n"; });
  absl::StatusOr<TreeReport> report = Await(channel->Kill(milliseconds(500), Cause::kCancelled));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->survivors, 0u);
  Read(*channel, &ran, [](const Ran&) { return false; });
  EXPECT_EQ(ran.outcome->state, CommandState::kKilled);
}

TEST_P(PlainShells, AnUnreadCommandIsHeldAtTheWindowAndLosesNothing) {
  ASSERT_TRUE(Open().ok());
  CommandSpec spec;
  spec.script =
      "i=0; while [ $i -lt 4 ]; do dd if=/dev/zero bs=1000000 count=1 2>/dev/null; "
      "i=$((i+1)); done; echo done >&2";
  std::unique_ptr<Channel> channel = Start(spec);
  Ran ran;
  Read(*channel, &ran, [](const Ran& now) { return now.out.size() >= (1 << 20); });
  EXPECT_EQ(ran.err, "") << "the command waits";
  while (!ran.drained) {
    channel->Ack(ran.out.size(), ran.err.size());
    Read(*channel, &ran, [last = ran.out.size()](const Ran& now) { return now.out.size() > last; });
  }
  EXPECT_EQ(ran.out.size(), 4'000'000u);
  EXPECT_EQ(ran.err, "done\n");
}

TEST_P(PlainShells, WithoutItsReaderTheEndIsUnknown) {
  ASSERT_TRUE(Open().ok());
  Ran ran =
      Run("sleep 67 </dev/null >/dev/null 2>&1 & kill -9 $PPID; exec >/dev/null 2>&1; sleep 0.3");
  EXPECT_EQ(ran.outcome->state, CommandState::kUnknown);
  EXPECT_EQ(ran.outcome->cause, Cause::kSandboxLost);
}

INSTANTIATE_TEST_SUITE_P(Shell, PlainShells,
                         ::testing::Values(Shells::kBash, Shells::kDash, Shells::kBusybox),
                         [](const auto& info) {
                           return info.param == Shells::kBash   ? "Bash"
                                  : info.param == Shells::kDash ? "Dash"
                                                                : "Busybox";
                         });

using PlainRefusal = PlainEngineTest;

TEST_P(PlainRefusal, APlaceWithoutAnyShellIsAnError) {
  absl::StatusOr<SessionFacts> facts = Open();
  EXPECT_EQ(ReasonOf(facts.status()), Reason::k_CAPABILITY_MISSING);
}

INSTANTIATE_TEST_SUITE_P(Shell, PlainRefusal, ::testing::Values(Shells::kNone),
                         [](const auto&) { return "None"; });

}  // namespace
}  // namespace hermes
