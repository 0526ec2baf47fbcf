// The plain engine in a place that lets commands wait for a stream, as a host with few SSH sessions
// does: this host, with a gate that the test opens.

#include <signal.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/engine/plain_engine.h"
#include "backends/local/local_backend.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/temp_dir.h"

namespace hermes {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

// What the test and the sandbox share.
struct Gate {
  explicit Gate(Loop& loop) : changed(loop) {}
  Event changed;
  size_t asked = 0;                        // streams for commands
  std::map<size_t, absl::Status> answers;  // to the first, second, ... of them
  size_t answered = 0;
  size_t opened = 0;
  size_t dropped = 0;
  size_t written = 0;  // bytes, to all of them
};

class WatchedStream : public Stream {
 public:
  WatchedStream(std::unique_ptr<Stream> inner, std::shared_ptr<Gate> gate)
      : inner_(std::move(inner)), gate_(std::move(gate)) {
    ++gate_->opened;
  }
  ~WatchedStream() override {
    ++gate_->dropped;
    gate_->changed.NotifyAll();
  }
  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    return inner_->ReadStdout(into);
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char> into) override {
    return inner_->ReadStderr(into);
  }
  Task<absl::Status> Write(std::string_view data) override {
    gate_->written += data.size();
    return inner_->Write(data);
  }
  void CloseStdin() override { inner_->CloseStdin(); }
  void Abort() override { inner_->Abort(); }
  Task<std::optional<End>> WaitEnd() override { return inner_->WaitEnd(); }

 private:
  std::unique_ptr<Stream> inner_;
  std::shared_ptr<Gate> gate_;
};

class GatedSandbox : public Sandbox {
 public:
  GatedSandbox(std::unique_ptr<Sandbox> inner, std::shared_ptr<Gate> gate)
      : inner_(std::move(inner)), gate_(std::move(gate)) {}
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string boot_line, Lane lane,
                                                           WishPtr wish) override {
    if (lane != Lane::kCommand)
      co_return co_await inner_->OpenStream(std::move(boot_line), lane, std::move(wish));
    const size_t turn = gate_->asked++;
    gate_->changed.NotifyAll();
    while (!gate_->answers.contains(turn)) co_await gate_->changed.Wait();
    absl::StatusOr<std::unique_ptr<Stream>> stream = absl::UnknownError("no stream yet");
    if (!gate_->answers[turn].ok()) stream = gate_->answers[turn];
    if (gate_->answers[turn].ok()) {
      stream = co_await inner_->OpenStream(std::move(boot_line), lane, std::move(wish));
      if (stream.ok()) stream = std::make_unique<WatchedStream>(*std::move(stream), gate_);
    }
    ++gate_->answered;
    gate_->changed.NotifyAll();
    co_return stream;
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
  std::shared_ptr<Gate> gate_;
};

struct Ran {
  bool started = false;
  std::string out;
  std::vector<Outcome> outcomes;
};

Task<Ran> ReadAll(Channel* channel) {
  Ran ran;
  while (true) {
    absl::StatusOr<ChannelEvent> event = co_await channel->Read();
    if (!event.ok()) co_return ran;
    if (std::holds_alternative<StartedEvent>(*event)) ran.started = true;
    if (auto* data = std::get_if<DataEvent>(&*event)) ran.out += data->data;
    if (auto* ended = std::get_if<EndedEvent>(&*event)) ran.outcomes.push_back(ended->outcome);
    if (std::holds_alternative<DrainedEvent>(*event)) co_return ran;
  }
}

class PlainQueueTest : public ::testing::Test {
 protected:
  PlainQueueTest() {
    signal(SIGPIPE, SIG_IGN);
    setenv("HOME", dir_.path().c_str(), 1);
    setenv("XDG_RUNTIME_DIR", dir_.path().c_str(), 1);
    LocalOptions options;
    options.runner_dir = dir_.path() + "/runner";
    backend_ = MakeLocalBackend(loop_, clock_, std::move(options));
  }
  ~PlainQueueTest() override {
    if (engine_) EXPECT_TRUE(Await(engine_->Close(Duration(0))).ok());
    engine_.reset();
    for (size_t turn = 0; turn < gate_->asked; ++turn) Answer(turn, absl::OkStatus());
    AwaitGate([](const Gate& gate) { return gate.answered == gate.asked; });
    AwaitGate([](const Gate& gate) { return gate.dropped == gate.opened; });
  }

