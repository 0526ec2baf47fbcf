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

namespace hermes::sync {
namespace {

constexpr size_t kPieceBytes = 256 << 10;

struct Version {
  Content content = {};
  std::string bytes = {};  // of a held one
  Fd copy = {};            // of a still one
};

// A file without a name beside the original, so that nothing is left of it whatever happens.
Fd MakeCopy(int root) {
  Fd copy(openat(root, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  return copy.valid() ? std::move(copy) : Fd(memfd_create("hermesd-push", MFD_CLOEXEC));
}

// Everything that a file holds from its start to its end, each byte once: into memory or a copy.
std::optional<Version> ReadAll(const Fd& file, uint64_t max_bytes, Fd copy) {
  struct stat seen;
  if (fstat(file.get(), &seen) != 0) return std::nullopt;
  Version version{.copy = std::move(copy)};
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
    if (!version.copy.valid()) {
      version.bytes.append(bytes);
    } else if (write(version.copy.get(), bytes.data(), bytes.size()) != got) {
      return std::nullopt;
    }
  }
  version.content.digest = hasher.Finish();
  version.content.executable = (seen.st_mode & S_IXUSR) != 0;
  return version;
}

// The bytes of files that were read before; of a deletion nothing is asked.
class ReadBlobs : public BlobSource {
 public:
  ReadBlobs(Workers& workers, SyncMeter* meter, std::vector<Version> versions)
      : workers_(workers), meter_(meter), versions_(std::move(versions)) {}

  Task<Blob> Read(size_t index) override {
    Version& version = versions_[index];
    Blob blob{std::exchange(version.bytes, {})};
    if (version.copy.valid()) blob.bytes = co_await Piece(version.copy.get());
    meter_->Done(0, blob.bytes.size());
    co_return blob;
  }

 private:
  Task<std::string> Piece(int copy) {
    std::string bytes = co_await workers_.Run([copy, at = at_] {
      std::string piece(kPieceBytes, '\0');
      const ssize_t got = pread(copy, piece.data(), piece.size(), static_cast<off_t>(at));
      piece.resize(got > 0 ? static_cast<size_t>(got) : 0);
      return piece;
    });
    at_ = bytes.empty() ? 0 : at_ + bytes.size();
    co_return bytes;
  }

  Workers& workers_;
  SyncMeter* const meter_;
  std::vector<Version> versions_;
  uint64_t at_ = 0;  // in the copy that is being read
};

// The bytes of files as they are when they go out.
class FileBlobs : public BlobSource {
 public:
  FileBlobs(Workers& workers, const MountSide* side, SyncMeter* meter,
            std::vector<RemoteChange> changes)
      : workers_(workers), side_(side), meter_(meter), changes_(std::move(changes)) {}

  Task<Blob> Read(size_t index) override {
    Blob blob = co_await workers_.Run([this, index] { return ReadHere(index); });
    meter_->Done(0, blob.bytes.size());
    co_return blob;
  }

 private:
  Blob ReadHere(size_t index) {
    const RemoteChange& change = changes_[index];
    if (!file_.valid()) {
      file_ = OpenVersionBeneath(side_->pair->root.fd(), change.path.str(), side_->mount.links);
      left_ = change.wanted->size;
    }
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
  std::vector<Version> versions;
  bool moved = false;
};

// What cannot be read is left to the next look at the tree.
Versions ReadVersions(const MountSide* side, std::vector<RemoteChange> changes, bool copy) {
  Versions read;
  for (RemoteChange& change : changes) {
    Version version;
    if (change.wanted) {
      const Fd file =
          OpenVersionBeneath(side->pair->root.fd(), change.path.str(), side->mount.links);
      std::optional<Version> found;
      if (file.valid()) {
        found = ReadAll(file, side->mount.max_file_bytes,
                        copy ? MakeCopy(side->pair->root.fd()) : Fd());
      }
      if (!found || found->content != *change.wanted) read.moved = true;
      if (!found) continue;
      version = *std::move(found);
      change.wanted = version.content;
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
  Versions read = co_await workers.Run([side, &changes, copy = !batch.held] {
    return ReadVersions(side, std::move(changes), copy);
  });
  batch.changes = std::move(read.changes);
  batch.moved = read.moved;
  batch.source = std::make_unique<ReadBlobs>(workers, meter, std::move(read.versions));
  co_return batch;
}

}  // namespace hermes::sync
