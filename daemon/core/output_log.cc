#include "daemon/core/output_log.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// Ends beyond this are no output of a real command; keeps sums of offsets and sizes from wrapping.
constexpr uint64_t kMaxOffset = 1ull << 62;

constexpr const char* kSuffix[kOutputStreams] = {".out", ".err"};

}  // namespace

class OutputLog::StreamLog {
 public:
  StreamLog(const Options& options, const char* suffix);

  absl::Status Restore(StreamState saved);
  absl::Status Append(uint64_t offset, std::string_view data);
  bool Skip(uint64_t to);  // true: the end moved
  absl::StatusOr<Piece> ReadAt(uint64_t offset, size_t most) const;
  uint64_t TailOffset(uint64_t tail) const;
  StreamState Save() const { return {end_, holes_, in_file_, in_file_ ? std::string() : memory_}; }
  void Close() { file_.Close(); }
  void Remove();

  uint64_t end() const { return end_; }
  uint64_t on_disk() const { return durable_; }
  uint64_t room() const { return end_ < limit_ ? limit_ - end_ : 0; }
  bool trimmed(uint64_t offset) const { return offset >= head_ && offset < kept_from(end_); }
  uint64_t dropped_bytes() const;

 private:
  enum class Kind { kBytes, kTrimmed, kLost };
  struct Span {
    Kind kind;
    uint64_t to;
  };

  // Where the kept tail begins for a log that ends at `end`; head_ when nothing is trimmed.
  uint64_t kept_from(uint64_t end) const { return end > limit_ ? end - tail_ : head_; }

  // How long the same can be said of what lies at `offset` (< end).
  Span SpanAt(uint64_t offset) const;

  uint64_t Position(uint64_t offset) const {
    return offset < head_ ? offset : head_ + (offset - head_) % ring_;
  }
  // Bytes from `offset` on that lie in a row.
  uint64_t RunAt(uint64_t offset) const { return head_ + ring_ - Position(offset); }

  // First position that no byte now kept lies at or behind.
  uint64_t HighNeeded() const;
  bool Sound(uint64_t high) const;

  absl::Status RestoreFile(OutputFile::Mark mark, const StreamState& saved);
  absl::Status Spill();
  absl::Status Store(uint64_t offset, std::string_view data);
  absl::Status Put(uint64_t position, std::string_view data);
  absl::Status Get(uint64_t position, std::span<char> into) const;
  absl::Status Commit(uint64_t end);

  const std::string path_;
  const std::string tag_;
  const uint64_t limit_;
  const uint64_t head_;
  const uint64_t tail_;
  const uint64_t ring_;
  const bool drop_middle_;

  uint64_t end_ = 0;
  uint64_t durable_ = 0;  // what the file's mark covers
  uint64_t high_ = 0;     // first position of the file that was never written
  std::vector<OutputHole> holes_;
  bool in_file_ = false;
  std::string memory_;  // while not in_file_: at most kInlineBytes, by position (= offset)
  OutputFile file_;
};

OutputLog::StreamLog::StreamLog(const Options& options, const char* suffix)
    : path_(options.path_prefix + suffix),
      tag_(options.tag.substr(0, OutputFile::kTagBytes)),
      limit_(std::clamp<uint64_t>(options.limit_bytes, 1, kMaxOffset)),
      head_(options.drop_middle ? limit_ / 2 : limit_),
      tail_(limit_ - head_),
      ring_(tail_ + kMaxAppend),
      drop_middle_(options.drop_middle) {}

OutputLog::StreamLog::Span OutputLog::StreamLog::SpanAt(uint64_t offset) const {
  const uint64_t kept = kept_from(end_);
  if (trimmed(offset)) return {Kind::kTrimmed, kept};
  uint64_t to = offset < head_ && kept > head_ ? head_ : end_;
  for (const OutputHole& hole : holes_) {
    if (offset >= hole.to) continue;
    if (offset >= hole.from) return {Kind::kLost, std::min(to, hole.to)};
    to = std::min(to, hole.from);
  }
  return {Kind::kBytes, to};
}

uint64_t OutputLog::StreamLog::HighNeeded() const {
  uint64_t high = 0;
  for (uint64_t at = 0; at < end_;) {
    const Span span = SpanAt(at);
    if (span.kind == Kind::kBytes) {
      const uint64_t run = RunAt(at);
      high = std::max(high, span.to - at > run ? head_ + ring_ : Position(span.to - 1) + 1);
    }
    at = span.to;
  }
  return high;
}

// Whether what was read from a row or a mark can be true.
bool OutputLog::StreamLog::Sound(uint64_t high) const {
  uint64_t last = 0;
  for (const OutputHole& hole : holes_) {
    if (hole.from < last || hole.to <= hole.from) return false;
    last = hole.to;
  }
  return holes_.size() <= kMaxHoles && last <= end_ && end_ <= kMaxOffset && HighNeeded() <= high;
}

