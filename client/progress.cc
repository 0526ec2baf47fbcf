#include "client/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "client/render.h"
#include "client/terminal.h"
#include "client/text.h"

namespace hermes::client {
namespace {

constexpr std::chrono::milliseconds kRedrawInterval(100);
constexpr size_t kStandardColumns = 80;
constexpr size_t kMostBar = 30;
constexpr size_t kLeastBar = 10;
constexpr char kClearLine[] = "\r\x1b[K";

size_t Columns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kStandardColumns;
  return size.ws_col;
}

// Of bytes where they are known, else of files; 0 to 1.
double Fraction(const v1::SyncProgress& progress) {
  const bool bytes = progress.bytes_total() > 0;
  const uint64_t total = bytes ? progress.bytes_total() : progress.files_total();
  const uint64_t done = bytes ? progress.bytes_done() : progress.files_done();
  return total == 0 ? 0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
}

std::string Bar(double fraction, size_t width) {
  const auto filled = static_cast<size_t>(fraction * static_cast<double>(width));
  std::string bar(filled, '=');
  if (filled < width) bar += '>';
  bar.resize(width, ' ');
  return "[" + bar + "]";
}

}  // namespace

std::string ProgressLine(std::string_view phase, const v1::SyncProgress& progress, size_t columns) {
  std::string line = ForTerminal(phase);
  if (progress.files_total() > 0 || progress.bytes_total() > 0) {
    const double fraction = Fraction(progress);
    const std::string percent = std::to_string(static_cast<int>(fraction * 100));
    std::string tail = "  " + std::string(percent.size() < 3 ? 3 - percent.size() : 0, ' ') +
                       percent + "%  " + std::to_string(progress.files_done()) + "/" +
                       std::to_string(progress.files_total()) + " files";
    if (progress.bytes_total() > 0) {
      tail += "  " + HumanBytes(progress.bytes_done()) + "/" + HumanBytes(progress.bytes_total());
    }
    constexpr size_t kAround = 4;  // two spaces and the brackets
    const size_t taken = line.size() + tail.size() + kAround;
    if (columns >= taken + kLeastBar) {
      line += "  " + Bar(fraction, std::min(kMostBar, columns - taken));
    }
    line += tail;
  }
  return line.substr(0, columns);
}

ProgressBar::ProgressBar(bool shown) {
  if (shown) thread_ = std::thread([this] { Run(); });
}

ProgressBar::~ProgressBar() { Clear(); }

void ProgressBar::SetPhase(const std::string& phase) {
  std::lock_guard lock(mutex_);
  if (phase_ == phase) return;
  phase_ = phase;
  dirty_ = true;
  changed_.notify_all();
}

void ProgressBar::SetProgress(const v1::SyncProgress& progress) {
  std::lock_guard lock(mutex_);
  progress_ = progress;
  dirty_ = true;
  changed_.notify_all();
}

void ProgressBar::Clear() {
  {
    std::lock_guard lock(mutex_);
    over_ = true;
    changed_.notify_all();
  }
  if (!thread_.joinable()) return;
  thread_.join();
  if (drawn_) WriteAll(STDERR_FILENO, kClearLine);
}

void ProgressBar::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return over_ || dirty_; });
    if (over_) return;
    dirty_ = false;
    drawn_ = true;
    // One column stays free: a full line would wrap on some terminals.
    const std::string line =
        std::string("\r") + ProgressLine(phase_, progress_, Columns() - 1) + "\x1b[K";
    lock.unlock();
    WriteAll(STDERR_FILENO, line);
    lock.lock();
    changed_.wait_for(lock, kRedrawInterval, [this] { return over_; });
  }
}

}  // namespace hermes::client
