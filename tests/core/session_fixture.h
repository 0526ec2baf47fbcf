#pragma once

// SessionTest: one daemon after the other over the same fake place, disk and output folder.

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>

#include "daemon/core/session.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/fake_daemon.h"
#include "tests/fakes/temp_dir.h"

namespace hermes {

class SessionTest : public testing::Test {
 protected:
  SessionTest() {
    host_.spool_dir = dir_.path();
    Restart();
  }
  ~SessionTest() override { FakeDaemon::Crash(std::move(daemon_)); }

  void Restart(TableLimits limits = {}) {
    if (daemon_ != nullptr) FakeDaemon::Crash(std::move(daemon_));
    daemon_ = std::make_unique<FakeDaemon>(host_, ++seed_, limits, [this](const char* step) {
      if (die_after_ != nullptr && std::string_view(step) == die_after_)
        return MemoryStore::Verdict::kDieAfter;
      if (writes_until_full_ == 0) return MemoryStore::Verdict::kFull;
      if (writes_until_full_ > 0) --writes_until_full_;
      return disk_full_ ? MemoryStore::Verdict::kFull : MemoryStore::Verdict::kOk;
    });
  }

  absl::Status Close(const std::string& id) {
    return daemon_->Await(
        (*daemon_->table.Find(id))->Close({.grace = std::chrono::seconds(1)}, nullptr));
  }
  SessionState StateOf(const std::string& id) { return (*daemon_->table.Find(id))->info().state; }

  // Starts, follows to the end, returns what the reader saw.
  std::shared_ptr<FakeDaemon::Reader> RunToEnd(const std::string& script,
                                               const std::string& run_id = "") {
    auto started = daemon_->Start("s", script, run_id);
    EXPECT_TRUE(started.ok()) << started.status();
    auto reader = daemon_->Follow(started->run);
    daemon_->RunUntil([&] { return reader->result.has_value(); });
    return reader;
  }

  Reason ReasonOfStart(const std::string& script, const std::string& run_id = "") {
    auto started = daemon_->Start("s", script, run_id);
    EXPECT_FALSE(started.ok());
    return ReasonOf(started.status()).value_or(Reason::k_BUG);
  }

  TempDir dir_;
  FakeHost host_;
  bool disk_full_ = false;
  int writes_until_full_ = -1;       // -1: never
  const char* die_after_ = nullptr;  // the step of the store that kills the daemon
  uint64_t seed_ = 0;
  std::unique_ptr<FakeDaemon> daemon_;
};

}  // namespace hermes
