#include "sync/journal.h"

#include <cerrno>
#include <numeric>
#include <optional>
#include <utility>

#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"
#include "sync/record_bytes.h"

namespace hermes::sync {
namespace {

// A record: type, size of the payload (4 bytes each), payload, digest of all before it. Zeros where
// a record would start are room that was reserved and not used yet.
constexpr uint32_t kPlan = 1;
constexpr uint32_t kRevert = 2;
constexpr uint32_t kCommit = 3;
constexpr uint64_t kHeadBytes = 8;
constexpr uint64_t kDigestBytes = 32;

void PutContent(ByteWriter* out, const MaybeContent& content) {
  out->U8(!content ? 0 : content->executable ? 2 : 1);
  if (!content) return;
  out->U64(content->size);
  out->Raw({reinterpret_cast<const char*>(content->digest.bytes.data()), kDigestBytes});
}

MaybeContent GetContent(ByteReader* in) {
  uint8_t kind = in->U8();
  if (kind == 0) return std::nullopt;
  if (kind > 2) in->Fail();
  Content content;
  content.executable = kind == 2;
  content.size = in->U64();
  std::string_view digest = in->Raw(kDigestBytes);
  std::copy(digest.begin(), digest.end(), content.digest.bytes.begin());
  return content;
}

std::string EncodePlan(const LandPlan& plan) {
  ByteWriter out;
  out.U64(static_cast<uint64_t>(plan.time_s));
  out.U32(static_cast<uint32_t>(plan.changes.size()));
  for (const Change& change : plan.changes) {
    out.Text(change.path.str());
    out.Text(change.slot);
    PutContent(&out, change.from);
    PutContent(&out, change.to);
  }
  out.U32(static_cast<uint32_t>(plan.dirs.size()));
  for (const DirRecord& dir : plan.dirs) {
    out.Text(dir.path);
    out.U8(dir.existed ? 1 : 0);
    out.U32(dir.mode);
  }
  return std::move(out).Take();
}

std::optional<LandPlan> DecodePlan(std::string_view bytes) {
  ByteReader in(bytes);
  LandPlan plan;
  plan.time_s = static_cast<int64_t>(in.U64());
  for (uint32_t left = in.U32(); left > 0 && in.ok(); --left) {
    auto path = RelPath::Parse(in.Text());
    if (!path.ok()) return std::nullopt;
    std::string slot(in.Text());
    if (slot.empty() || slot.find('/') != std::string::npos) return std::nullopt;
    MaybeContent from = GetContent(&in);
    plan.changes.push_back({*std::move(path), from, GetContent(&in), std::move(slot)});
  }
  for (uint32_t left = in.U32(); left > 0 && in.ok(); --left) {
    std::string path(in.Text());
    bool existed = in.U8() != 0;
    plan.dirs.push_back({std::move(path), existed, in.U32()});
  }
  if (!in.ok() || !in.done()) return std::nullopt;
  return plan;
}

std::string EncodeRulings(const std::vector<Ruling>& rulings) {
  ByteWriter out;
  for (const Ruling& ruling : rulings) {
    out.U8(static_cast<uint8_t>(ruling.outcome));
    out.U8(ruling.kept ? 1 : 0);
  }
  return std::move(out).Take();
}

// What a commit of so many changes takes.
uint64_t CommitBytes(size_t changes) { return kHeadBytes + 2 * changes + kDigestBytes; }

// A link, a directory or something special, where a file is opened.
bool IsNoFile(int rc) { return rc == -ELOOP || rc == -EISDIR || rc == -ENXIO; }

absl::Status Unreadable() { return absl::DataLossError("a journal of a landing can't be read"); }

}  // namespace

bool IsFull(int rc) { return rc == -ENOSPC || rc == -EDQUOT; }

absl::Status FsError(int rc, std::string_view what) {
  return Error(IsFull(rc) ? Reason::k_DISK_FULL : Reason::k_SYNC_FAILED,
               std::string(ErrnoStatus(-rc, what).message()));
}

absl::StatusOr<Journal> Journal::Create(Fs& fs, int dir, LandPlan plan) {
  Fs::At at{dir, std::string(kJournalName)};
  Handle file(fs, fs.OpenFile(at, Fs::Access::kCreate));
  if (!file.valid()) return FsError(file.get(), "create the journal of a landing");
  Journal journal(fs, std::move(file));
  absl::Status written = journal.Append(kPlan, EncodePlan(plan), CommitBytes(plan.changes.size()));
  if (!written.ok()) {
    fs.Unlink(at);
    return written;
  }
  std::vector<uint32_t> all(plan.changes.size());
  std::iota(all.begin(), all.end(), 0);
  journal.landed_.resize(all.size());
  journal.kept_.resize(all.size());
  journal.plan_ = std::move(plan);
  journal.BeginTurn(false, std::move(all));
  return journal;
}

absl::StatusOr<Journal> Journal::Open(Fs& fs, int dir) {
  Handle file(fs, fs.OpenFile({dir, std::string(kJournalName)}, Fs::Access::kUpdate));
  if (file.get() == -ENOENT) return absl::NotFoundError("no landing began");
  if (IsNoFile(file.get())) return Unreadable();
  if (!file.valid()) return FsError(file.get(), "open a journal of a landing");
  Journal journal(fs, std::move(file));
  RETURN_IF_ERROR(journal.Load());
  return journal;
}

absl::Status Journal::BeginRevert(std::vector<uint32_t> indexes) {
  CHECK(!open_);
  ByteWriter out;
  for (uint32_t index : indexes) out.U32(index);
  RETURN_IF_ERROR(Append(kRevert, std::move(out).Take(), CommitBytes(indexes.size())));
  if (int rc = fs_->Sync(file_.get()); rc < 0) return FsError(rc, "sync the journal");
  BeginTurn(true, std::move(indexes));
  return absl::OkStatus();
}

absl::Status Journal::Commit(const std::vector<Ruling>& rulings) {
  CHECK(open_ && rulings.size() == turn_.size());
  RETURN_IF_ERROR(Append(kCommit, EncodeRulings(rulings), 0));
  if (int rc = fs_->Sync(file_.get()); rc < 0) return FsError(rc, "sync the journal");
  EndTurn(rulings);
  return absl::OkStatus();
}

// The reserve is written as zeros, so that a commit on a full disk overwrites and needs no room.
absl::Status Journal::Append(uint32_t type, std::string_view payload, uint64_t reserve) {
  if (payload.size() > kMaxRecordBytes) {
    return Error(Reason::k_SYNC_FAILED, "a landing of that many names does not fit a journal");
  }
  ByteWriter out;
  out.U32(type);
  out.U32(static_cast<uint32_t>(payload.size()));
  out.Raw(payload);
  Digest digest = DigestOf(out.bytes());
  out.Raw({reinterpret_cast<const char*>(digest.bytes.data()), kDigestBytes});
  uint64_t size = out.bytes().size();
  std::string bytes = std::move(out).Take();
  bytes.append(reserve, '\0');
  if (int rc = fs_->Write(file_.get(), end_, bytes); rc < 0) {
    return FsError(rc, "write the journal");
  }
  end_ += size;
  return absl::OkStatus();
}

absl::Status Journal::Load() {
  FileStat stat;
  if (int rc = fs_->Stat(file_.get(), &stat); rc < 0) return FsError(rc, "look at a journal");
  if (stat.type != FileStat::Type::kFile) return Unreadable();
  bool begun = false;
  for (;;) {
    std::string head(kHeadBytes, '\0');
    int64_t got = fs_->Read(file_.get(), end_, head.data(), head.size());
    if (got < 0) return FsError(static_cast<int>(got), "read a journal");
    ByteReader in(head);
    uint32_t type = in.U32();
    uint64_t size = in.U32();
    if (got < static_cast<int64_t>(kHeadBytes) || type == 0) {
      return begun ? absl::OkStatus() : absl::NotFoundError("no landing began");
    }
    if (size > kMaxRecordBytes || end_ + kHeadBytes + size + kDigestBytes > stat.size) break;
    std::string record(kHeadBytes + size + kDigestBytes, '\0');
    got = fs_->Read(file_.get(), end_, record.data(), record.size());
    if (got < 0) return FsError(static_cast<int>(got), "read a journal");
    if (got != static_cast<int64_t>(record.size())) break;
    std::string_view view(record);
    std::string_view signed_part = view.substr(0, kHeadBytes + size);
    Digest digest = DigestOf(signed_part);
    if (view.substr(signed_part.size()) !=
        std::string_view(reinterpret_cast<const char*>(digest.bytes.data()), kDigestBytes)) {
      break;
    }
    if (!Apply(type, signed_part.substr(kHeadBytes))) return Unreadable();
    begun = true;
    end_ += record.size();
  }
  return begun ? absl::OkStatus() : Unreadable();
}

bool Journal::Apply(uint32_t type, std::string_view payload) {
  ByteReader in(payload);
  if (type == kPlan) {
    auto plan = DecodePlan(payload);
    if (!plan || end_ != 0) return false;
    plan_ = *std::move(plan);
    landed_.resize(plan_.changes.size());
    kept_.resize(plan_.changes.size());
    std::vector<uint32_t> all(plan_.changes.size());
    std::iota(all.begin(), all.end(), 0);
    BeginTurn(false, std::move(all));
    return true;
  }
  if (type == kRevert && !open_) {
    std::vector<uint32_t> indexes;
    while (in.ok() && !in.done()) indexes.push_back(in.U32());
    for (uint32_t index : indexes) {
      if (index >= plan_.changes.size()) return false;
    }
    BeginTurn(true, std::move(indexes));
    return in.ok();
  }
  if (type != kCommit || !open_ || payload.size() != 2 * turn_.size()) return false;
  std::vector<Ruling> rulings;
  while (!in.done()) {
    auto outcome = static_cast<Outcome>(in.U8());
    rulings.push_back({outcome, in.U8() != 0});
  }
  EndTurn(rulings);
  return true;
}

void Journal::BeginTurn(bool backwards, std::vector<uint32_t> indexes) {
  open_ = true;
  backwards_ = backwards;
  turn_ = std::move(indexes);
}

void Journal::EndTurn(const std::vector<Ruling>& rulings) {
  for (size_t i = 0; i < turn_.size(); ++i) {
    if (rulings[i].outcome == Outcome::kDone) landed_[turn_[i]] = !backwards_;
    if (rulings[i].kept) kept_[turn_[i]] = true;
  }
  open_ = false;
}

}  // namespace hermes::sync
