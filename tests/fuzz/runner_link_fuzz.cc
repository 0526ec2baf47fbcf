// The daemon's side of a runner link, with a far end that says anything at any time. The input is a
// play: what the far end sends, when connections break, what core asks meanwhile. Whatever comes,
// each command's events keep their order, no byte is told twice, and all ends when the link is
// stopped: no task is left.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <asio/co_spawn.hpp>

#include "backends/engine/runner_engine.h"
#include "daemon/runtime/check.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/fake_clock.h"

namespace hermes {
namespace {

constexpr size_t kMostActs = 256;        // of one input; the rest is ignored
constexpr size_t kMostConnections = 16;  // later attempts are refused
constexpr uint32_t kSessionTag = 1;      // of the first OPEN

// Takes an input apart; zeros after its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool done() const { return at_ == end_; }
  uint8_t Byte() { return done() ? 0 : *at_++; }
  std::string Bytes() {
    const size_t size = std::min<size_t>(Byte(), end_ - at_);
    const auto* begin = reinterpret_cast<const char*>(std::exchange(at_, at_ + size));
    return std::string(begin, size);
  }
  // Mostly small, sometimes at the edges of what fits.
  uint64_t Number() {
    const uint8_t byte = Byte();
    return byte < 0xf0 ? byte : UINT64_MAX >> (4 * (byte & 0xf));
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

struct Wire {
  explicit Wire(Loop& loop) : changed(loop) {}
  Event changed;
  std::string to_daemon;
  bool over = false;  // end of file, or aborted
};

class WireStream : public Stream {
 public:
  explicit WireStream(std::shared_ptr<Wire> wire) : wire_(std::move(wire)) {}
  ~WireStream() override { wire_->over = true; }

  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    return Read(wire_, into);
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char>) override { co_return 0; }
  Task<absl::Status> Write(std::string_view) override { return Answer(wire_); }
  void CloseStdin() override {}
  void Abort() override {
    wire_->over = true;
    wire_->changed.NotifyAll();
  }
  Task<std::optional<End>> WaitEnd() override { co_return std::nullopt; }

 private:
  static Task<absl::StatusOr<size_t>> Read(std::shared_ptr<Wire> wire, std::span<char> into) {
    while (wire->to_daemon.empty() && !wire->over) co_await wire->changed.Wait();
    const size_t bytes = wire->to_daemon.copy(into.data(), into.size());
    wire->to_daemon.erase(0, bytes);
    co_return bytes;
  }
  static Task<absl::Status> Answer(std::shared_ptr<Wire> wire) {
    if (wire->over) co_return Error(Reason::k_BACKEND_UNREACHABLE, "broken");
    co_return absl::OkStatus();
  }

  std::shared_ptr<Wire> wire_;
};

class WireSandbox : public Sandbox {
 public:
  explicit WireSandbox(Loop& loop) : loop_(loop) {}
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string, Lane, WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "only a runner is here");
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr) override {
    if (++connections_ > kMostConnections) co_return Error(Reason::k_BACKEND_UNREACHABLE, "enough");
    wire = std::make_shared<Wire>(loop_);
    co_return std::make_unique<WireStream>(wire);
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane, WishPtr) override {
    co_return Error(Reason::k_CAPABILITY_MISSING, "only a runner is here");
  }
  std::string place_key() const override { return "wire"; }
  std::string handle() const override { return "wire"; }
  Task<absl::Status> Close(bool) override { co_return absl::OkStatus(); }

  std::shared_ptr<Wire> wire;  // the newest; null: none yet

 private:
  Loop& loop_;
  size_t connections_ = 0;
};

// One channel and what is known of it from its events.
class Reader {
 public:
  explicit Reader(std::unique_ptr<Channel> channel, bool adopted)
      : channel_(std::move(channel)), adopted_(adopted) {}
  Channel& channel() { return *channel_; }
  void Drop() { channel_.reset(); }
  bool live() const { return channel_ != nullptr; }
  bool reading = false;