  void Open(Duration patience) {
    auto inner = Await(backend_->Open({"s", {}}));
    PlainEngineOptions options;
    options.sandbox = std::make_shared<GatedSandbox>(*std::move(inner), gate_);
    options.capabilities = backend_->plain_capabilities();
    options.reason = "test";
    options.start_patience = patience;
    engine_ = MakePlainEngine({loop_, clock_, random_}, std::move(options));
    SessionSpec spec;
    spec.session_id = "s";
    spec.cwd = dir_.path();
    ASSERT_TRUE(Await(engine_->Open(std::move(spec))).ok());
  }

  template <typename T>
  T Await(Task<T> task) {
    std::optional<T> result = std::nullopt;
    asio::co_spawn(loop_.executor(), std::move(task), [&](std::exception_ptr, T value) {
      result.emplace(std::move(value));
      loop_.Stop();
    });
    while (!result) loop_.Run();
    return *std::move(result);
  }

  // Its result comes while the test does other things.
  template <typename T>
  std::shared_ptr<std::optional<T>> Spawn(Task<T> task) {
    auto result = std::make_shared<std::optional<T>>();
    asio::co_spawn(loop_.executor(), std::move(task), [this, result](std::exception_ptr, T value) {
      result->emplace(std::move(value));
      gate_->changed.NotifyAll();
    });
    return result;
  }

  static Task<bool> WaitGate(std::shared_ptr<Gate> gate, std::function<bool(const Gate&)> done) {
    while (!done(*gate)) co_await gate->changed.Wait();
    co_return true;
  }
  void AwaitGate(std::function<bool(const Gate&)> done) { Await(WaitGate(gate_, std::move(done))); }
  template <typename T>
  T AwaitSpawned(std::shared_ptr<std::optional<T>> result) {
    AwaitGate([result](const Gate&) { return result->has_value(); });
    return std::move(**result);
  }
  void AwaitAsked(size_t number) {
    AwaitGate([number](const Gate& gate) { return gate.asked == number; });
  }

  void Answer(size_t turn, absl::Status status) {
    gate_->answers.emplace(turn, std::move(status));
    gate_->changed.NotifyAll();
  }

  CommandSpec Spec(std::string script) {
    CommandSpec spec;
    spec.run_id = random_.Uuid();
    spec.script = std::move(script);
    return spec;
  }
  std::unique_ptr<Channel> Start(CommandSpec spec) {
    auto channel = Await(engine_->Start(std::move(spec)));
    EXPECT_TRUE(channel.ok()) << channel.status();
    return *std::move(channel);
  }
  std::unique_ptr<Channel> StartMarking() { return Start(Spec("echo ran >>marker")); }

  std::vector<std::string> Marks() const {
    std::ifstream file(dir_.path() + "/marker");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

  void ExpectNeverStarted(const Ran& ran, Cause cause) {
    EXPECT_FALSE(ran.started);
    EXPECT_EQ(ran.out, "");
    ASSERT_EQ(ran.outcomes.size(), 1u);
    EXPECT_EQ(ran.outcomes[0].state, CommandState::kNeverStarted);
    EXPECT_EQ(ran.outcomes[0].cause, cause);
  }
  // The streams come after all, and are dropped as they are.
  void ExpectLateStreamsUnused(size_t number) {
    for (size_t turn = 0; turn < number; ++turn) Answer(turn, absl::OkStatus());
    AwaitGate([number](const Gate& gate) { return gate.dropped == number; });
    EXPECT_EQ(gate_->written, 0u);
    EXPECT_TRUE(Marks().empty());
  }

  TempDir dir_;
  Loop loop_;
  SystemClock clock_{loop_};
  SystemRandom random_;
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>(loop_);
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Engine> engine_;
};

constexpr Duration kNoPatience{0};
constexpr Duration kMuchPatience = hours(1);

TEST_F(PlainQueueTest, AKillOfAWaitingCommandEndsItAndItsLateStreamIsUnused) {
  Open(kNoPatience);
  std::unique_ptr<Channel> channel = StartMarking();
  auto read = Spawn(ReadAll(channel.get()));
  AwaitAsked(1);
  EXPECT_FALSE(read->has_value()) << "nothing is told while it waits";
  absl::StatusOr<TreeReport> report = Await(channel->Kill(hours(1), Cause::kRunTimeout));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->signalled, 0u);
  EXPECT_EQ(report->survivors, 0u);
  EXPECT_TRUE(report->verified);
  ExpectNeverStarted(AwaitSpawned(read), Cause::kRunTimeout);
  report = Await(channel->Kill(hours(1), Cause::kCancelled));
  EXPECT_TRUE(report.ok()) << "once more is no harm: " << report.status();
  channel->Forget();
  channel.reset();
  ExpectLateStreamsUnused(1);
}

