#include "sync/host_tree.h"

#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

#include "daemon/runtime/status.h"
#include "sync/beneath.h"

namespace hermes::sync {
namespace {

// A file that changed less than this before it was read may have changed again without a new time.
// Clocks of file systems tick every 1 to 10 ms; those of other hosts may also be wrong.
constexpr int64_t kRacyNs = 20'000'000;
constexpr int64_t kRacyElsewhereNs = 10'000'000'000;

constexpr int kListings = 8;  // again, in one Refresh, where names come and go all the time
constexpr size_t kMaxApartOnLoop = 256;  // stats that Unchanged makes

constexpr int kOpenFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

bool IsLocal(int directory) {
  struct statfs fs;
  return fstatfs(directory, &fs) == 0 && TellsOfChanges(static_cast<uint32_t>(fs.f_type));
}

void Add(Watch::Dirt from, Watch::Dirt* to) {
  to->files.merge(from.files);
  to->directories.merge(from.directories);
  to->all = to->all || from.all;
}

const char* LeafOf(const std::string& path) { return path.c_str() + (path.rfind('/') + 1); }

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? "" : path.substr(0, slash);
}

// Not there (any more), or something else than what was seen there a moment ago; a notice of that
// is on its way.
bool IsGone(int error) { return error == ENOENT || error == ENOTDIR || error == ELOOP; }

}  // namespace

HostTree::HostTree(Setup setup)
    : root_(*setup.root),
      clock_(*setup.clock),
      mount_(std::move(setup.mount)),
      ignore_(root_.only() ? IgnoreList() : IgnoreList(mount_.ignore)),
      withholds_(!root_.only() && WithholdsSecrets(mount_)),
      known_(std::move(setup.known)),
      local_(IsLocal(root_.fd())),
      watchable_(setup.max_watches > 0 && !root_.only()),
      watch_(setup.max_watches) {
  StartWatch();
}

void HostTree::StartWatch() {
  if (watchable_ && watch_.Start(root_.fd())) watch_.FollowPath(root_.path());
}

bool HostTree::Unchanged() {
  if (rescan_ || !dirt_.files.empty() || !dirt_.directories.empty() || dirt_.all || !local_ ||
      (!watching() && !root_.only()))
    return false;
  if (root_.only()) {
    // Of a file mount nothing is watched: the way to its directory is looked at as the file is.
    if (!root_.CheckSame().ok()) return false;
    const std::string& name = root_.only()->str();
    struct stat seen;
    if (fstatat(root_.fd(), name.c_str(), &seen, AT_SYMLINK_NOFOLLOW) != 0)
      return errno == ENOENT && manifest().files.empty() && manifest().oddities.empty();
    return S_ISREG(seen.st_mode) && Trusted(name, KeyOf(seen));
  }
  const std::set<std::string>& apart = state_.apart();
  // Links may lead to where a stat waits for a network, and many stats hold up everybody.
  const bool follows = mount_.links != LinkPolicy::kSkip && !apart.empty();
  if (follows || apart.size() > kMaxApartOnLoop) return false;
  for (const std::string& path : apart) {
    if (!SameApart(path)) return false;
  }
  return watch_.Quiet();
}

absl::Status HostTree::Refresh(Effort effort) {
  failure_ = absl::OkStatus();
  // Where watches once ran out there may be some again.
  if (effort == Effort::kBytes && !watching()) StartWatch();
  // First: what is noticed from now on is the next call's.
  if (watching()) watch_.Take(&dirt_);
  const bool all = rescan_ || dirt_.all || !watching() || effort != Effort::kChanges;
  rescan_ = true;
  // Always: the removal of a directory that is held is told to its parent's watchers only.
  RETURN_IF_ERROR(root_.CheckSame());
  listed_.clear();
  if (all) Scan(effort == Effort::kBytes ? Trust::kNothing : Trust::kKeys);
  LookAtDirt(dirt_);
  Watch::Dirt later;
  for (int i = 0; i < kListings && ListAgain(&later); ++i) continue;
  failure_.Update(CheckLimits());
  if (!CheckLimits().ok()) StartAnew();
  if (!failure_.ok()) {  // what is dirty stays so
    Add(std::move(later), &dirt_);
    return failure_;
  }
  rescan_ = false;
  dirt_ = std::move(later);
  dirt_.files.merge(unsettled_);
  unsettled_.clear();
  known_.clear();
  return absl::OkStatus();
}