  void Take(const absl::StatusOr<ChannelEvent>& event) {
    reading = false;
    if (!event.ok()) {
      CHECK(event.status().code() == absl::StatusCode::kCancelled);
      return;
    }
    CHECK(!drained_);
    if (std::get_if<StartedEvent>(&*event) != nullptr) CHECK(!std::exchange(started_, true));
    if (const auto* data = std::get_if<DataEvent>(&*event)) {
      CHECK(!data->data.empty());
      Advance(data->stream, data->offset, data->offset + data->data.size());
    }
    if (const auto* lost = std::get_if<LostEvent>(&*event))
      Advance(lost->stream, lost->from, lost->to);
    if (const auto* ended = std::get_if<EndedEvent>(&*event)) {
      CHECK(!std::exchange(ended_, true));
      CHECK(ended->outcome.state >= CommandState::kExited);
    }
    if (std::get_if<DrainedEvent>(&*event) != nullptr) {
      CHECK(ended_);
      drained_ = true;
    }
  }

 private:
  void Advance(OutputStream stream, uint64_t from, uint64_t to) {
    uint64_t& next = next_[static_cast<size_t>(stream)];
    CHECK(from < to);
    CHECK(from == next || (adopted_ && next == 0));
    next = to;
  }

  std::unique_ptr<Channel> channel_;
  const bool adopted_;
  bool started_ = false, ended_ = false, drained_ = false;
  std::array<uint64_t, kOutputStreams> next_ = {0, 0};
};

class Play {
 public:
  explicit Play(Input input) : input_(input) {}

  void Run() {
    RunnerEngineOptions options;
    options.sandbox = sandbox_;
    options.capabilities.stdin_stream = true;
    options.lease = std::chrono::seconds(input_.Byte() % 2 * 30);
    engine_ = MakeRunnerEngine(links_, std::move(options));
    SessionSpec spec;
    spec.session_id = "s";
    Go(engine_->Open(spec));
    if (input_.Byte() % 8 != 0) {  // most plays begin in order
      SayWelcome("one");
      SayOpened(kSessionTag);
    }
    for (size_t act = 0; act < kMostActs && !input_.done(); ++act) Act(input_.Byte());
    End();
  }

 private:
  // Every task is counted, so that the end can tell that none is left.
  template <typename T, typename Done>
  void Go(Task<T> task, Done done) {
    ++tasks_;
    asio::co_spawn(loop_.executor(), std::move(task),
                   [this, done = std::move(done)](std::exception_ptr error, T value) mutable {
                     CHECK(error == nullptr);
                     --tasks_;
                     done(std::move(value));
                   });
    loop_.RunReady();
  }
  template <typename T>
  void Go(Task<T> task) {
    Go(std::move(task), [](T) {});
  }

  void Act(uint8_t which) {
    switch (which % 20) {
      case 0:
        return Say(input_.Bytes());
      case 1:
        return SayAnyFrame();
      case 2:
        return SayWelcome(input_.Byte() % 2 == 0 ? "one" : "two");
      case 3:
        return SayOpened(input_.Byte());
      case 4:
        return SayData();
      case 5:
        return SayExit();
      case 6:
        return SayNumbers();
      case 7:
        return SayReport();
      case 8:
        return SayRefused();
      case 9:
        return BreakWire();
      case 10:
        clock_.AdvanceToNext();
        return;
      case 11:
        return Start();
      case 12:
        return Adopt();
      case 13:
        return Go(engine_->Close(std::chrono::seconds(1)));
      default:
        return ActOnCommand(which % 20);
    }
  }

