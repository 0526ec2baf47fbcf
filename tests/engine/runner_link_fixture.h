#pragma once

// The fixture of the link's tests: one session of a RunnerEngine on a fake clock, its connections
// answered by RunnerPeer.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "backends/engine/runner_engine.h"
#include "tests/engine/runner_peer.h"
#include "tests/fakes/fake_clock.h"

namespace hermes {

// A task under way: value() is empty until it has returned.
template <typename T>
using Running = std::shared_ptr<std::optional<T>>;

class RunnerLinkTest : public ::testing::Test {
 protected:
  ~RunnerLinkTest() override {
    channel_.reset();
    engine_.reset();
    Running<absl::Status> stopped = Go(Stopped());
    Settle();
    EXPECT_TRUE(stopped->has_value()) << "tasks of the link are left";
  }

  template <typename T>
  Running<T> Go(Task<T> task) {
    auto result = std::make_shared<std::optional<T>>();
    asio::co_spawn(loop_.executor(), std::move(task),
                   [result](std::exception_ptr, T value) { result->emplace(std::move(value)); });
    loop_.RunReady();
    return result;
  }
  void Settle() {
    for (int i = 0; i < 20; ++i) loop_.RunReady();
  }
  Task<absl::Status> Stopped() {
    co_await links_.Stop();
    co_return absl::OkStatus();
  }

  RunnerPeer& peer() { return *sandbox_->peers.back(); }

  // Answers HELLO and LIST of the newest connection.
  void Greet(std::string token, std::vector<std::pair<uint32_t, frames::Listed>> listed = {}) {
    peer().Expect(frames::Type::kHello);
    peer().Expect(frames::Type::kList);
    frames::Welcome welcome;
    welcome.version = version_;
    welcome.start_token = std::move(token);
    std::string out;
    frames::Encode(out, welcome);
    for (const auto& [number, one] : listed) frames::Encode(out, number, one);
    peer().Send(out);
    peer().SendFrame(frames::Type::kListEnd, 0);
  }

  // The link would rather have a newer one; this one stays.
  void RefuseToRetire() {
    peer().Expect(frames::Type::kRetire);
    Refuse(0, "SESSION_NOT_READY", "a command is left");
  }
  void Refuse(uint32_t tag, std::string_view reason, std::string_view message) {
    std::string out;
    frames::Writer refused(out);
    refused.Begin(frames::Type::kRefused, tag);
    refused.Str(reason);
    refused.Str(message);
    refused.End();
    peer().Send(out);
  }

  // Answers an OPEN; returns what it said.
  frames::Open AnswerOpen(uint64_t generation) {
    SeenFrame seen = peer().Expect(frames::Type::kOpen);
    AnswerOpened(seen.command, generation);
    return frames::Decode<frames::Open>(seen.payload).value_or(frames::Open{});
  }
  void AnswerOpened(uint32_t tag, uint64_t generation) {
    std::string out;
    frames::Opened opened;
    opened.generation = generation;
    opened.cwd = "/home";
    opened.shell = 1;
    frames::Encode(out, tag, opened);
    peer().Send(out);
  }

  // A session that is open at a runner called "one".
  void OpenSession(RunnerEngineOptions options = {}) {
    options.sandbox = sandbox_;
    options.capabilities.stdin_stream = true;
    engine_ = MakeRunnerEngine(links_, std::move(options));
    SessionSpec spec;
    spec.session_id = "s";
    auto opened = Go(engine_->Open(spec));
    Greet("one");
    AnswerOpen(1);
    if (version_ < frames::kVersion) RefuseToRetire();
    Settle();
    ASSERT_TRUE(opened->has_value());
    ASSERT_TRUE((*opened)->ok()) << (*opened)->status();
    EXPECT_EQ((**opened)->incarnation, "one");
  }

  // Starts a command and returns its number; it is channel_.
  uint32_t StartCommand(bool stdin_open = false) {
    CommandSpec spec;
    spec.run_id = "run-1";
    spec.script = "true";
    spec.stdin_open = stdin_open;
    auto started = Go(engine_->Start(spec));
    EXPECT_TRUE(started->has_value()) << "Start waited";
    if (!started->has_value() || !(*started)->ok()) return 0;
    channel_ = *std::move(**started);
    return peer().Expect(frames::Type::kStart).command;
  }

  // A broken connection and the next one, not greeted yet.
  void Reconnect() {
    sandbox_->peers.clear();
    for (int i = 0; i < 10 && sandbox_->peers.empty(); ++i) {
      Settle();
      if (sandbox_->peers.empty()) clock_.AdvanceToNext();
    }
    ASSERT_FALSE(sandbox_->peers.empty());
  }

  // The next event, which must be there already.
  ChannelEvent ReadNow() {
    auto event = Go(channel_->Read());
    EXPECT_TRUE(event->has_value()) << "no event";
    if (!event->has_value()) {
      channel_->Abandon();
      Settle();
      return DrainedEvent{};
    }
    return ***event;
  }
  std::string ReadData(uint64_t offset) {
    ChannelEvent event = ReadNow();
    DataEvent* data = std::get_if<DataEvent>(&event);
    EXPECT_NE(data, nullptr);
    if (data == nullptr) return "";
    EXPECT_EQ(data->offset, offset);
    return data->data;
  }

  static frames::Listed Listed(std::string run_id, uint64_t out = 0, uint64_t out_first = 0) {
    frames::Listed listed;
    listed.session = "s";
    listed.run_id = std::move(run_id);
    listed.pid = 42;
    listed.out = out;
    listed.out_first = out_first;
    return listed;
  }

  uint16_t version_ = frames::kVersion;  // of the runner
  Loop loop_;
  FakeClock clock_{loop_};
  SeededRandom random_{1};
  RunnerLinks links_{{loop_, clock_, random_, "d"}};
  std::shared_ptr<PeerSandbox> sandbox_ = std::make_shared<PeerSandbox>(loop_);
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Channel> channel_;
};

inline uint64_t FirstU64(const SeenFrame& frame) { return frames::Reader(frame.payload).U64(); }

}  // namespace hermes