int64_t HostTree::MtimeNs(const RelPath& path) const {
  const TreeState::File* file = state_.Find(path.str());
  return file != nullptr ? file->key.mtime_ns : 0;
}

StatKey HostTree::TrustedKey(const RelPath& path) const {
  const TreeState::File* file = state_.Find(path.str());
  return file != nullptr && file->trusted ? file->key : StatKey{};
}

// Over a limit the look was cut short, and what is known of the rest would keep the next one from
// getting below it.
void HostTree::StartAnew() {
  for (const auto& [path, content] : manifest().files) {
    const StatKey key = TrustedKey(path);
    if (key.ino != 0) known_.insert_or_assign(path.str(), KnownFile{content, key});
  }
  state_.Clear();
}

void HostTree::Scan(Trust trust) {
  if (root_.only()) {
    LookIn(root_.fd(), root_.only()->str(), trust);
  } else {
    LookAtDirectory("", trust);
  }
}

// Whatever is noticed about a file is a reason to read it: a mapping's stores change no times.
void HostTree::LookAtDirt(const Watch::Dirt& dirt) {
  LookAtAll(dirt.directories, Trust::kKeys);
  LookAtAll(dirt.files, Trust::kNothing);
  std::set<std::string> apart;
  for (const std::string& path : state_.apart()) {
    if (!SameApart(path)) apart.insert(path);
  }
  LookAtAll(apart, Trust::kNothing);
}

// A listing may lack a name that was there all the time, if others came or went meanwhile. False:
// no listing of this Refresh was such a one.
bool HostTree::ListAgain(Watch::Dirt* later) {
  if (!watching() || listed_.empty() || !failure_.ok()) return false;
  Watch::Dirt noticed;
  watch_.Take(&noticed);
  std::set<std::string> stirred;
  std::set_intersection(listed_.begin(), listed_.end(), noticed.stirred.begin(),
                        noticed.stirred.end(), std::inserter(stirred, stirred.end()));
  listed_.clear();
  if (stirred.contains("")) LookAtDirectory("", Trust::kKeys);
  LookAtAll(stirred, Trust::kKeys);
  Add(std::move(noticed), later);
  return !stirred.empty();
}

void HostTree::LookAtAll(const std::set<std::string>& paths, Trust trust) {
  std::string parent;
  Fd directory;
  for (const std::string& path : paths) {
    if (!failure_.ok()) return;
    // In a directory that is not known (any more) there is nothing to know; when one of that name
    // has come, its own notice is on its way and it is listed.
    if (path.empty() || !state_.HasDirectory(ParentOf(path))) continue;
    if (ignore_.Ignores(path) && !IsWithheld(path)) continue;
    if (!directory.valid() || ParentOf(path) != parent) {
      parent = ParentOf(path);
      directory = OpenBeneath(root_.fd(), parent);
    }
    if (directory.valid()) {
      LookIn(directory.get(), path, trust);
    } else if (IsGone(errno)) {
      Drop(path);
    } else if (errno != EACCES && errno != EXDEV) {  // of those the parent's own notice tells
      Fail(path, errno);
    }
  }
}

void HostTree::LookAtDirectory(const std::string& path, Trust trust) {
  const Fd directory = OpenBeneath(root_.fd(), path);
  if (!directory.valid()) {
    if (path.empty()) return Fail(path, errno);
    if (IsGone(errno)) return Drop(path);
    if (errno == EACCES) return SetOdd(path, Oddity::kUnreadable);
    if (errno == EXDEV) return SetOdd(path, Oddity::kOtherFileSystem);
    return Fail(path, errno);
  }
  state_.SetDirectory(path);
  // Before it is listed: what comes later is noticed, what came before is listed.
  if (watching() && !watch_.Add(path, directory.get())) {
    watch_.Stop();  // no more watches: the whole tree is scanned from now on
  }
  List(directory.get(), path, trust);
}