TEST_F(PlainQueueTest, ASignalThatAsksForTheEndEndsAWaitingCommandOthersWait) {
  Open(kNoPatience);
  std::unique_ptr<Channel> ended = StartMarking();
  std::unique_ptr<Channel> kept = Start(Spec("echo ran"));
  AwaitAsked(2);
  EXPECT_TRUE(ended->Signal(SIGTERM, 0).ok());
  ExpectNeverStarted(Await(ReadAll(ended.get())), Cause::kCancelled);
  EXPECT_EQ(ReasonOf(kept->Signal(SIGUSR1, 0)), Reason::k_RECONNECTING);
  Answer(1, absl::OkStatus());
  EXPECT_EQ(Await(ReadAll(kept.get())).out, "ran\n");
  kept->Forget();
  Answer(0, absl::OkStatus());
  AwaitGate([](const Gate& gate) { return gate.dropped >= 1; });
  EXPECT_TRUE(Marks().empty());
}

TEST_F(PlainQueueTest, AllWaitingCommandsRunInTheEndInTheOrderOfTheirStreams) {
  constexpr size_t kCommands = 20;
  constexpr size_t kStride = 7;  // no divisor in common: every one once, in an order of its own
  Open(kNoPatience);
  std::vector<std::unique_ptr<Channel>> channels;
  for (size_t i = 0; i < kCommands; ++i) {
    channels.push_back(Start(Spec("echo " + std::to_string(i) + " >>marker")));
    AwaitAsked(i + 1);
  }
  std::vector<std::string> order;
  for (size_t i = 0; i < kCommands; ++i) {
    EXPECT_EQ(Marks(), order) << "nobody runs before its turn";
    const size_t turn = i * kStride % kCommands;
    order.push_back(std::to_string(turn));
    Answer(turn, absl::OkStatus());
    const Ran ran = Await(ReadAll(channels[turn].get()));
    EXPECT_TRUE(ran.started);
    ASSERT_EQ(ran.outcomes.size(), 1u);
    EXPECT_EQ(ran.outcomes[0].state, CommandState::kExited);
    EXPECT_EQ(ran.outcomes[0].value, 0);
    channels[turn]->Forget();
  }
  EXPECT_EQ(Marks(), order);
}

TEST_F(PlainQueueTest, CloseEndsWhatWaitsAndWhatRuns) {
  Open(kNoPatience);
  std::unique_ptr<Channel> running = Start(Spec("exec sleep 71"));
  AwaitAsked(1);
  Answer(0, absl::OkStatus());
  absl::StatusOr<ChannelEvent> event = Await(running->Read());
  ASSERT_TRUE(event.ok() && std::holds_alternative<StartedEvent>(*event));
  const size_t written = gate_->written;
  std::vector<std::unique_ptr<Channel>> waiting;
  for (int i = 0; i < 3; ++i) waiting.push_back(StartMarking());
  AwaitAsked(4);
  ASSERT_TRUE(Await(engine_->Close(Duration(0))).ok());
  for (const auto& channel : waiting) {
    ExpectNeverStarted(Await(ReadAll(channel.get())), Cause::kCancelled);
  }
  const Ran ran = Await(ReadAll(running.get()));
  ASSERT_EQ(ran.outcomes.size(), 1u);
  EXPECT_EQ(ran.outcomes[0].state, CommandState::kKilled);
  for (size_t turn = 1; turn <= 3; ++turn) Answer(turn, absl::OkStatus());
  AwaitGate([](const Gate& gate) { return gate.dropped >= 3; });
  EXPECT_EQ(gate_->written, written);
  EXPECT_TRUE(Marks().empty());
}

