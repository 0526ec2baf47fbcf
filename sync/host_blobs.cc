#include "sync/host_blobs.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "sync/beneath.h"
#include "sync/stat_key.h"

namespace hermes::sync {
namespace {

constexpr size_t kPieceBytes = 256 << 10;

struct Version {
  Content content = {};
  int64_t mtime_ns = 0;
  std::string bytes = {};    // of a held one
  uint64_t copied_from = 0;  // of a copied one: where it begins in the copy
};

// A file without a name beside the originals, so that nothing is left of it whatever happens.
Fd MakeCopy(int root) {
  Fd copy(openat(root, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  return copy.valid() ? std::move(copy) : Fd(memfd_create("hermesd-push", MFD_CLOEXEC));
}

// Everything that a file holds from its start to its end, each byte once: into memory or, where
// there is one, behind what `copy` holds.
std::optional<Version> ReadAll(const Fd& file, uint64_t max_bytes, const Fd* copy) {
  struct stat seen;
  if (fstat(file.get(), &seen) != 0) return std::nullopt;
  Version version{.mtime_ns = KeyOf(seen).mtime_ns};
  if (copy != nullptr) version.copied_from = static_cast<uint64_t>(lseek(copy->get(), 0, SEEK_END));
  Hasher hasher;
  std::string piece(std::min<uint64_t>(kPieceBytes, static_cast<uint64_t>(seen.st_size) + 1), '\0');
  for (;;) {
    const ssize_t got = read(file.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) break;
    const std::string_view bytes(piece.data(), static_cast<size_t>(got));
    version.content.size += bytes.size();
    if (version.content.size > max_bytes) return std::nullopt;
    hasher.Update(bytes);
    if (copy == nullptr) {
      version.bytes.append(bytes);
    } else if (write(copy->get(), bytes.data(), bytes.size()) != got) {
      return std::nullopt;
    }
  }
  version.content.digest = hasher.Finish();
  version.content.executable = (seen.st_mode & S_IXUSR) != 0;
  return version;
}

bool IsGone(const Fd& file) { return !file.valid() && (errno == ENOENT || errno == ENOTDIR); }

// It is left out, and the next look at the tree knows no more of it.
void TellGone(const MountSide* side, SyncMeter* meter, const RemoteChange& change) {
  SyncEntry entry{.mount = side->mount.id, .path = change.path.str()};
  entry.effect = change.expected ? Effect::kReplace : Effect::kCreate;
  entry.fate = Fate::kChanged;
  entry.why = Why::kGone;
  entry.remote = change.expected;
  entry.note = "it was gone on the host when it was to be sent";
  meter->Entry(entry);
}

// The bytes of files that were read before; of a deletion nothing is asked.
class ReadBlobs : public BlobSource {
 public:
  ReadBlobs(Workers& workers, SyncMeter* meter, std::vector<Version> versions, Fd copy)
      : workers_(workers), meter_(meter), versions_(std::move(versions)), copy_(std::move(copy)) {}

  Task<Blob> Read(size_t index) override {
    Version& version = versions_[index];
    Blob blob{std::exchange(version.bytes, {})};
    if (copy_.valid()) blob.bytes = co_await Piece(version);
    meter_->Done(0, blob.bytes.size());
    co_return blob;
  }

 private:
  Task<std::string> Piece(const Version& version) {
    const uint64_t at = version.copied_from + at_;
    const uint64_t size = std::min<uint64_t>(kPieceBytes, version.content.size - at_);
    std::string bytes = co_await workers_.Run([this, at, size] {
      std::string piece(size, '\0');
      const ssize_t got = pread(copy_.get(), piece.data(), piece.size(), static_cast<off_t>(at));
      piece.resize(got > 0 ? static_cast<size_t>(got) : 0);
      return piece;
    });
    at_ = bytes.empty() ? 0 : at_ + bytes.size();
    co_return bytes;
  }

  Workers& workers_;
  SyncMeter* const meter_;
  std::vector<Version> versions_;
  const Fd copy_;    // of all of them; not valid: they are in memory
  uint64_t at_ = 0;  // in the version that is being read
};

// The bytes of files as they are when they go out.
class FileBlobs : public BlobSource {
 public:
  FileBlobs(Workers& workers, const MountSide* side, SyncMeter* meter,
            std::vector<RemoteChange> changes)
      : workers_(workers), side_(side), meter_(meter), changes_(std::move(changes)) {}

  Task<Blob> Read(size_t index) override {
    bool gone = false;
    Blob blob = co_await workers_.Run([this, index, &gone] { return ReadHere(index, &gone); });
    if (gone) TellGone(side_, meter_, changes_[index]);
    meter_->Done(0, blob.bytes.size());
    co_return blob;
  }

 private:
  Blob ReadHere(size_t index, bool* gone) {
    const RemoteChange& change = changes_[index];
    if (!file_.valid()) {
      file_ = OpenVersionBeneath(side_->pair->root.fd(), change.path.str(), side_->mount.links);
      left_ = change.wanted->size;
    }
    *gone = IsGone(file_);
    Blob blob;
    if (!file_.valid()) return {.failed = true};
    blob.bytes.resize(std::min<uint64_t>(kPieceBytes, left_));
    const ssize_t got = read(file_.get(), blob.bytes.data(), blob.bytes.size());
    blob.bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    left_ -= blob.bytes.size();
    if (blob.bytes.empty()) file_ = Fd();
    return blob;
  }

  Workers& workers_;
  const MountSide* const side_;
  SyncMeter* const meter_;
  const std::vector<RemoteChange> changes_;
  Fd file_;
  uint64_t left_ = 0;
};

struct Versions {
  std::vector<RemoteChange> changes;
  std::vector<RemoteChange> left_out;
  std::vector<RemoteChange> gone;
  std::vector<Version> versions;
  Fd copy = {};
  bool moved = false;
};

// What cannot be read is left to the next look at the tree.
Versions ReadVersions(const MountSide* side, std::vector<RemoteChange> changes, bool copies) {
  Versions read;
  if (copies) read.copy = MakeCopy(side->pair->root.fd());
  const uint64_t most =
      copies ? side->mount.max_file_bytes : std::min(side->mount.max_file_bytes, kMaxHeldBytes);
  for (RemoteChange& change : changes) {
    Version version;
    if (change.wanted) {
      const Fd file =
          OpenVersionBeneath(side->pair->root.fd(), change.path.str(), side->mount.links);
      const bool gone = IsGone(file);
      std::optional<Version> found;
      if (file.valid()) found = ReadAll(file, most, copies ? &read.copy : nullptr);
      if (!found || found->content != *change.wanted) read.moved = true;
      if (!found) {
        (gone ? read.gone : read.left_out).push_back(std::move(change));
        continue;
      }
      version = *std::move(found);
      change.wanted = version.content;
      change.mtime_ns = version.mtime_ns;
    }
    read.changes.push_back(std::move(change));
    read.versions.push_back(std::move(version));
  }
  return read;
}

}  // namespace

Task<PushBatch> MakeBatch(Workers& workers, const MountSide* side, SyncMeter* meter,
                          std::vector<RemoteChange> changes, bool still) {
  PushBatch batch;
  for (const RemoteChange& change : changes) {
    if (change.wanted) batch.bytes += change.wanted->size;
  }
  batch.held = batch.bytes <= kMaxHeldBytes;
  if (!batch.held && !still) {
    batch.changes = changes;
    batch.source = std::make_unique<FileBlobs>(workers, side, meter, std::move(changes));
    co_return batch;
  }
  Versions read = co_await workers.Run([side, &changes, copies = !batch.held] {
    return ReadVersions(side, std::move(changes), copies);
  });
  for (const RemoteChange& change : read.gone) TellGone(side, meter, change);
  batch.changes = std::move(read.changes);
  batch.left_out = std::move(read.left_out);
  batch.moved = read.moved;
  batch.source =
      std::make_unique<ReadBlobs>(workers, meter, std::move(read.versions), std::move(read.copy));
  co_return batch;
}

}  // namespace hermes::sync