void HostTree::List(int directory, const std::string& path, Trust trust) {
  listed_.insert(path);
  Fd own(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* const listing = own.valid() ? fdopendir(own.get()) : nullptr;
  if (listing == nullptr) return Fail(path, errno);
  static_cast<void>(own.release());  // the listing closes it
  const std::unique_ptr<DIR, decltype(&closedir)> closer(listing, &closedir);
  std::set<std::string> names;
  // A listing that races with renames may miss a name that was there all the time: what is known
  // is looked at by its name.
  for (std::string& child : state_.ChildrenOf(path)) names.insert(std::move(child));
  const std::string prefix = path.empty() ? "" : path + "/";
  for (errno = 0; const dirent* entry = readdir(listing); errno = 0) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.insert(prefix + entry->d_name);
  }
  if (errno != 0) return Fail(path, errno);
  for (const std::string& name : names) {
    if (!failure_.ok()) return;
    LookIn(directory, name, trust);
  }
}

void HostTree::LookIn(int directory, const std::string& path, Trust trust) {
  const bool withheld = IsWithheld(path);
  if (ignore_.Ignores(path) && !withheld) return;
  struct stat seen;
  if (fstatat(directory, LeafOf(path), &seen, AT_SYMLINK_NOFOLLOW) != 0) {
    if (IsGone(errno)) return Drop(path);
    return errno == EACCES ? SetOdd(path, Oddity::kUnreadable) : Fail(path, errno);
  }
  if (withheld) return SetOdd(path, Oddity::kSecret);
  if (!HasPlainName(path) || CheckPath(path) != PathFault::kNone)
    return SetOdd(path, Oddity::kName);
  if (S_ISDIR(seen.st_mode)) return LookAtDirectory(path, trust);
  if (S_ISLNK(seen.st_mode) && mount_.links != LinkPolicy::kSkip)
    return Follow(directory, path, trust);
  if (S_ISLNK(seen.st_mode)) return SetOdd(path, Oddity::kLink);
  if (!S_ISREG(seen.st_mode)) return SetOdd(path, Oddity::kSpecial);
  LookAtFile(directory, path, seen, trust);
}

void HostTree::LookAtFile(int directory, const std::string& path, const struct stat& seen,
                          Trust trust) {
  const StatKey key = KeyOf(seen);
  if (trust == Trust::kKeys && Trusted(path, key)) return;
  const auto known = known_.find(path);
  if (trust == Trust::kKeys && known != known_.end() && known->second.key == key) {
    state_.SetFile(path, {known->second.content, key, true, seen.st_nlink > 1});
    return;
  }
  const Fd file(openat(directory, LeafOf(path), kOpenFlags));
  if (file.valid()) return ReadFile(file, path, seen.st_nlink > 1);
  if (IsGone(errno)) return Drop(path);
  if (errno == EACCES) return SetOdd(path, Oddity::kUnreadable);
  if (errno == ENXIO) return SetOdd(path, Oddity::kSpecial);
  Fail(path, errno);
}

