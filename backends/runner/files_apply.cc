#include "backends/runner/files_apply.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "backends/runner/files.h"
#include "backends/runner/sha256.h"

namespace hermes::runner {
namespace {

constexpr time_t kStaleSeconds = 86'400;  // a stage older than this is nobody's
constexpr size_t kMaxTold = 4096;         // bytes about failures
constexpr size_t kDigestBytes = 32;

// Calls `take` with each name in the directory `fd`.
template <typename Take>
void ForEachName(int fd, Take take) {
  Fd own(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* names = own.valid() ? fdopendir(own.get()) : nullptr;
  if (names == nullptr) return;
  own.Release();
  while (dirent* entry = readdir(names)) take(entry->d_name);
  closedir(names);
}

void RemoveAll(int at, const std::string& name) {
  if (unlinkat(at, name.c_str(), 0) == 0) return;
  Fd below(openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!below.valid()) return;
  ForEachName(below.get(), [&](std::string_view entry) {
    if (entry != "." && entry != "..") RemoveAll(below.get(), std::string(entry));
  });
  unlinkat(at, name.c_str(), AT_REMOVEDIR);
}

void RemoveStaleStages(int root) {
  timespec now;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
  time_t limit = now.tv_sec - kStaleSeconds;
  ForEachName(root, [&](const char* name) {
    struct stat facts;
    if (std::string_view(name).substr(0, kStagePrefix.size()) == kStagePrefix &&
        fstatat(root, name, &facts, AT_SYMLINK_NOFOLLOW) == 0 && facts.st_mtime < limit)
      RemoveAll(root, name);
  });
}

constexpr unsigned kNoReplace = 1;
constexpr unsigned kExchange = 2;

// As rename, in this way if the kernel and the file system can.
int Rename(int from_fd, const std::string& from, int to_fd, const std::string& to, unsigned how) {
  long result = syscall(SYS_renameat2, from_fd, from.c_str(), to_fd, to.c_str(), how);
  if (result == 0 || (errno != ENOSYS && errno != EINVAL)) return static_cast<int>(result);
  return renameat(from_fd, from.c_str(), to_fd, to.c_str());
}

bool IsWithin(std::string_view name, std::string_view part) {
  return name.substr(0, part.size()) == part &&
         (name.size() == part.size() || name[part.size()] == '/');
}

}  // namespace

Apply::~Apply() {
  if (stage_.is_open()) RemoveAll(stage_at_, stage_name_);
}

int Apply::Run() {
  if (!MakeStage()) return kFilesTrouble;
  for (size_t i = 0; i < changes.size(); ++i)
    if (changes[i].wanted && !Receive(i)) return kFilesTrouble;
  if (!known_epoch.empty() && tree_.Epoch() != known_epoch) return Tell();
  if (!tree_.is_open() && !BecomeRoot()) return kFilesTrouble;
  // First: what is cut off from here on is known to be of this push.
  const char* token = tree_.epoch_name().c_str();
  if (!epoch.empty()) renameat(stage_.root(), token, tree_.root(), token);
  // In this order a name can become a directory, or a directory a file.
  for (Change& change : changes)
    if (!change.wanted) Delete(change);
  for (size_t i = 0; i < changes.size(); ++i)
    if (changes[i].wanted) Place(i);
  for (const Change& change : changes)
    if (change.removed) tree_.RemoveEmptied(change.name);
  return Tell();
}

bool Apply::NoRoot() {
  answer_.Trouble("noroot", "it cannot be made", errno);
  return false;
}

bool Apply::NotStaged() {
  bool full = errno == ENOSPC || errno == EDQUOT;
  answer_.Trouble(full ? "nospace" : "failed", "a file cannot be staged", errno);
  return false;
}

bool Apply::MakeStage() {
  bool fresh = !tree_.is_open();
  // A push that told a token may have left its stage beside the root.
  if (fresh || !epoch.empty()) parent_ = tree_.MakeParent(DirectoryMode());
  stage_at_ = fresh ? parent_.get() : tree_.root();
  RemoveStaleStages(parent_.get());
  RemoveStaleStages(tree_.root());
  stage_name_ = std::string(kStagePrefix) + RandomHex(8);
  if (!stage_.MakeIn(stage_at_, stage_name_, fresh ? DirectoryMode() : 0700))
    return fresh ? NoRoot() : NotStaged();
  if (epoch.empty()) return true;
  Fd file(openat(stage_.root(), tree_.epoch_name().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  // No token is fine, half of one is not.
  return !file.valid() || WriteAll(file.get(), std::string(epoch) + "\n") || NotStaged();
}

bool Apply::Receive(size_t index) {
  Change& change = changes[index];
  int above = stage_.Above(change.name, DirectoryMode());
  if (above < 0) return NotStaged();
  Fd file(openat(above, Leaf(change.name).c_str(),
                 O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  mode_t mode = (change.executable ? 0755 : 0644) & (secret ? 0700 : 0777);
  if (!file.valid() || fchmod(file.get(), mode) != 0) return NotStaged();
  bool shared = change.same_as != kOwnBytes;
  if (!(shared ? Copy(change, file.get()) : ReceiveBytes(change, file.get()))) return false;
  timespec time = {.tv_sec = static_cast<time_t>(change.time_s), .tv_nsec = 0};
  timespec times[] = {time, time};
  syscall(SYS_utimensat, file.get(), nullptr, times,
          0);  // a file system without times has the file
  if (change.content.empty()) unlinkat(stage_.Above(change.name), Leaf(change.name).c_str(), 0);
  return true;
}

bool Apply::ReceiveBytes(Change& change, int to) {
  Sha256 hash;
  for (uint64_t left = change.size; left != 0;) {
    std::string_view piece = input_.Next(left);
    if (piece.empty()) break;
    hash.Update(piece);
    left -= piece.size();
    if (!WriteAll(to, piece)) return NotStaged();
  }
  std::string good = input_.Read(1);
  std::string sent = input_.Read(kDigestBytes);
  std::string digest = hash.Finish();
  if (sent != digest) {
    answer_.Trouble("failed", "the request is cut short or damaged", 0);
    return false;
  }
  if (good[0] != 0) change.content = ContentText(digest, change.executable);
  return true;
}

bool Apply::Copy(Change& change, int to) {
  const Change& first = changes[change.same_as];
  if (first.content.empty()) return true;
  struct stat facts;
  Fd from = stage_.OpenFile(first.name, &facts);
  char piece[4096];
  ssize_t got;
  while ((got = read(from.get(), piece, sizeof piece)) > 0)
    if (!WriteAll(to, std::string_view(piece, static_cast<size_t>(got)))) return NotStaged();
  if (got < 0) return NotStaged();
  change.content = first.content;
  change.content.back() = change.executable ? 'x' : '-';
  return true;
}

// All is there at once, or, if somebody else has made the root meanwhile, one by one.
bool Apply::BecomeRoot() {
  std::string leaf = Leaf(tree_.path());
  bool whole = Rename(stage_at_, stage_name_, stage_at_, leaf, kNoReplace) == 0;
  if (!tree_.Open()) return NoRoot();
  for (Change& change : changes)
    if (whole && !change.content.empty()) change.result = 'p';
  return true;
}

void Apply::Delete(Change& change) {
  Found found = tree_.Find(change.name);
  change.error = errno;
  change.result = 'c';
  if (found.kind == Found::kNothing || (found.kind == Found::kFailed && errno == ENOTDIR)) {
    change.result = 'p';
  } else if (found.kind == Found::kFailed) {
    if (errno != ELOOP) change.result = 'f';
  } else if (found.kind == Found::kFile && found.content == change.expected) {
    change.result = Replace(change, found);
    change.removed = change.result == 'p';
  }
}

// Where our deletions have emptied a directory, a file may come.
bool Apply::FreeDirectory(const Change& change) {
  std::string below = std::string(change.name) + "/";
  for (const Change& other : changes)
    if (other.removed && other.name.substr(0, below.size()) == below)
      tree_.RemoveEmptied(other.name);
  return tree_.Find(change.name).kind == Found::kNothing;
}

void Apply::Place(size_t index) {
  Change& change = changes[index];
  if (change.content.empty() || change.result == 'p') return;
  Found found = tree_.Find(change.name);
  change.error = errno;
  if (found.kind == Found::kFailed) {
    if (errno == ENOTDIR || errno == ELOOP) change.result = 'c';
    return;
  }
  if (found.kind == Found::kDirectory && FreeDirectory(change)) found.kind = Found::kNothing;
  if (found.kind == Found::kNothing) return PlaceNew(index);
  change.result = 'c';
  if (found.kind != Found::kFile) return;
  if (found.content == change.content) {
    if (secret)
      fchmodat(tree_.Above(change.name), Leaf(change.name).c_str(), found.facts.st_mode & 0700, 0);
    change.result = 'p';
  } else if (found.content == change.expected) {
    change.result = Replace(change, found);
  }
}

// What is found by what is wanted, or by nothing; back again if somebody has written to it since.
char Apply::Replace(Change& change, const Found& found) {
  std::string leaf = Leaf(change.name);
  int above = tree_.Above(change.name);
  int stage = change.wanted ? stage_.Above(change.name) : stage_.root();
  std::string slot = change.wanted ? leaf : ".hermesd-gone";
  bool done = change.wanted ? Rename(stage, slot, above, leaf, kExchange) == 0
                            : Rename(above, leaf, stage, slot, 0) == 0;
  change.error = errno;
  // Somebody was faster.
  if (!done) return errno == EISDIR || errno == ENOENT ? 'c' : 'f';
  struct stat out;
  if (fstatat(stage, slot.c_str(), &out, AT_SYMLINK_NOFOLLOW) != 0 ||
      (out.st_ino == found.facts.st_ino && out.st_size == found.facts.st_size &&
       memcmp(&out.st_mtim, &found.facts.st_mtim, sizeof out.st_mtim) == 0))
    return 'p';
  Rename(stage, slot, above, leaf, change.wanted ? kExchange : kNoReplace);
  return 'c';
}

// The first part of its name that is missing comes with all that is staged below it.
void Apply::PlaceNew(size_t index) {
  Change& change = changes[index];
  for (size_t end = 0; end < change.name.size(); ++end) {
    end = std::min(change.name.find('/', end), change.name.size());
    std::string_view part = change.name.substr(0, end);
    std::string leaf = Leaf(part);
    int above = tree_.Above(part);
    struct stat facts;
    bool last = end == change.name.size();
    if (!last && fstatat(above, leaf.c_str(), &facts, AT_SYMLINK_NOFOLLOW) == 0) continue;
    if (Rename(stage_.Above(part), leaf, above, leaf, kNoReplace) == 0) {
      for (size_t i = index; i < changes.size() && IsWithin(changes[i].name, part); ++i)
        if (!changes[i].content.empty()) changes[i].result = 'p';
      return;
    }
    change.error = errno;
    // Somebody was faster.
    if (errno != EEXIST && errno != EISDIR && errno != ENOTEMPTY) return;
    if (last) change.result = 'c';
  }
}

int Apply::Tell() {
  std::string told;
  int end = kFilesDone;
  for (size_t i = 0; i < changes.size(); ++i) {
    const Change& change = changes[i];
    answer_.Put(std::string_view(&change.result, 1)).Put(" ").Put(i).Put("\n");
    if (change.result != 'f') continue;
    end = kFilesSomeFailed;
    if (change.error == 0 || told.size() >= kMaxTold) continue;
    told.append(change.name).append(": errno ");
    told.append(Decimal(static_cast<uint64_t>(change.error))).append("\n");
  }
  if (!told.empty()) answer_.Put("t ").Put(told.size()).Put("\n").Put(told);
  answer_.Mark().Put("e\n");
  return end;
}

}  // namespace hermes::runner
