#include "sync/parents.h"

#include <algorithm>
#include <cerrno>

namespace hermes::sync {
namespace {

// Beyond that many directories one syncfs is cheaper than an fsync of each.
constexpr size_t kSyncEachDirs = 8;
// A directory inherits it from its parent, where a team shares a tree.
constexpr uint32_t kGroupBit = 02000;

}  // namespace

std::string_view ParentOf(std::string_view path) {
  size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

std::string_view LeafOf(std::string_view path) {
  size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

Parents::Parents(Fs& fs, int root, const std::vector<DirRecord>& dirs, uint32_t new_dir_mode)
    : fs_(fs), root_(root), new_dir_mode_(new_dir_mode) {
  for (const DirRecord& dir : dirs) {
    if (dir.existed) modes_[dir.path] = dir.mode;
  }
}

int Parents::Open(std::string_view dir, Missing missing) {
  if (open_.valid() && open_path_ == dir) return open_.get();
  Forget();
  open_path_ = dir;
  int rc = fs_.OpenDir(root_, open_path_);
  if (rc == -ENOENT && missing != Missing::kFail) {
    rc = Make(open_path_, missing == Missing::kMakeDurable);
  }
  open_ = Handle(fs_, rc);
  return rc;
}

void Parents::Forget() { open_.Reset(); }

// The first missing part and all behind it.
int Parents::Make(const std::string& dir, bool durable) {
  for (size_t end = 0; end < dir.size();) {
    end = std::min(dir.find('/', end + 1), dir.size());
    std::string upto = dir.substr(0, end);
    Handle there(fs_, fs_.OpenDir(root_, upto));
    if (there.valid()) continue;
    if (there.get() != -ENOENT) return there.get();
    if (int rc = MakeOne(std::string(ParentOf(upto)), upto, durable); rc < 0) return rc;
  }
  return fs_.OpenDir(root_, dir);
}

int Parents::MakeOne(const std::string& parent, const std::string& dir, bool durable) {
  Handle above(fs_, fs_.OpenDir(root_, parent));
  if (!above.valid()) return above.get();
  auto old = modes_.find(dir);
  uint32_t mode = old == modes_.end() ? new_dir_mode_ : old->second;
  Fs::At at{above.get(), std::string(LeafOf(dir))};
  int rc = fs_.MakeDir(at, mode);
  if (rc == -EEXIST) return 0;  // somebody else made it: its mode is theirs
  if (rc < 0) return rc;
  Touch(parent);
  Handle made(fs_, fs_.OpenDir(above.get(), at.leaf));
  if (!made.valid()) return made.get();
  FileStat stat;
  rc = fs_.Stat(made.get(), &stat);
  mode |= stat.mode & kGroupBit;
  if (rc == 0 && stat.mode != mode) rc = fs_.Chmod(made.get(), mode);
  if (rc == 0 && durable) rc = fs_.Sync(made.get());
  return rc == 0 && durable ? fs_.Sync(above.get()) : rc;
}

bool Parents::Remove(const std::string& dir) {
  if (open_path_ == dir) Forget();
  Handle above(fs_, fs_.OpenDir(root_, std::string(ParentOf(dir))));
  if (!above.valid()) return false;
  if (fs_.RemoveDir({above.get(), std::string(LeafOf(dir))}) < 0) return false;
  touched_.erase(dir);
  Touch(ParentOf(dir));
  return true;
}

int Parents::SyncTouched(int also) {
  if (touched_.size() > kSyncEachDirs) return fs_.SyncAll(root_);
  for (const std::string& dir : touched_) {
    Handle handle(fs_, fs_.OpenDir(root_, dir));
    int rc = handle.valid() ? fs_.Sync(handle.get()) : handle.get();
    if (rc < 0) return fs_.SyncAll(root_);  // the host moved it: then everything
  }
  return fs_.Sync(also);
}

std::vector<DirRecord> SurveyDirs(Fs& fs, int root, const std::vector<Change>& changes) {
  std::map<std::string, DirRecord, std::less<>> dirs;  // bytewise: a parent comes first
  for (const Change& change : changes) {
    for (std::string_view dir = change.path.parent(); !dir.empty() && !dirs.contains(dir);
         dir = ParentOf(dir)) {
      std::string path(dir);
      Handle handle(fs, fs.OpenDir(root, path));
      FileStat stat;
      bool existed = handle.valid() && fs.Stat(handle.get(), &stat) == 0;
      dirs.emplace(path, DirRecord{path, existed, existed ? stat.mode & 07777 : 0});
    }
  }
  std::vector<DirRecord> records;
  for (auto& [path, record] : dirs) records.push_back(std::move(record));
  return records;
}

}  // namespace hermes::sync