// A link that the mount follows is its target's bytes. Its target may lie where nobody watches, and
// what keeps it from being followed may end there: each Refresh looks again.
void HostTree::Follow(int directory, const std::string& path, Trust trust) {
  const Fd target = OpenTarget(directory, path);
  struct stat seen;
  if (!target.valid() || fstat(target.get(), &seen) != 0 || !S_ISREG(seen.st_mode))
    return SetOdd(path, Oddity::kLink, true);
  if (LeadsToSecret(target)) return SetOdd(path, Oddity::kSecret, true);
  if (trust == Trust::kKeys && Trusted(path, KeyOf(seen))) return;
  // Only now for reading: opening a device for reading may do things to it.
  const std::string name = "/proc/self/fd/" + std::to_string(target.get());
  const Fd file(open(name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file.valid()) return SetOdd(path, Oddity::kUnreadable, true);
  ReadFile(file, path, true);
}

Fd HostTree::OpenTarget(int directory, const std::string& path) const {
  if (mount_.links == LinkPolicy::kInside) return OpenTargetBeneath(root_.fd(), path);
  return Fd(openat(directory, LeafOf(path), O_PATH | O_CLOEXEC));
}

void HostTree::ReadFile(const Fd& file, const std::string& path, bool apart) {
  const int64_t begin = clock_.NowWall().time_since_epoch().count();
  FileBytes read;
  const int error = ReadVersion(file.get(), mount_.max_file_bytes, &read);
  if (error == EFBIG) return SetOdd(path, Oddity::kTooBig, apart);
  if (error == ENXIO) return SetOdd(path, Oddity::kSpecial, apart);
  if (error != 0) return Fail(path, error);
  const int64_t racy = watching() || root_.only() ? kRacyNs : kRacyElsewhereNs;
  const bool trusted = read.settled && begin - read.key.Newest() >= racy;
  if (!read.settled) unsettled_.insert(path);
  watch_.Forget(path);
  state_.SetFile(path, {read.content, read.key, trusted, apart || read.linked});
  if (const absl::Status limits = CheckLimits(); !limits.ok()) failure_.Update(limits);
}

void HostTree::Fail(const std::string& path, int error) {
  failure_.Update(Error(Reason::k_SYNC_FAILED,
                        "cannot look at " + root_.path() + ": " +
                            std::string(ErrnoStatus(error, "reading it").message()),
                        {{"path", path}}));
}

void HostTree::SetOdd(const std::string& path, Oddity oddity, bool apart) {
  watch_.Forget(path);
  state_.SetOdd(path, oddity, apart);
  if (const absl::Status limits = CheckLimits(); !limits.ok()) failure_.Update(limits);
}

void HostTree::Drop(const std::string& path) {
  watch_.Forget(path);
  state_.Drop(path);
}

// Of what is ignored the names of secrets alone are told: nobody has asked for that.
bool HostTree::IsWithheld(const std::string& path) const {
  return withholds_ && NamedLikeSecret(LeafOf(path));
}

// Another name makes no other file of it. How the root itself is called says nothing.
bool HostTree::LeadsToSecret(const Fd& target) const {
  if (!withholds_) return false;
  std::error_code error;
  const std::string path =
      std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(target.get()), error);
  std::string_view rest = path;
  if (rest.starts_with(root_.path() + "/")) rest.remove_prefix(root_.path().size());
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('/'), rest.size());
    if (NamedLikeSecret(rest.substr(0, end))) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

bool HostTree::Trusted(const std::string& path, const StatKey& key) const {
  const TreeState::File* file = state_.Find(path);
  return file != nullptr && file->trusted && file->key == key;
}

// Of what may change without a notice. What cannot be followed or read has no key: it is never the
// same.
bool HostTree::SameApart(const std::string& path) const {
  struct stat seen;
  if (fstatat(root_.fd(), path.c_str(), &seen, AT_SYMLINK_NOFOLLOW) != 0) return false;
  if (S_ISLNK(seen.st_mode)) {
    const Fd parent = OpenBeneath(root_.fd(), ParentOf(path));
    const Fd target = OpenTarget(parent.get(), path);
    if (fstat(target.get(), &seen) != 0) return false;
  }
  const auto odd = manifest().oddities.find(path);
  if (odd == manifest().oddities.end()) return Trusted(path, KeyOf(seen));
  return odd->second == Oddity::kTooBig && S_ISREG(seen.st_mode) &&
         static_cast<uint64_t>(seen.st_size) > mount_.max_file_bytes;
}

absl::Status HostTree::CheckLimits() const {
  const auto over = [this](std::string_view what) {
    return Error(Reason::k_SYNC_FAILED,
                 root_.path() + " exceeds the mount's limit of " + std::string(what));
  };
  if (manifest().files.size() > mount_.max_files) return over("files");
  if (manifest().oddities.size() > mount_.max_files) return over("things that cannot travel");
  if (state_.directories() > mount_.max_files) return over("directories, which is that of files");
  if (state_.bytes() > mount_.max_bytes) return over("bytes");
  return absl::OkStatus();
}

}  // namespace hermes::sync
