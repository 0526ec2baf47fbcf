#pragma once

// Sessions with mounts: a whole core over real files, with a directory of this host as the far end.

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>

#include "daemon/core/session_sync.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/fake_daemon.h"
#include "tests/fakes/temp_dir.h"
#include "tests/sync/dir_tree.h"
#include "tests/sync/process.h"

namespace hermes {

class SessionSyncTest : public testing::Test {
 protected:
  SessionSyncTest() : dir_(std::filesystem::canonical(temp_.path()).string()) {
    for (const char* name : {"/host", "/far", "/bases", "/output"})
      std::filesystem::create_directory(dir_ + name);
    host_.spool_dir = dir_ + "/output";
    host_.base_dir = dir_ + "/bases";
    host_.place.new_tree = [this] {
      auto tree = std::make_unique<sync::DirTree>(dir_ + "/far");
      tree->hooks = hooks_;
      far_ = tree.get();
      return tree;
    };
    Restart();
  }
  ~SessionSyncTest() override { FakeDaemon::Crash(std::move(daemon_)); }

  void Restart(TableLimits limits = {}) {
    if (daemon_ != nullptr) FakeDaemon::Crash(std::move(daemon_));
    // The locks of a process that is dead are not gone in here, so the next one has a copy.
    const std::string bases = dir_ + "/bases" + std::to_string(++seed_);
    std::filesystem::copy(host_.base_dir, bases);
    host_.base_dir = bases;
    died_ = false;
    daemon_ = std::make_unique<FakeDaemon>(host_, seed_, limits, [this](const char* step) {
      if (full_at_ != nullptr && std::string_view(step) == full_at_)
        return MemoryStore::Verdict::kFull;
      died_ = die_at_ != nullptr && std::string_view(step) == die_at_;
      return died_ ? verdict_ : MemoryStore::Verdict::kOk;
    });
  }

  CreateSession Request(const std::string& id) {
    CreateSession request;
    request.id = id;
    request.backend = "fake";
    request.wait_ready = true;
    request.sync.mounts = {{.id = "m", .host_root = dir_ + "/host", .remote_root = dir_ + "/far"}};
    return request;
  }
  void Create(OnSyncError on_error = OnSyncError::kFail) {
    CreateSession request = Request("s");
    request.sync.on_error = on_error;
    auto created = daemon_->Await(daemon_->table.Create(std::move(request)));
    ASSERT_TRUE(created.ok()) << created.status();
  }
  std::shared_ptr<Session> session() { return *daemon_->table.Find("s"); }
  SessionState State() { return session()->info().state; }
  bool Has(std::string_view condition) {
    const auto& all = session()->info().conditions;
    return std::any_of(all.begin(), all.end(), [&](const auto& c) { return c.type == condition; });
  }

  // Programs run: real time passes, the daemon's clock stands.
  template <typename T>
  T Live(Task<T> task) {
    std::optional<T> result;
    asio::co_spawn(daemon_->loop.executor(), std::move(task),
                   [&](std::exception_ptr, T value) { result.emplace(std::move(value)); });
    LiveUntil([&] { return result.has_value(); });
    return *std::move(result);
  }
  void LiveUntil(const std::function<bool()>& done) {
    const SystemClock real(daemon_->loop);
    const SteadyTime until = real.Now() + std::chrono::seconds(30);
    while (!done() && real.Now() < until) {
      daemon_->loop.RunReady();
      if (done()) break;
      daemon_->loop.context().restart();
      daemon_->loop.context().run_one_for(std::chrono::milliseconds(20));
    }
    EXPECT_TRUE(done());
  }

  struct Ran {
    absl::Status error;
    std::optional<CommandInfo> end;
    std::string out;
    bool existing = false;
  };
  Ran Run(StartCommand request) {
    Ran ran;
    auto started = daemon_->Await(daemon_->table.Start(std::move(request)));
    if (!started.ok()) {
      ran.error = started.status();
      return ran;
    }
    ran.existing = started->existing;
    auto reader = daemon_->Follow(started->run);
    daemon_->RunUntil([&] { return reader->result.has_value(); });
    ran.error = reader->result->status();
    for (const CommandEvent& event : reader->sink->events) {
      const auto* phase = std::get_if<PhaseInfo>(&event);
      if (phase != nullptr && phase->name == "conflict") last_warning_ = phase->detail;
    }
    if (reader->sink->finished() != nullptr) ran.end = *reader->sink->finished();
    ran.out = reader->sink->Text(OutputStream::kStdout);
    return ran;
  }
  Ran Run(const std::string& run_id = "run-1", SyncBefore before = SyncBefore::kIfStale) {
    StartCommand request = MakeStart("s", "out x", run_id);
    request.sync_before = before;
    return Run(std::move(request));
  }

  Task<SyncInfo> ToEnd(StartSync request) {
    auto job = co_await daemon_->table.Sync(std::move(request));
    EXPECT_TRUE(job.ok()) << job.status();
    if (!job.ok()) co_return SyncInfo();
    while (!(*job)->ended()) co_await (*job)->changed().Wait();
    co_return (*job)->info();
  }
  SyncInfo Sync(StartSync request) {
    request.session_id = "s";
    return Live(ToEnd(std::move(request)));
  }
  absl::Status Close(bool discard = false) {
    told_.clear();
    return Live(session()->Close({.grace = std::chrono::seconds(1), .discard = discard},
                                 [this](Session::CloseEvent event) { Note(std::move(event)); }));
  }
  void Note(Session::CloseEvent event) {
    if (const auto* phase = std::get_if<Session::ClosePhase>(&event)) told_ += phase->name;
    if (std::holds_alternative<Session::KilledCommand>(event)) told_ += "killed";
    if (const auto* pull = std::get_if<SyncInfo>(&event))
      told_ += pull->state == SyncState::kDone ? "pulled" : "not pulled";
    told_ += ' ';
  }
  std::vector<SyncInfo> Rows() { return *daemon_->Await(daemon_->table.ListSyncs("s", "", 100)); }

  void FailPushes() {
    hooks_.before = [](std::string_view verb) {
      return verb == "apply" ? Error(Reason::k_SYNC_FAILED, "the far disk is full")
                             : absl::OkStatus();
    };
    if (far_ != nullptr) far_->hooks = hooks_;
  }
  void LetPushes() {
    hooks_.before = nullptr;
    far_->hooks = hooks_;
  }

  TempDir temp_;
  const std::string dir_;
  FakeHost host_;
  sync::DirTree::Hooks hooks_;
  sync::DirTree* far_ = nullptr;
  std::string told_;               // by the last Close
  std::string last_warning_;       // to whoever followed a command
  const char* full_at_ = nullptr;  // the step that the store refuses
  const char* die_at_ = nullptr;
  MemoryStore::Verdict verdict_ = MemoryStore::Verdict::kDieAfter;
  bool died_ = false;
  uint64_t seed_ = 0;
  std::unique_ptr<FakeDaemon> daemon_;
};

}  // namespace hermes
