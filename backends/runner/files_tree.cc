#include "backends/runner/files_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "backends/runner/files_io.h"
#include "backends/runner/place.h"
#include "backends/runner/sha256.h"

namespace hermes::runner {
namespace {

constexpr int kDirectoryFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
constexpr size_t kMaxEpoch = 64;

std::string_view Parent(std::string_view name) {
  size_t slash = name.rfind('/');
  return name.substr(0, slash == name.npos ? 0 : slash);
}

// ENOTDIR is what the kernel says of a link as well.
int NotADirectory(int at, const std::string& part) {
  struct stat facts;
  bool link = fstatat(at, part.c_str(), &facts, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(facts.st_mode);
  return link ? ELOOP : ENOTDIR;
}

// `part` of the directory `at`; with `mode` made when it is missing.
Fd Enter(int at, const std::string& part, mode_t mode) {
  Fd next(openat(at, part.c_str(), kDirectoryFlags | O_NOFOLLOW));
  if (next.valid()) return next;
  if (errno == ENOENT && mode != 0 && (mkdirat(at, part.c_str(), mode) == 0 || errno == EEXIST))
    return Fd(openat(at, part.c_str(), kDirectoryFlags | O_NOFOLLOW));
  if (errno == ENOTDIR || errno == ELOOP) errno = NotADirectory(at, part);
  return Fd();
}

}  // namespace

bool IsEpoch(std::string_view text) {
  return text.size() >= 16 && text.size() <= kMaxEpoch &&
         text.find_first_not_of("0123456789abcdef") == text.npos;
}

std::string ContentText(std::string_view digest, bool executable) {
  return Hex(digest) + (executable ? "x" : "-");
}

std::string Leaf(std::string_view name) { return std::string(name.substr(name.rfind('/') + 1)); }

FilesTree::FilesTree(std::string_view path, std::string_view only)
    : path_(ExpandHome(std::string(path), OwnHome())),
      epoch_name_((only.empty() ? ".hermesd-epoch" : ".hermesd-epoch-") + std::string(only)) {}

bool FilesTree::Open() {
  root_.Reset(open(path_.c_str(), kDirectoryFlags));
  return root_.valid();
}

Fd FilesTree::MakeParent(mode_t mode) const {
  size_t at = 0;
  for (size_t next; (next = path_.find('/', at + 1)) != path_.npos; at = next)
    mkdir(path_.substr(0, next).c_str(), mode);
  return Fd(open(path_.substr(0, at + 1).c_str(), kDirectoryFlags));
}

bool FilesTree::MakeIn(int at, const std::string& name, mode_t mode) {
  if (mkdirat(at, name.c_str(), mode) == 0)
    root_.Reset(openat(at, name.c_str(), kDirectoryFlags | O_NOFOLLOW));
  return root_.valid();
}

std::string FilesTree::Epoch() const {
  Fd file(openat(root(), epoch_name_.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  char text[kMaxEpoch + 1];
  ssize_t n = read(file.get(), text, sizeof text);
  std::string_view epoch(text, n > 0 ? static_cast<size_t>(n) : 0);
  epoch = epoch.substr(0, epoch.find('\n'));
  return IsEpoch(epoch) ? std::string(epoch) : "";
}

int FilesTree::Above(std::string_view name, mode_t mode) {
  std::string_view parent = Parent(name);
  if (parent.empty()) return root();
  if (above_fd_.valid() && above_ == parent) return above_fd_.get();
  Fd at;
  for (std::string_view rest = parent; !rest.empty();) {
    size_t end = std::min(rest.find('/'), rest.size());
    at = Enter(at.valid() ? at.get() : root(), std::string(rest.substr(0, end)), mode);
    if (!at.valid()) return -1;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  above_ = parent;
  above_fd_ = std::move(at);
  return above_fd_.get();
}

Fd FilesTree::OpenFile(std::string_view name, struct stat* facts) {
  int above = Above(name);
  if (above < 0) return Fd();
  Fd file(openat(above, Leaf(name).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (file.valid() && (fstat(file.get(), facts) != 0 || !S_ISREG(facts->st_mode))) {
    file.Reset();
    errno = EINVAL;
  }
  return file;
}

Found FilesTree::Find(std::string_view name) {
  Found found;
  int above = Above(name);
  if (above < 0 || fstatat(above, Leaf(name).c_str(), &found.facts, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno != ENOENT) found.kind = Found::kFailed;
    return found;
  }
  found.kind = S_ISDIR(found.facts.st_mode) ? Found::kDirectory : Found::kOther;
  if (!S_ISREG(found.facts.st_mode)) return found;
  found.kind = Found::kFailed;
  Fd file = OpenFile(name, &found.facts);
  if (!file.valid()) return found;
  uint64_t bytes = static_cast<uint64_t>(found.facts.st_size);
  auto digest = HashFile(file.get(), &bytes);
  if (!digest) return found;
  found.kind = Found::kFile;
  found.content = ContentText(*digest, (found.facts.st_mode & S_IXUSR) != 0);
  return found;
}

void FilesTree::RemoveEmptied(std::string_view name) {
  above_fd_.Reset();
  for (name = Parent(name); !name.empty(); name = Parent(name)) {
    int above = Above(name);
    if (above < 0 || unlinkat(above, Leaf(name).c_str(), AT_REMOVEDIR) != 0) break;
  }
  above_fd_.Reset();
}

std::optional<std::string> HashFile(int fd, uint64_t* bytes) {
  Sha256 hash;
  std::string piece(std::min<uint64_t>(kPieceBytes, *bytes), '\0');
  uint64_t have = 0;
  while (have < *bytes) {
    ssize_t n = read(fd, piece.data(), std::min<uint64_t>(piece.size(), *bytes - have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::nullopt;
    if (n == 0) break;
    hash.Update(std::string_view(piece).substr(0, static_cast<size_t>(n)));
    have += static_cast<uint64_t>(n);
  }
  *bytes = have;
  return hash.Finish();
}

}  // namespace hermes::runner