absl::Status OutputLog::StreamLog::Restore(StreamState saved) {
  absl::StatusOr<OutputFile::Mark> mark = file_.Open(path_);
  if (mark.ok() && mark->tag == tag_) return RestoreFile(*std::move(mark), saved);
  file_.Close();
  if (saved.in_file) {
    return Error(Reason::k_STORE_CORRUPT,
                 path_ + " is missing or not usable: " + std::string(mark.status().message()));
  }
  end_ = saved.end;
  holes_ = std::move(saved.holes);
  memory_ = std::move(saved.inline_bytes);
  if (memory_.size() > kInlineBytes || !Sound(memory_.size())) {
    return Error(Reason::k_STORE_CORRUPT, "the saved output of " + path_ + " is damaged");
  }
  return absl::OkStatus();
}

absl::Status OutputLog::StreamLog::RestoreFile(OutputFile::Mark mark, const StreamState& saved) {
  in_file_ = true;
  end_ = durable_ = mark.end;
  high_ = mark.high;
  holes_ = std::move(mark.holes);
  if (mark.limit != limit_ || !Sound(high_)) {
    return Error(Reason::k_STORE_CORRUPT, path_ + " has an impossible header");
  }
  // The row may know of a last hole which did not get into the mark: the disk was full then.
  if (saved.end > end_ && !saved.holes.empty() && saved.holes.back().from <= end_ &&
      saved.holes.back().to == saved.end) {
    Skip(saved.end);
  }
  if (saved.end > end_) return Error(Reason::k_STORE_CORRUPT, path_ + " knows less than its row");
  return absl::OkStatus();
}

absl::Status OutputLog::StreamLog::Append(uint64_t offset, std::string_view data) {
  if (offset > end_) {
    return Error(Reason::k_OFFSET_BEYOND_END, "output bytes are missing before this offset",
                 {{"end", std::to_string(end_)}});
  }
  data.remove_prefix(std::min<uint64_t>(end_ - offset, data.size()));
  if (data.empty()) return absl::OkStatus();
  if (data.size() > kMaxAppend) return Error(Reason::k_BUG, "more output at once than kMaxAppend");
  if (!drop_middle_ && data.size() > room()) {
    return Error(Reason::k_SPOOL_FULL, "the output limit is reached",
                 {{"limit_bytes", std::to_string(limit_)}});
  }
  const bool spill = !in_file_ && end_ + data.size() > kInlineBytes;
  if (spill) RETURN_IF_ERROR(Spill());
  const uint64_t old_high = high_;
  const uint64_t new_end = end_ + data.size();
  absl::Status status = Store(end_, data);
  if (status.ok() && in_file_) status = Commit(new_end);
  if (!status.ok()) {
    high_ = old_high;
    if (spill) Remove();
    return status;
  }
  end_ = new_end;
  if (spill) std::string().swap(memory_);
  return absl::OkStatus();
}

// Leaves memory_ alone: it still counts until the first mark is written.
absl::Status OutputLog::StreamLog::Spill() {
  absl::Status status = file_.Create(path_);
  if (status.ok()) status = file_.Write(0, memory_);
  if (!status.ok()) {
    Remove();
    return status;
  }
  in_file_ = true;
  high_ = memory_.size();
  return absl::OkStatus();
}

// Puts the bytes where they belong, except those that this very call trims again.
absl::Status OutputLog::StreamLog::Store(uint64_t offset, std::string_view data) {
  const uint64_t kept = kept_from(offset + data.size());
  while (!data.empty()) {
    uint64_t run = std::min<uint64_t>(RunAt(offset), data.size());
    if (offset < head_) run = std::min(run, head_ - offset);
    if (offset >= head_ && offset < kept) {
      run = std::min<uint64_t>(kept - offset, data.size());
    } else {
      RETURN_IF_ERROR(Put(Position(offset), data.substr(0, run)));
    }
    data.remove_prefix(run);
    offset += run;
  }
  return absl::OkStatus();
}

absl::Status OutputLog::StreamLog::Put(uint64_t position, std::string_view data) {
  if (in_file_) {
    high_ = std::max(high_, position + data.size());
    return file_.Write(position, data);
  }
  if (memory_.size() < position + data.size()) memory_.resize(position + data.size());
  data.copy(memory_.data() + position, data.size());
  return absl::OkStatus();
}

absl::Status OutputLog::StreamLog::Get(uint64_t position, std::span<char> into) const {
  if (in_file_) return file_.Read(position, into);
  CHECK(position + into.size() <= memory_.size());
  memory_.copy(into.data(), into.size(), position);
  return absl::OkStatus();
}

absl::Status OutputLog::StreamLog::Commit(uint64_t end) {
  RETURN_IF_ERROR(file_.WriteMark({tag_, limit_, end, high_, holes_}));
  durable_ = end;
  return absl::OkStatus();
}

bool OutputLog::StreamLog::Skip(uint64_t to) {
  if (to <= end_ || to > kMaxOffset) return false;
  std::erase_if(holes_, [this](const OutputHole& hole) {
    return hole.from >= head_ && hole.to <= kept_from(end_);
  });
  if (!holes_.empty() && (holes_.back().to == end_ || holes_.size() == kMaxHoles)) {
    holes_.back().to = to;
  } else {
    holes_.push_back({end_, to});
  }
  end_ = to;
  if (in_file_) Commit(end_).IgnoreError();  // the next Append says it again
  return true;
}

