#include "backends/runner/closer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "backends/runner/notice.h"

namespace hermes::runner {
namespace {
constexpr int64_t kDrainUs = 1'000'000;  // for pipes that somebody outside the tree still holds
constexpr size_t kMaxPids = 16;

void Add(const frames::TreeReport& part, frames::TreeReport* sum) {
  sum->signalled += part.signalled;
  sum->survivors += part.survivors;
  sum->verified &= part.verified;
  for (uint32_t pid : part.pids)
    if (sum->pids.size() < kMaxPids) sum->pids.push_back(pid);
}
}  // namespace

struct Closer::Closing final : Timer::Handler {
  Closing(Loop& loop, Request from)
      : request(std::move(from)), undrained(request.runs), timer(loop, *this) {}
  void OnTimer(Timer&) override { late = true; }
  bool done() const { return request.runs.empty() && (undrained.empty() || late); }

  Request request;  // its runs: those that have not answered the kill
  std::set<std::string> undrained;
  frames::TreeReport report = NothingLeft();
  Timer timer;
  bool late = false;
};

Closer::Closer(Loop& loop, Owner& owner) : loop_(loop), owner_(owner) {}
Closer::~Closer() = default;

void Closer::Begin(Request request) {
  std::string session = request.session;
  table_[session] = std::make_unique<Closing>(loop_, std::move(request));
}

bool Closer::Retag(const std::string& session, uint32_t tag, uint64_t link_epoch) {
  auto found = table_.find(session);
  if (found == table_.end()) return false;
  found->second->request.tag = tag;
  found->second->request.link_epoch = link_epoch;
  return true;
}

void Closer::OnKilled(const std::string& session, const std::string& run_id,
                      const frames::TreeReport& report) {
  auto found = table_.find(session);
  if (found == table_.end()) return;
  Closing& closing = *found->second;
  if (closing.request.runs.erase(run_id) == 0) return;
  Add(report, &closing.report);
  if (closing.request.runs.empty()) closing.timer.ArmIn(kDrainUs);
}

void Closer::OnDrained(const std::string& session, const std::string& run_id) {
  auto found = table_.find(session);
  if (found != table_.end()) found->second->undrained.erase(run_id);
}

void Closer::OnBatchEnd() {
  for (auto at = table_.begin(); at != table_.end();) {
    if (!at->second->done()) {
      ++at;
      continue;
    }
    std::unique_ptr<Closing> closing = std::move(at->second);
    at = table_.erase(at);
    const Request& request = closing->request;
    owner_.OnClosed(request.session, request.tag, request.link_epoch, closing->report);
  }
}

}  // namespace hermes::runner
