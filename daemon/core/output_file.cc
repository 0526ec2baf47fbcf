#include "daemon/core/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr char kMagic[8] = {'h', 'e', 'r', 'm', 'O', 'L', '0', '1'};

// Left free by output: a twentieth of the disk within these bounds.
constexpr uint64_t kReserveShare = 20;
constexpr uint64_t kLeastReserve = 1 << 20;
constexpr uint64_t kMostReserve = 64 << 20;

// As it lies in the file, in this machine's byte order: these files never leave it.
struct RawMark {
  char magic[8];
  uint64_t checksum;  // of all that follows
  char tag[OutputFile::kTagBytes];
  uint64_t limit;
  uint64_t end;
  uint64_t high;
  uint64_t hole_count;
  OutputHole holes[kMaxHoles];
};
static_assert(sizeof(RawMark) <= 512, "stays within one page");

uint64_t Checksum(const RawMark& raw) {
  uint64_t hash = 0xcbf29ce484222325;
  const char* from = reinterpret_cast<const char*>(&raw) + offsetof(RawMark, tag);
  for (; from < reinterpret_cast<const char*>(&raw + 1); from += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, from, sizeof(word));
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 29;
  }
  return hash;
}

absl::Status Failed(int err, std::string_view what, const std::string& path) {
  return Error(Reason::k_DISK_FULL,
               std::string("cannot ") + std::string(what) + " " + path + ": " + std::strerror(err));
}

absl::Status Damaged(const std::string& path, std::string_view how) {
  return Error(Reason::k_STORE_CORRUPT, path + ": " + std::string(how));
}

int OpenFile(const std::string& path, int flags) {
  int fd;
  do {
    fd = open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

absl::Status ReadAll(int fd, const std::string& path, uint64_t file_offset, std::span<char> into) {
  while (!into.empty()) {
    const ssize_t got = pread(fd, into.data(), into.size(), static_cast<off_t>(file_offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Damaged(path, std::string("cannot be read: ") + std::strerror(errno));
    if (got == 0) return Damaged(path, "is shorter than it should be");
    into = into.subspan(got);
    file_offset += got;
  }
  return absl::OkStatus();
}

absl::StatusOr<OutputFile::Mark> Decode(const RawMark& raw, const std::string& path) {
  if (std::memcmp(raw.magic, kMagic, sizeof(kMagic)) != 0 || raw.checksum != Checksum(raw) ||
      raw.hole_count > kMaxHoles) {
    return Damaged(path, "has a damaged header");
  }
  OutputFile::Mark mark;
  mark.tag.assign(raw.tag, strnlen(raw.tag, sizeof(raw.tag)));
  mark.limit = raw.limit;
  mark.end = raw.end;
  mark.high = raw.high;
  mark.holes.assign(raw.holes, raw.holes + raw.hole_count);
  return mark;
}

}  // namespace

absl::Status OutputFile::Create(const std::string& path) {
  Close();
  path_ = path;
  written_to_ = 0;
  fd_ = OpenFile(path, O_RDWR | O_CREAT | O_TRUNC);
  if (fd_ < 0 && errno == ENOENT) {
    const std::string folder = path.substr(0, path.rfind('/'));
    if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
      return Failed(errno, "make folder", folder);
    }
    fd_ = OpenFile(path, O_RDWR | O_CREAT | O_TRUNC);
  }
  return fd_ < 0 ? Failed(errno, "make file", path) : absl::OkStatus();
}

absl::StatusOr<OutputFile::Mark> OutputFile::Open(const std::string& path) {
  Close();
  path_ = path;
  fd_ = OpenFile(path, O_RDWR);
  if (fd_ < 0 && errno == ENOENT) return absl::NotFoundError(path);
  if (fd_ < 0) return Damaged(path, std::string("cannot be opened: ") + std::strerror(errno));
  RawMark raw;
  RETURN_IF_ERROR(ReadAll(fd_, path_, 0, {reinterpret_cast<char*>(&raw), sizeof(raw)}));
  ASSIGN_OR_RETURN(Mark mark, Decode(raw, path_));
  written_to_ = mark.high;
  struct stat info;
  if (fstat(fd_, &info) != 0) return Damaged(path, "cannot be examined");
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  if (mark.high > 0 && (size < kHeaderBytes || size - kHeaderBytes < mark.high)) {
    return Damaged(path, "is shorter than its header says");
  }
  return mark;
}

absl::Status OutputFile::Write(uint64_t position, std::string_view data) {
  const uint64_t end = position + data.size();
  if (end > written_to_) RETURN_IF_ERROR(CheckRoom(end - written_to_));
  RETURN_IF_ERROR(WriteAll(kHeaderBytes + position, data));
  written_to_ = std::max(written_to_, end);
  return absl::OkStatus();
}

absl::Status OutputFile::CheckRoom(uint64_t bytes) const {
  struct statvfs disk;
  if (fstatvfs(fd_, &disk) != 0) return absl::OkStatus();  // then the write itself will tell
  const uint64_t whole = uint64_t{disk.f_blocks} * disk.f_frsize;
  const uint64_t reserve = std::clamp(whole / kReserveShare, kLeastReserve, kMostReserve);
  if (uint64_t{disk.f_bavail} * disk.f_frsize >= reserve + bytes) return absl::OkStatus();
  return Error(Reason::k_DISK_FULL, path_ + ": the rest of the disk is kept for results");
}

absl::Status OutputFile::WriteMark(const Mark& mark) {
  CHECK(mark.holes.size() <= kMaxHoles);
  RawMark raw = {};
  std::memcpy(raw.magic, kMagic, sizeof(kMagic));
  mark.tag.copy(raw.tag, sizeof(raw.tag));
  raw.limit = mark.limit;
  raw.end = mark.end;
  raw.high = mark.high;
  raw.hole_count = mark.holes.size();
  std::copy(mark.holes.begin(), mark.holes.end(), raw.holes);
  raw.checksum = Checksum(raw);
  return WriteAll(0, {reinterpret_cast<const char*>(&raw), sizeof(raw)});
}

absl::Status OutputFile::WriteAll(uint64_t file_offset, std::string_view data) {
  CHECK(fd_ >= 0);
  while (!data.empty()) {
    const ssize_t put = pwrite(fd_, data.data(), data.size(), static_cast<off_t>(file_offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return Failed(put < 0 ? errno : ENOSPC, "write", path_);
    data.remove_prefix(put);
    file_offset += put;
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Read(uint64_t position, std::span<char> into) const {
  if (fd_ >= 0) return ReadAll(fd_, path_, kHeaderBytes + position, into);
  const int fd = OpenFile(path_, O_RDONLY);
  if (fd < 0) return Damaged(path_, std::string("cannot be opened: ") + std::strerror(errno));
  const absl::Status status = ReadAll(fd, path_, kHeaderBytes + position, into);
  close(fd);
  return status;
}

void OutputFile::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

}  // namespace hermes
