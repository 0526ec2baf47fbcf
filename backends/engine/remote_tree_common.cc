#include "backends/engine/remote_tree_common.h"

#include <algorithm>
#include <string>

#include "daemon/runtime/status.h"
#include "sync/ignore.h"

namespace hermes {
namespace {

constexpr size_t kPadBytes = 16 << 10;
constexpr uint64_t kHeaderBytes = 1 << 10;  // around a file in an archive, about

Task<absl::Status> Forward(Fetching* fetching, std::string_view bytes) {
  const std::string joined = fetching->join.Feed(bytes);
  if (joined.empty()) co_return absl::OkStatus();
  co_return co_await fetching->take(joined);
}

}  // namespace

Task<SentFile> SendFile(FarTalk* talk, sync::BlobSource* source, size_t index, uint64_t size) {
  SentFile sent;
  sync::Hasher hasher;
  uint64_t left = size;
  bool extra = false;
  for (;;) {
    const sync::BlobSource::Blob blob = co_await source->Read(index);
    sent.whole = !blob.failed;
    if (blob.bytes.empty()) break;
    const std::string_view part = std::string_view(blob.bytes).substr(0, left);
    extra = extra || part.size() < blob.bytes.size();
    left -= part.size();
    hasher.Update(part);
    co_await talk->Write(part);
    if (talk->broken()) co_return SentFile{};
  }
  sent.whole = sent.whole && left == 0 && !extra;
  sent.digest = hasher.Finish();
  const std::string pad(std::min<uint64_t>(left, kPadBytes), '\0');
  while (left > 0 && !talk->broken()) {
    const std::string_view part = std::string_view(pad).substr(0, left);
    left -= part.size();
    co_await talk->Write(part);
  }
  co_return sent;
}

Task<absl::Status> FetchPart(FarTalk* talk, sync::FarAnswer* answer, Fetching* fetching) {
  talk->SharePace(&fetching->pace);
  CO_RETURN_IF_ERROR(co_await talk->Ask(
      answer, [fetching](std::string_view bytes) { return Forward(fetching, bytes); }));
  if (fetching->join.EndStream()) co_return absl::OkStatus();
  co_return Error(Reason::k_BACKEND_UNREACHABLE, "the far side's archive was cut short");
}

void FillTimes(Clock& clock, sync::RemoteApply* apply) {
  const int64_t now_ns = clock.NowWall().time_since_epoch().count();
  for (sync::RemoteChange& change : apply->changes)
    if (change.mtime_ns <= 0) change.mtime_ns = now_ns;
}

Lane LaneFor(const sync::RemoteApply& apply) {
  uint64_t bytes = 0;
  for (const sync::RemoteChange& change : apply.changes) {
    if (change.wanted) bytes += change.wanted->size;
  }
  return bytes > kMaxCommandLaneBytes ? Lane::kBulk : Lane::kCommand;
}

Lane LaneFor(const sync::RemoteTree::Wanted& wanted) {
  const size_t files = wanted.names.size();
  // What the far side tells may be any number.
  const uint64_t bytes = std::min(wanted.bytes, kMaxCommandLaneBytes + 1) + files * kHeaderBytes;
  const bool much = wanted.bytes == 0 ? files > kMaxCommandLaneFiles : bytes > kMaxCommandLaneBytes;
  return much ? Lane::kBulk : Lane::kCommand;
}

void DropIgnored(const sync::RemoteRoot& root, sync::RemoteLook* look) {
  const sync::IgnoreList ignore(root.ignore);
  std::erase_if(look->manifest.oddities,
                [&ignore](const auto& odd) { return ignore.Ignores(odd.first); });
}

}  // namespace hermes