  void ActOnCommand(int which) {
    if (readers_.empty()) return;
    const std::shared_ptr<Reader> reader = readers_[input_.Byte() % readers_.size()];
    if (!reader->live()) return;
    Channel& channel = reader->channel();
    switch (which) {
      case 14:
      case 15:
        return Read(reader);
      case 16:
        return Go(channel.WriteStdin(std::min(input_.Number(), channel.stdin_accepted()),
                                     std::string(input_.Number() % 70'000, 'x'),
                                     input_.Byte() % 4 == 0));
      case 17:
        return Go(channel.Kill(std::chrono::milliseconds(input_.Byte()), Cause::kCancelled));
      case 18:
        channel.Ack(input_.Number(), input_.Number());
        static_cast<void>(channel.Signal(input_.Byte(), input_.Byte() % 3));
        static_cast<void>(channel.Resize(input_.Byte(), 1));
        return loop_.RunReady();
      default:
        if (input_.Byte() % 4 == 0) channel.Forget();
        if (input_.Byte() % 4 == 0) channel.Abandon();
        if (!reader->reading && input_.Byte() % 4 == 0) reader->Drop();
        return loop_.RunReady();
    }
  }

  void Read(const std::shared_ptr<Reader>& reader) {
    if (std::exchange(reader->reading, true)) return;
    Go(reader->channel().Read(),
       [reader](const absl::StatusOr<ChannelEvent>& event) { reader->Take(event); });
  }
  void Start() {
    CommandSpec spec;
    spec.run_id = "run-" + std::to_string(input_.Byte() % 4);
    spec.script = "true";
    spec.stdin_open = input_.Byte() % 2 == 0;
    Go(engine_->Start(std::move(spec)), Keep(false));
  }
  void Adopt() {
    const std::string run_id = "run-" + std::to_string(input_.Byte() % 4);
    Go(engine_->Adopt(run_id, input_.Byte(), input_.Byte()), Keep(true));
  }
  std::function<void(absl::StatusOr<std::unique_ptr<Channel>>)> Keep(bool adopted) {
    return [this, adopted](absl::StatusOr<std::unique_ptr<Channel>> channel) {
      if (channel.ok()) readers_.push_back(std::make_shared<Reader>(*std::move(channel), adopted));
    };
  }

  // ---- the far end

  void Say(std::string_view bytes) {
    if (sandbox_->wire == nullptr || sandbox_->wire->over) return;
    sandbox_->wire->to_daemon.append(bytes);
    sandbox_->wire->changed.NotifyAll();
    loop_.RunReady();
  }
  template <typename Fill>
  void SayFrame(frames::Type type, uint32_t command, Fill fill) {
    std::string out;
    frames::Writer writer(out);
    writer.Begin(type, command);
    fill(writer);
    writer.End();
    Say(out);
  }
  void SayAnyFrame() {
    const auto type = static_cast<frames::Type>(65 + input_.Byte() % 16);
    const uint32_t command = input_.Byte();
    const std::string payload = input_.Bytes();
    SayFrame(type, command, [&payload](frames::Writer& writer) { writer.Raw(payload); });
  }
  void SayWelcome(std::string token) {
    frames::Welcome welcome;
    welcome.version = frames::kVersion;
    welcome.start_token = std::move(token);
    std::string out;
    frames::Encode(out, welcome);
    for (size_t listed = input_.Byte() % 4; listed > 0; --listed) {
      frames::Listed one;
      one.session = "s";
      one.run_id = "run-" + std::to_string(input_.Byte() % 4);
      one.pid = input_.Byte();
      one.out_first = input_.Number();
      one.out = input_.Number();
      frames::Encode(out, static_cast<uint32_t>(input_.Number()), one);
    }
    Say(out);
    SayFrame(frames::Type::kListEnd, 0, [](frames::Writer&) {});
  }
  void SayOpened(uint32_t tag) {
    frames::Opened opened;
    opened.generation = input_.Byte();
    opened.cwd = "/home";
    opened.shell = 1;
    std::string out;
    frames::Encode(out, tag, opened);
    Say(out);
  }
  void SayData() {
    std::string out;
    const auto type = input_.Byte() % 2 == 0 ? frames::Type::kOut : frames::Type::kErr;
    const uint32_t command = input_.Byte();
    const uint64_t offset = input_.Number();
    frames::EncodeData(out, command, type, offset, std::string(input_.Number() % 70'000, 'y'));
    Say(out);
  }
  void SayExit() {
    frames::Exit exit;
    const uint32_t command = input_.Byte();
    exit.cause = static_cast<frames::Cause>(input_.Byte());
    exit.value = static_cast<int32_t>(input_.Number());
    exit.max_rss_kb = input_.Number();
    exit.cwd = input_.Bytes();
    std::string out;
    frames::Encode(out, command, exit);
    Say(out);
    if (input_.Byte() % 2 == 0) SayFrame(frames::Type::kDrained, command, [](frames::Writer&) {});
  }
  // STARTED, STDIN_ACK and PONG.
  void SayNumbers() {
    const uint32_t command = input_.Byte();
    const uint64_t number = input_.Number();
    const uint8_t flag = input_.Byte() % 2;
    switch (input_.Byte() % 3) {
      case 0:
        return SayFrame(frames::Type::kStarted, command, [&](frames::Writer& writer) {
          writer.U32(static_cast<uint32_t>(number));
          writer.U8(flag);
        });
      case 1:
        return SayFrame(frames::Type::kStdinAck, command, [&](frames::Writer& writer) {
          writer.U64(number);
          writer.U8(flag);
        });
      default:
        return SayFrame(frames::Type::kPong, 0,
                        [&](frames::Writer& writer) { writer.U64(number); });
    }
  }
  void SayReport() {
    frames::TreeReport report;
    const auto type = input_.Byte() % 2 == 0 ? frames::Type::kKilled : frames::Type::kClosed;
    const uint32_t command = input_.Byte();
    report.verified = 1;
    std::string out;
    frames::Encode(out, command, type, report);
    Say(out);
  }
  void SayRefused() {
    constexpr std::array<std::string_view, 4> kReasons = {"COMMAND_UNKNOWN", "RESULT_EXPIRED",
                                                          "BUG", "no such reason"};
    const uint32_t command = input_.Byte();
    SayFrame(frames::Type::kRefused, command, [&](frames::Writer& writer) {
      writer.Str(kReasons[input_.Byte() % kReasons.size()]);
      writer.Str(input_.Bytes());
    });
  }
  void BreakWire() {
    if (sandbox_->wire == nullptr) return;
    sandbox_->wire->over = true;
    sandbox_->wire->changed.NotifyAll();
    loop_.RunReady();
    if (input_.Byte() % 2 == 0) clock_.AdvanceToNext();
  }

  // Everything must come to its end by itself once the link is stopped and channels are abandoned.
  void End() {
    Go(Stopped());
    for (const auto& reader : readers_)
      if (reader->live()) reader->channel().Abandon();
    loop_.RunReady();
    CHECK(tasks_ == 0);
    readers_.clear();
    engine_.reset();
    loop_.RunReady();
    CHECK(clock_.alarms() == 0);
  }
  Task<absl::Status> Stopped() {
    co_await links_.Stop();
    co_return absl::OkStatus();
  }

  Input input_;
  Loop loop_;
  FakeClock clock_{loop_};
  SeededRandom random_{1};
  RunnerLinks links_{{loop_, clock_, random_, "d"}};
  std::shared_ptr<WireSandbox> sandbox_ = std::make_shared<WireSandbox>(loop_);
  std::unique_ptr<Engine> engine_;
  std::vector<std::shared_ptr<Reader>> readers_;
  int tasks_ = 0;
};

}  // namespace
}  // namespace hermes

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool kQuiet = [] {
    hermes::InitLog(hermes::LogLevel::kError, true);
    return true;
  }();
  static_cast<void>(kQuiet);
  hermes::Play(hermes::Input(data, size)).Run();
  return 0;
}
