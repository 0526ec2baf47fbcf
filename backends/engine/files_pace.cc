#include "backends/engine/files_pace.h"

#include <algorithm>

#include "backends/engine/frames.h"

namespace hermes {
namespace {

constexpr Duration kLeastTime = std::chrono::milliseconds(1);  // that a rate is reckoned by

}  // namespace

void FilesPace::OnSent(uint64_t end) {
  sent_ = end;
  if (probe_) return;
  probe_ = end;
  probe_sent_ = clock_.Now();
}

void FilesPace::OnAcknowledged(uint64_t accepted) {
  if (accepted <= accepted_) return;
  const SteadyTime now = clock_.Now();
  const uint64_t bytes = accepted - accepted_;
  accepted_ = accepted;
  flight_ += bytes;
  if (probe_ && accepted >= *probe_) {
    round_trip_ = std::min(round_trip_.value_or(Duration::max()), now - probe_sent_);
    probe_.reset();
  }
  if (since_) bytes_ += bytes;
  if (since_ && bytes_ >= kFilesRateBytes) {
    Judge(std::max<Duration>(now - *since_, kLeastTime));
    since_.reset();
  }
  if (!since_) {
    since_ = now;
    bytes_ = 0;
  }
  if (accepted_ < sent_) return;
  // Nothing was seen to slow it down.
  if (!judged_) Learn(std::max(way_->window, 2 * flight_));
  OnLost();
}

void FilesPace::OnLost() {
  probe_.reset();
  since_.reset();
  bytes_ = flight_ = 0;
  judged_ = false;
}

void FilesPace::Judge(Duration time) {
  judged_ = true;
  const Duration taken = round_trip_.value_or(Duration(0)) + kMostFilesDelay;
  const double times = static_cast<double>(taken.count()) / static_cast<double>(time.count());
  const auto window = static_cast<uint64_t>(static_cast<double>(bytes_) * times);
  // One slow moment says little.
  Learn(window > way_->window ? window : (way_->window + window) / 2);
}

void FilesPace::Learn(uint64_t window) {
  way_->window = std::clamp(window, kLeastFilesWindow, frames::kFilesStdinWindow);
}

}  // namespace hermes
