#include "sync/base.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"
#include "sync/crc32c.h"
#include "sync/record_bytes.h"

namespace hermes::sync {
namespace {

constexpr std::string_view kMagic = "hermes sync base 2";
constexpr size_t kFrameBytes = 12;               // length, its checksum, the payload's checksum
constexpr uint64_t kMinCompactBytes = 64 << 10;  // smaller files are never rewritten
constexpr uint64_t kCompactRatio = 3;  // rewritten at so many times the last rewrite's size

// Of a record.
constexpr uint8_t kAgreed = 0;
constexpr uint8_t kSent = 1;

std::string Framed(std::string_view payload) {
  ByteWriter length;
  length.U32(static_cast<uint32_t>(payload.size()));
  ByteWriter frame;
  frame.Raw(length.bytes());
  frame.U32(Crc32c(length.bytes()));
  frame.U32(Crc32c(payload));
  frame.Raw(payload);
  return std::move(frame).Take();
}

std::string PayloadOf(uint8_t kind, const std::vector<BaseChange>& changes) {
  ByteWriter payload;
  payload.U8(kind);
  payload.U32(static_cast<uint32_t>(changes.size()));
  for (const BaseChange& change : changes) {
    payload.Text(change.path.str());
    payload.U8(change.content.has_value() ? (change.content->executable ? 2 : 1) : 0);
    if (!change.content.has_value()) continue;
    payload.Raw({reinterpret_cast<const char*>(change.content->digest.bytes.data()),
                 change.content->digest.bytes.size()});
    payload.U64(change.content->size);
    const StatKey& key = change.host_key;
    for (const uint64_t field : {key.dev, key.ino, key.size, static_cast<uint64_t>(key.mtime_ns),
                                 static_cast<uint64_t>(key.ctime_ns)})
      payload.U64(field);
  }
  return std::move(payload).Take();
}

std::optional<BaseChange> ReadChange(ByteReader* payload) {
  const absl::StatusOr<RelPath> path = RelPath::Parse(payload->Text());
  const uint8_t kind = payload->U8();
  if (!path.ok() || kind > 2) return std::nullopt;
  BaseChange change{*path, std::nullopt};
  if (kind == 0) return change;
  Content content{.executable = kind == 2};
  const std::string_view digest = payload->Raw(content.digest.bytes.size());
  std::copy(digest.begin(), digest.end(), content.digest.bytes.begin());
  content.size = payload->U64();
  change.content = content;
  StatKey& key = change.host_key;
  key.dev = payload->U64();
  key.ino = payload->U64();
  key.size = payload->U64();
  key.mtime_ns = static_cast<int64_t>(payload->U64());
  key.ctime_ns = static_cast<int64_t>(payload->U64());
  return change;
}

absl::Status Failed(int error, std::string_view what) {
  if (error == ENOSPC || error == EDQUOT)
    return Error(Reason::k_DISK_FULL, "no space to remember what was synced");
  return ErrnoStatus(error, what);
}

// nullopt: it cannot be read whole.
std::optional<std::string> ReadAll(int file) {
  struct stat seen;
  if (fstat(file, &seen) != 0 || static_cast<uint64_t>(seen.st_size) > kMaxBaseBytes)
    return std::nullopt;
  std::string bytes(static_cast<size_t>(seen.st_size), '\0');
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t got = pread(file, &bytes[at], bytes.size() - at, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return std::nullopt;
    at += static_cast<size_t>(got);
  }
  return bytes;
}

// A file of ours, locked; not valid with errno otherwise (EWOULDBLOCK: held by somebody else).
Fd OpenLocked(const std::string& path, int flags) {
  Fd file(open(path.c_str(), flags | O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  struct stat seen;
  if (!file.valid()) return file;
  if (fstat(file.get(), &seen) != 0 || !S_ISREG(seen.st_mode) || seen.st_uid != geteuid()) {
    errno = EPERM;
    return Fd();
  }
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) file.reset();
  struct stat named;
  // Its holder may have put another file in its place before the lock was ours.
  if (file.valid() && (lstat(path.c_str(), &named) != 0 || named.st_ino != seen.st_ino)) {
    errno = EWOULDBLOCK;
    file.reset();
  }
  return file;
}

}  // namespace

absl::StatusOr<Base> Base::Open(Fs& fs, const std::string& directory, std::string_view key) {
  if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return Failed(errno, directory);
  Base base;
  base.fs_ = &fs;
  base.directory_ = directory;
  base.name_ = directory + "/" + Hex(DigestOf(key)).substr(0, 32) + ".base";
  base.key_ = key;
  base.file_ = OpenLocked(base.name_, O_CREAT);
  if (!base.file_.valid()) {
    if (errno == EWOULDBLOCK)
      return Error(Reason::k_SYNC_HELD, "another session has the base of these two roots open");
    return Failed(errno, base.name_);
  }
  base.Load();
  return base;
}

void Base::Load() {
  const std::optional<std::string> bytes = ReadAll(file_.get());
  torn_ = true;  // perhaps
  if (bytes.has_value() && Replay(*bytes)) return;
  epoch_.clear();
  files_.clear();
  host_keys_.clear();
  sent_.clear();
}

// False: no base. size_ is then of no use, as Begin writes a new file.
bool Base::Replay(std::string_view bytes) {
  size_ = 0;
  for (bool first = true; bytes.size() >= kFrameBytes; first = false) {
    ByteReader frame(bytes);
    const uint64_t length = frame.U32();
    // The length has a checksum of its own: a damaged one must not look like a cut.
    if (frame.U32() != Crc32c(bytes.substr(0, sizeof(uint32_t)))) return false;
    const uint32_t checksum = frame.U32();
    if (bytes.size() - kFrameBytes < length) break;
    const std::string_view payload = bytes.substr(kFrameBytes, length);
    if (checksum != Crc32c(payload) || !ReplayOne(payload, first)) return false;
    bytes.remove_prefix(kFrameBytes + length);
    size_ += kFrameBytes + length;
    if (first) compact_at_ = std::max(kMinCompactBytes, kCompactRatio * size_);
  }
  return !epoch_.empty();
}

// The first record is a snapshot and says what this file is; the others follow in time.
bool Base::ReplayOne(std::string_view payload, bool first) {
  ByteReader reader(payload);
  if (first) {
    if (reader.Text() != kMagic || reader.Text() != key_) return false;
    epoch_ = reader.Text();
  }
  const uint8_t kind = reader.U8();
  if (kind != kAgreed && (kind != kSent || first)) return false;
  std::vector<BaseChange> changes;
  for (uint32_t left = reader.U32(); left > 0 && reader.ok(); --left) {
    std::optional<BaseChange> change = ReadChange(&reader);
    if (!change.has_value()) return false;
    changes.push_back(*std::move(change));
  }
  if (!reader.ok() || !reader.done()) return false;
  Apply(kind, changes);
  return true;
}

void Base::Apply(uint8_t kind, const std::vector<BaseChange>& changes) {
  if (kind == kSent) sent_.clear();
  for (const BaseChange& change : changes) {
    if (kind == kSent) {
      sent_.emplace(change.path, change.content);
      continue;
    }
    sent_.erase(change.path);
    files_.erase(change.path);
    host_keys_.erase(change.path);
    if (!change.content.has_value()) continue;
    files_.emplace(change.path, *change.content);
    if (change.host_key.ino != 0) host_keys_.emplace(change.path, change.host_key);
  }
}

std::map<std::string, KnownFile> Base::Known() const {
  std::map<std::string, KnownFile> known;
  for (const auto& [path, key] : host_keys_) known[path.str()] = {files_.at(path), key};
  return known;
}

std::string Base::Records() const {
  std::vector<BaseChange> changes;
  for (const auto& [path, content] : files_) {
    const auto key = host_keys_.find(path);
    changes.push_back({path, content, key == host_keys_.end() ? StatKey{} : key->second});
  }
  ByteWriter payload;
  payload.Text(kMagic);
  payload.Text(key_);
  payload.Text(epoch_);
  payload.Raw(PayloadOf(kAgreed, changes));
  std::string records = Framed(payload.bytes());
  changes.clear();
  for (const auto& [path, content] : sent_) changes.push_back({path, content});
  if (!changes.empty()) records += Framed(PayloadOf(kSent, changes));
  return records;
}

// A new file in the place of the old one: whoever looks finds the one or the other, whole.
absl::Status Base::Rewrite(const std::string& records, bool durable) {
  const std::string fresh = name_ + ".new";
  unlink(fresh.c_str());  // of a life that was cut short; the lock on name_ keeps others away
  Fd file = OpenLocked(fresh, O_CREAT | O_EXCL);
  const Fd directory(open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const auto at = [&directory](const std::string& path) {
    return Fs::At{directory.get(), path.substr(path.rfind('/') + 1)};
  };
  int rc = file.valid() && directory.valid() ? fs_->Write(file.get(), 0, records) : -errno;
  if (rc == 0 && durable) rc = fs_->Sync(file.get());
  if (rc == 0) rc = fs_->Rename(at(fresh), at(name_), Fs::Move::kReplace);
  if (rc != 0) {
    unlink(fresh.c_str());
    return Failed(-rc, fresh);
  }
  file_ = std::move(file);
  size_ = records.size();
  torn_ = false;
  compact_at_ = std::max(kMinCompactBytes, kCompactRatio * size_);
  if (durable) rc = fs_->Sync(directory.get());
  if (rc != 0) return Failed(-rc, directory_);
  return absl::OkStatus();
}

// Only if most of the file is stale.
void Base::Compact() {
  if (size_ <= compact_at_) return;
  const std::string records = Records();
  compact_at_ = std::max(kMinCompactBytes, kCompactRatio * uint64_t{records.size()});
  // What the file has is safe: a rewrite that fails is tried again by a later one.
  if (size_ > compact_at_ && !Rewrite(records, true).ok()) compact_at_ = kCompactRatio * size_;
}

absl::Status Base::Begin(std::string_view epoch) {
  CHECK(!epoch.empty());
  Base before = std::move(*this);
  fs_ = before.fs_;
  directory_ = before.directory_;
  name_ = before.name_;
  key_ = before.key_;
  epoch_ = epoch;
  absl::Status status = Rewrite(Records(), false);
  if (!status.ok()) *this = std::move(before);
  return status;
}

absl::Status Base::Commit(const std::vector<BaseChange>& changes) {
  if (changes.empty()) return absl::OkStatus();
  return Record(kAgreed, changes);
}

absl::Status Base::Announce(const std::vector<BaseChange>& changes) {
  if (changes.empty() && sent_.empty()) return absl::OkStatus();
  return Record(kSent, changes);
}

absl::Status Base::Record(uint8_t kind, const std::vector<BaseChange>& changes) {
  CHECK(!epoch_.empty());
  RETURN_IF_ERROR(Append(Framed(PayloadOf(kind, changes))));
  Apply(kind, changes);
  Compact();
  return absl::OkStatus();
}

absl::Status Base::Append(const std::string& record) {
  // A record that was cut short would be damage if more followed it.
  if (torn_ && ftruncate(file_.get(), static_cast<off_t>(size_)) != 0) return Failed(errno, name_);
  torn_ = true;
  if (const int rc = fs_->Write(file_.get(), size_, record); rc != 0) return Failed(-rc, name_);
  torn_ = false;
  size_ += record.size();
  return absl::OkStatus();
}

}  // namespace hermes::sync
