#pragma once

// FilesPace: how many bytes may be on their way to one file service. Whatever else is said over the
// same connection meanwhile, the START of another session's command above all, stands behind them.
// So they are no more than the way takes within kMostFilesDelay, besides what fills a round trip.
// How fast the way is, the acknowledgements tell; the next service begins with what was learned.
// Owned by the service's command; loop thread.

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "daemon/runtime/clock.h"

namespace hermes {

inline constexpr Duration kMostFilesDelay = std::chrono::milliseconds(100);
// As long as nothing is known of the way, and on one that is slower: 0.1 s of 20 Mbit/s.
inline constexpr uint64_t kLeastFilesWindow = 256 << 10;
// A rate is judged by so many bytes.
inline constexpr uint64_t kFilesRateBytes = 128 << 10;

// What is known of the way to a place. Shared by the services there.
struct FilesWay {
  uint64_t window = kLeastFilesWindow;
};

class FilesPace {
 public:
  FilesPace(Clock& clock, std::shared_ptr<FilesWay> way) : clock_(clock), way_(std::move(way)) {}

  // Of bytes that are not acknowledged.
  uint64_t window() const { return way_->window; }

  void OnSent(uint64_t end);  // all before it has been sent
  void OnAcknowledged(uint64_t accepted);
  // The connection is another one: what was on its way is said again.
  void OnLost();

 private:
  void Judge(Duration time);
  void Learn(uint64_t window);

  Clock& clock_;
  const std::shared_ptr<FilesWay> way_;
  uint64_t sent_ = 0;
  uint64_t accepted_ = 0;
  // A byte whose way there and back is measured.
  std::optional<uint64_t> probe_;
  SteadyTime probe_sent_;
  std::optional<Duration> round_trip_;  // the shortest
  // Since something is on its way all the time: what is acknowledged, by now and since the last
  // judgement.
  uint64_t flight_ = 0;
  bool judged_ = false;
  std::optional<SteadyTime> since_;
  uint64_t bytes_ = 0;
};

}  // namespace hermes