TEST_F(PlainQueueTest, CloseEndsAStartThatStillWaits) {
  Open(kMuchPatience);
  auto start = Spawn(engine_->Start(Spec("echo ran >>marker")));
  AwaitAsked(1);
  EXPECT_FALSE(start->has_value());
  ASSERT_TRUE(Await(engine_->Close(Duration(0))).ok());
  absl::StatusOr<std::unique_ptr<Channel>> channel = AwaitSpawned(start);
  ASSERT_TRUE(channel.ok()) << channel.status();
  ExpectNeverStarted(Await(ReadAll(channel->get())), Cause::kCancelled);
  ExpectLateStreamsUnused(1);
}

TEST_F(PlainQueueTest, AFailureThatComesSoonIsTheStartsErrorAndTheRunMayStartLater) {
  Open(kMuchPatience);
  CommandSpec spec = Spec("echo ran");
  auto start = Spawn(engine_->Start(spec));
  AwaitAsked(1);
  Answer(0, Error(Reason::k_BACKEND_AUTH_FAILED, "no"));
  EXPECT_EQ(ReasonOf(AwaitSpawned(start).status()), Reason::k_BACKEND_AUTH_FAILED);
  Answer(1, absl::OkStatus());
  std::unique_ptr<Channel> channel = Start(spec);
  EXPECT_EQ(Await(ReadAll(channel.get())).out, "ran\n");
}

TEST_F(PlainQueueTest, AFailureThatComesLateEndsTheCommandWithItsReason) {
  Open(kNoPatience);
  std::unique_ptr<Channel> channel = StartMarking();
  AwaitAsked(1);
  Answer(0, Error(Reason::k_BACKEND_UNREACHABLE, "the host is \x1b gone"));
  const Ran ran = Await(ReadAll(channel.get()));
  ExpectNeverStarted(ran, Cause::kLaunchFailed);
  EXPECT_EQ(ran.outcomes[0].launch_stage, LaunchStage::kOther);
  const std::string& why = ran.outcomes[0].state_reason;
  EXPECT_TRUE(why.starts_with("never started: BACKEND_UNREACHABLE: the host is ")) << why;
  EXPECT_EQ(why.find('\x1b'), std::string::npos) << "printable";
}

TEST_F(PlainQueueTest, StdinWaitsWithTheCommandAndArrivesWhole) {
  Open(kNoPatience);
  CommandSpec spec = Spec("cat");
  spec.stdin_open = true;
  std::unique_ptr<Channel> channel = Start(std::move(spec));
  AwaitAsked(1);
  const std::string data(200'000, 'x');
  auto first = Spawn(channel->WriteStdin(0, data, false));
  auto second = Spawn(channel->WriteStdin(data.size(), "end", true));
  loop_.RunReady();
  EXPECT_EQ(channel->stdin_accepted(), 0u);
  Answer(0, absl::OkStatus());
  const Ran ran = Await(ReadAll(channel.get()));
  EXPECT_TRUE(ran.out == data + "end") << ran.out.size();
  EXPECT_TRUE(AwaitSpawned(first).ok());
  EXPECT_TRUE(AwaitSpawned(second).ok());
}

TEST_F(PlainQueueTest, StdinOfACommandThatIsEndedWhileItWaitsIsRefused) {
  Open(kNoPatience);
  CommandSpec spec = Spec("cat >marker");
  spec.stdin_open = true;
  std::unique_ptr<Channel> channel = Start(std::move(spec));
  AwaitAsked(1);
  auto write = Spawn(channel->WriteStdin(0, "data", true));
  loop_.RunReady();
  EXPECT_FALSE(write->has_value());
  EXPECT_TRUE(Await(channel->Kill(Duration(0), Cause::kCancelled)).ok());
  EXPECT_EQ(ReasonOf(AwaitSpawned(write)), Reason::k_STDIN_CLOSED);
  ExpectLateStreamsUnused(1);
}

TEST_F(PlainQueueTest, AnEngineThatGoesTakesWhatWaitsWithIt) {
  Open(kNoPatience);
  std::unique_ptr<Channel> channel = StartMarking();
  std::unique_ptr<Channel> gone = StartMarking();
  AwaitAsked(2);
  gone.reset();
  engine_.reset();
  ExpectNeverStarted(Await(ReadAll(channel.get())), Cause::kDaemonRestarted);
  ExpectLateStreamsUnused(2);
}

}  // namespace
}  // namespace hermes
