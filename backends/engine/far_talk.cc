#include "backends/engine/far_talk.h"

#include <utility>
#include <vector>

#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"
#include "sync/bundle.h"

namespace hermes {
namespace {

// See kMaxBundleIdle.
static_assert(kMaxFarSilence < sync::kMaxBundleIdle);

constexpr size_t kPieceBytes = 64 << 10;

// It was given up after that long a wait.
absl::Status Silent(Duration waited) {
  return Error(Reason::k_BACKEND_UNREACHABLE, waited < kMaxFarSilence
                                                  ? "the far side of the mount is too slow"
                                                  : "the far side of the mount has gone silent");
}

absl::Status Withdrawn() { return absl::CancelledError("nobody waits for this sync any more"); }

}  // namespace

Task<void> FarTalk::Write(std::string_view bytes) {
  while (!bytes.empty() && written_.ok()) {
    const std::string_view part = bytes.substr(0, kPieceBytes - gathered_.size());
    gathered_.append(part);
    bytes.remove_prefix(part.size());
    if (gathered_.size() == kPieceBytes) co_await Flush();
  }
}

Task<void> FarTalk::Flush() {
  if (gathered_.empty() || !written_.ok()) co_return;
  bool expired = false;
  const SteadyTime begin = clock_.Now();
  const Duration left = pace_->left();
  written_ = co_await WithDeadline(
      clock_, begin + left, stream_->Write(gathered_), [this] { stream_->Abort(); }, &expired);
  pace_->Count(clock_.Now() - begin, gathered_.size());
  if (expired) written_ = Silent(left);
  if (IsWithdrawn(wish_)) written_ = Withdrawn();
  gathered_.clear();
}

Task<absl::Status> FarTalk::Ask(sync::FarAnswer* answer, sync::RemoteTree::TakeBytes take) {
  co_await Flush();
  stream_->CloseStdin();
  absl::Status read = co_await Read(answer, std::move(take));
  if (!read.ok()) stream_->Abort();  // whoever is over there has nobody to talk to any more
  if (!read.ok() && IsWithdrawn(wish_)) co_return Withdrawn();
  if (written_.ok() || ReasonOf(read).value_or(Reason::k_BUG) != Reason::k_BACKEND_UNREACHABLE)
    co_return read;
  // A far end that ended before it had taken all may have said why, in words of its own.
  co_return written_.code() == absl::StatusCode::kUnavailable ? read : written_;
}

Task<absl::Status> FarTalk::Read(sync::FarAnswer* answer, sync::RemoteTree::TakeBytes take) {
  std::vector<char> buffer(kPieceBytes);
  while (!answer->done()) {
    if (IsWithdrawn(wish_)) co_return Withdrawn();
    bool expired = false;
    const SteadyTime begin = clock_.Now();
    const Duration left = pace_->left();
    absl::StatusOr<size_t> bytes = co_await WithDeadline(
        clock_, begin + left, stream_->ReadStdout(buffer), [this] { stream_->Abort(); }, &expired);
    if (expired) co_return Silent(left);
    if (!bytes.ok()) co_return bytes.status();
    pace_->Count(clock_.Now() - begin, *bytes);
    if (*bytes == 0) break;
    std::string_view fetched;
    CO_RETURN_IF_ERROR(answer->Feed(std::string_view(buffer.data(), *bytes), &fetched));
    if (!fetched.empty() && take) CO_RETURN_IF_ERROR(co_await take(fetched));
  }
  co_return answer->Finish();
}

}  // namespace hermes
