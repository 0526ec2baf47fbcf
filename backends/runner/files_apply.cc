#include "backends/runner/files_apply.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

void RemoveStage(int root, const std::string& name) {
  Fd stage(openat(root, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!stage.valid()) return;
  ForEachName(stage.get(), [&](const char* file) { unlinkat(stage.get(), file, 0); });
  unlinkat(root, name.c_str(), AT_REMOVEDIR);
}

void RemoveStaleStages(int root) {
  timespec now;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
  time_t limit = now.tv_sec - kStaleSeconds;
  ForEachName(root, [&](const char* name) {
    struct stat facts;
    if (std::string_view(name).substr(0, kStagePrefix.size()) == kStagePrefix &&
        fstatat(root, name, &facts, AT_SYMLINK_NOFOLLOW) == 0 && facts.st_mtime < limit)
      RemoveStage(root, name);
  });
}

// As rename, but fails with EEXIST where the kernel and the file system can tell.
int RenameNew(int from_fd, const char* from, int to_fd, const char* to) {
  constexpr unsigned kNoReplace = 1;
  long result = syscall(SYS_renameat2, from_fd, from, to_fd, to, kNoReplace);
  if (result == 0 || (errno != ENOSYS && errno != EINVAL)) return static_cast<int>(result);
  return renameat(from_fd, from, to_fd, to);
}

}  // namespace

Apply::~Apply() {
  if (stage_.valid()) RemoveStage(tree_.root(), stage_name_);
}

int Apply::Run() {
  if (!tree_.is_open() && !tree_.Make(secret ? 0700 : 0755)) {
    answer_.Trouble("noroot", "it cannot be made", errno);
    return kFilesTrouble;
  }
  if (!MakeStage()) return kFilesTrouble;
  for (size_t i = 0; i < changes.size(); ++i)
    if (changes[i].wanted && !Receive(i)) return kFilesTrouble;
  // In this order a name can become a directory, or a directory a file.
  for (Change& change : changes)
    if (!change.wanted) Delete(change);
  for (size_t i = 0; i < changes.size(); ++i)
    if (changes[i].wanted) Place(i);
  for (const Change& change : changes)
    if (change.removed) tree_.RemoveEmptied(change.name);
  WriteEpoch();
  return Tell();
}

bool Apply::NotStaged() {
  bool full = errno == ENOSPC || errno == EDQUOT;
  answer_.Trouble(full ? "nospace" : "failed", "a file cannot be staged", errno);
  return false;
}

bool Apply::MakeStage() {
  RemoveStaleStages(tree_.root());
  stage_name_ = std::string(kStagePrefix) + RandomHex(8);
  if (mkdirat(tree_.root(), stage_name_.c_str(), 0700) == 0)
    stage_.Reset(
        openat(tree_.root(), stage_name_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  return stage_.valid() || NotStaged();
}

bool Apply::Receive(size_t index) {
  Change& change = changes[index];
  Fd file(openat(stage_.get(), Decimal(index).c_str(),
                 O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  mode_t mode = (change.executable ? 0755 : 0644) & (secret ? 0700 : 0777);
  if (!file.valid() || fchmod(file.get(), mode) != 0) return NotStaged();
  if (change.same_as != kOwnBytes) return Copy(change, file.get());
  Sha256 hash;
  for (uint64_t left = change.size; left != 0;) {
    std::string_view piece = input_.Next(left);
    if (piece.empty()) break;
    hash.Update(piece);
    left -= piece.size();
    if (!WriteAll(file.get(), piece)) return NotStaged();
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
  Fd from(openat(stage_.get(), Decimal(change.same_as).c_str(), O_RDONLY | O_CLOEXEC));
  char piece[4096];
  ssize_t got;
  while ((got = read(from.get(), piece, sizeof piece)) > 0)
    if (!WriteAll(to, std::string_view(piece, static_cast<size_t>(got)))) return NotStaged();
  if (got < 0) return NotStaged();
  change.content = changes[change.same_as].content;
  if (!change.content.empty()) change.content.back() = change.executable ? 'x' : '-';
  return true;
}

void Apply::Delete(Change& change) {
  Found found = tree_.Find(change.name);
  change.error = errno;
  change.result = 'c';
  if (found.kind == Found::kNothing || (found.kind == Found::kFailed && errno == ENOTDIR)) {
    change.result = 'p';
  } else if (found.kind == Found::kFailed) {
    change.result = 'f';
  } else if (found.kind == Found::kFile && found.content == change.expected) {
    bool gone = unlinkat(tree_.Above(change.name), Leaf(change.name).c_str(), 0) == 0;
    change.error = errno;
    change.result = gone ? 'p' : 'f';
    change.removed = gone;
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
  change.error = 0;
  if (change.content.empty()) return;
  Found found = tree_.Find(change.name);
  change.error = errno;
  if (found.kind == Found::kFailed) {
    if (errno == ENOTDIR) change.result = 'c';
    return;
  }
  if (found.kind == Found::kDirectory && FreeDirectory(change)) found.kind = Found::kNothing;
  change.result = 'c';
  bool file = found.kind == Found::kFile;
  if (file && found.content == change.content) {
    change.result = 'p';
    return;
  }
  bool as_expected = file ? found.content == change.expected : found.kind == Found::kNothing;
  if (!as_expected) return;
  change.result = 'f';
  int above = tree_.Above(change.name, secret ? 0700 : 0755);
  change.error = errno;
  if (above >= 0) PlaceAt(above, index, found);
}

void Apply::PlaceAt(int above, size_t index, const Found& found) {
  Change& change = changes[index];
  std::string leaf = Leaf(change.name);
  std::string staged = Decimal(index);
  bool is_new = found.kind == Found::kNothing;
  int result = is_new ? RenameNew(stage_.get(), staged.c_str(), above, leaf.c_str())
                      : renameat(stage_.get(), staged.c_str(), above, leaf.c_str());
  change.error = errno;
  if (result == 0) change.result = 'p';
  // Somebody was faster.
  if (result != 0 && (errno == EEXIST || errno == EISDIR)) change.result = 'c';
}

void Apply::WriteEpoch() {
  if (epoch.empty()) return;
  Fd file(openat(stage_.get(), "epoch", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (file.valid() && WriteAll(file.get(), std::string(epoch) + "\n"))
    renameat(stage_.get(), "epoch", tree_.root(), tree_.epoch_name().c_str());
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
