#pragma once

// How far a sync is, on one line of a terminal that is drawn again and again.

#include <condition_variable>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "hermes/v1/sync.pb.h"

namespace hermes::client {

// "fetching  [=====>     ]  45%  120/581 files  1.5 MiB/3.4 MiB", as much of it as fits into
// `columns`; plain ASCII. Pure.
std::string ProgressLine(std::string_view phase, const v1::SyncProgress& progress, size_t columns);

// The line on stderr, drawn at most ten times a second by a thread of its own; nothing at all when
// not `shown`. Thread-safe.
class ProgressBar {
 public:
  explicit ProgressBar(bool shown);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void SetPhase(const std::string& phase);
  void SetProgress(const v1::SyncProgress& progress);

  // Takes the line away and draws no more. Idempotent.
  void Clear();

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::string phase_;
  v1::SyncProgress progress_;
  bool dirty_ = false;
  bool over_ = false;
  bool drawn_ = false;
  std::thread thread_;
};

}  // namespace hermes::client