absl::StatusOr<OutputLog::Piece> OutputLog::StreamLog::ReadAt(uint64_t offset, size_t most) const {
  CHECK(most > 0);
  if (offset > end_) {
    return Error(Reason::k_OFFSET_BEYOND_END, "the offset lies behind the end of the output",
                 {{"end", std::to_string(end_)}});
  }
  Piece piece;
  piece.offset = offset;
  if (offset == end_) return piece;
  const Span span = SpanAt(offset);
  if (span.kind != Kind::kBytes) {
    piece.gap_to = span.to;
    piece.gap_reason = span.kind == Kind::kLost ? "lost" : "trimmed";
    return piece;
  }
  piece.data.resize(std::min<uint64_t>({most, kMaxPiece, span.to - offset}));
  std::span<char> into(piece.data);
  while (!into.empty()) {
    const uint64_t run = std::min<uint64_t>(RunAt(offset), into.size());
    RETURN_IF_ERROR(Get(Position(offset), into.first(run)));
    into = into.subspan(run);
    offset += run;
  }
  return piece;
}

uint64_t OutputLog::StreamLog::dropped_bytes() const {
  uint64_t dropped = 0;
  for (uint64_t at = 0; at < end_;) {
    const Span span = SpanAt(at);
    if (span.kind != Kind::kBytes) dropped += span.to - at;
    at = span.to;
  }
  return dropped;
}

uint64_t OutputLog::StreamLog::TailOffset(uint64_t tail) const {
  std::vector<OutputHole> kept;  // here: ranges that have bytes
  for (uint64_t at = 0; at < end_;) {
    const Span span = SpanAt(at);
    if (span.kind == Kind::kBytes) kept.push_back({at, span.to});
    at = span.to;
  }
  if (tail == 0) return end_;
  for (auto range = kept.rbegin(); range != kept.rend(); ++range) {
    if (range->to - range->from >= tail) return range->to - tail;
    tail -= range->to - range->from;
  }
  return 0;
}

void OutputLog::StreamLog::Remove() {
  file_.Close();
  unlink(path_.c_str());
  in_file_ = false;
  durable_ = high_ = 0;
}

OutputLog::OutputLog(Loop& loop, Options options) : changed_(loop) {
  for (size_t i = 0; i < kOutputStreams; ++i) {
    streams_[i] = std::make_unique<StreamLog>(options, kSuffix[i]);
  }
}

OutputLog::~OutputLog() = default;

absl::StatusOr<std::unique_ptr<OutputLog>> OutputLog::Restore(Loop& loop, Options options,
                                                              Saved saved) {
  auto log = std::make_unique<OutputLog>(loop, std::move(options));
  for (size_t i = 0; i < kOutputStreams; ++i) {
    RETURN_IF_ERROR(log->streams_[i]->Restore(std::move(saved.stream[i])));
  }
  return log;
}

absl::Status OutputLog::Append(OutputStream stream, uint64_t offset, std::string_view data) {
  if (finished_) return Error(Reason::k_BUG, "output after the end of the output");
  const uint64_t before = end(stream);
  RETURN_IF_ERROR(at(stream).Append(offset, data));
  if (end(stream) != before) changed_.NotifyAll();
  return absl::OkStatus();
}

void OutputLog::Skip(OutputStream stream, uint64_t to) {
  if (!finished_ && at(stream).Skip(to)) changed_.NotifyAll();
}

uint64_t OutputLog::end(OutputStream stream) const { return at(stream).end(); }
uint64_t OutputLog::on_disk(OutputStream stream) const { return at(stream).on_disk(); }
uint64_t OutputLog::room(OutputStream stream) const { return at(stream).room(); }

absl::StatusOr<OutputLog::Piece> OutputLog::ReadAt(OutputStream stream, uint64_t offset,
                                                   size_t most) const {
  return at(stream).ReadAt(offset, most);
}

bool OutputLog::trimmed(OutputStream stream, uint64_t offset) const {
  return at(stream).trimmed(offset);
}

uint64_t OutputLog::TailOffset(OutputStream stream, uint64_t tail) const {
  return at(stream).TailOffset(tail);
}

void OutputLog::Finish() {
  if (finished_) return;
  finished_ = true;
  for (auto& stream : streams_) stream->Close();
  changed_.NotifyAll();
}

OutputLog::Saved OutputLog::Save() const {
  Saved saved;
  for (size_t i = 0; i < kOutputStreams; ++i) saved.stream[i] = streams_[i]->Save();
  return saved;
}

void OutputLog::Remove() {
  for (auto& stream : streams_) stream->Remove();
}

void OutputLog::RemoveFiles(const std::string& path_prefix) {
  for (const char* suffix : kSuffix) unlink((path_prefix + suffix).c_str());
}

uint64_t OutputLog::dropped_bytes() const {
  uint64_t dropped = 0;
  for (const auto& stream : streams_) dropped += stream->dropped_bytes();
  return dropped;
}

}  // namespace hermes
