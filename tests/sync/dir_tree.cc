#include "tests/sync/dir_tree.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/status.h"
#include "sync/host_root.h"
#include "sync/host_tree.h"
#include "sync/tar_writer.h"
#include "tests/sync/process.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

// What is in the directory, by the means of the host's own look.
absl::StatusOr<Manifest> ManifestOf(const std::string& directory, const RemoteRoot& root) {
  Mount mount;
  mount.host_root = root.only ? directory + "/" + root.only->str() : directory;
  mount.remote_root = mount.host_root;
  mount.policy = Policy::kPush;
  mount.ignore = root.ignore;
  mount.max_file_bytes = root.max_file_bytes;
  if (root.only && !fs::exists(fs::symlink_status(mount.host_root))) return Manifest();
  ASSIGN_OR_RETURN(const HostRoot there, HostRoot::Open(mount, {}));
  Loop loop;
  const SystemClock clock(loop);
  HostTree tree({.root = &there, .clock = &clock, .mount = mount, .max_watches = 0});
  RETURN_IF_ERROR(tree.Refresh(Effort::kBytes));
  Manifest manifest = tree.manifest();
  // No far end tells of what it was asked to ignore.
  std::erase_if(manifest.oddities, [](const auto& odd) { return odd.second == Oddity::kSecret; });
  return manifest;
}

MaybeContent ContentAt(const std::string& path) {
  struct stat seen;
  if (lstat(path.c_str(), &seen) != 0) return std::nullopt;
  if (!S_ISREG(seen.st_mode)) return Content{};
  const std::string bytes = Slurp(path);
  return Content{DigestOf(bytes), bytes.size(), (seen.st_mode & 0100) != 0};
}

}  // namespace

std::string DirTree::EpochPath(const RemoteRoot& root) const {
  return root_ + "/.hermesd-epoch" + (root.only ? "-" + root.only->str() : "");
}

Task<absl::StatusOr<RemoteLook>> DirTree::Look(RemoteRoot root, std::optional<Digest> expected) {
  ++looks;
  wish = root.wish;
  if (hooks.before) CO_RETURN_IF_ERROR(hooks.before("look"));
  RemoteLook look;
  look.exists = fs::exists(root_);
  if (look.exists) {
    CO_ASSIGN_OR_RETURN(look.manifest, ManifestOf(root_, root));
    look.epoch = Slurp(EpochPath(root));
  }
  look.digest = ManifestDigest(look.manifest.files);
  look.same = look.digest == expected;
  if (look.same) look.manifest.files.clear();
  lists += look.same ? 0 : 1;
  if (hooks.look) hooks.look(&look);
  co_return look;
}

Placed DirTree::Place(const RemoteApply& apply, const RemoteChange& change, std::string bytes,
                      bool good) {
  const std::string path = root_ + "/" + change.path.str();
  const MaybeContent there = ContentAt(path);
  if (there == change.wanted) return Placed::kDone;
  if (!good) return Placed::kFailed;
  if (there && there != change.expected) return Placed::kConflict;
  if (!change.wanted) {
    fs::remove(path);
    for (fs::path up = fs::path(path).parent_path(); up != root_ && fs::is_empty(up);
         up = up.parent_path())
      fs::remove(up);
    return Placed::kDone;
  }
  std::error_code failed;
  fs::create_directories(fs::path(path).parent_path(), failed);
  if (failed == std::errc::not_a_directory) return Placed::kConflict;
  if (failed) return Placed::kFailed;
  Spit(path + ".new", bytes);
  const mode_t mode = apply.secret ? 0600 : change.wanted->executable ? 0755 : 0644;
  if (chmod((path + ".new").c_str(), mode) != 0) return Placed::kFailed;
  const timespec times[] = {{0, UTIME_OMIT},
                            {change.mtime_ns / 1'000'000'000, change.mtime_ns % 1'000'000'000}};
  if (change.mtime_ns != 0) utimensat(AT_FDCWD, (path + ".new").c_str(), times, 0);
  return rename((path + ".new").c_str(), path.c_str()) == 0 ? Placed::kDone : Placed::kFailed;
}

Task<absl::StatusOr<RemoteApplied>> DirTree::Apply(RemoteApply apply) {
  ++applies;
  wish = apply.root.wish;
  if (hooks.before) CO_RETURN_IF_ERROR(hooks.before("apply"));
  if (hooks.follows && apply.on_follow) apply.on_follow("run-" + std::to_string(applies));
  if (hooks.within_apply) co_await hooks.within_apply();
  RemoteApplied applied;
  applied.epoch = Slurp(EpochPath(apply.root));
  if (!apply.known_epoch.empty() && applied.epoch != apply.known_epoch) {
    applied.placed.assign(apply.changes.size(), Placed::kFailed);
    co_return applied;
  }
  fs::create_directories(root_);
  for (size_t i = 0; i < apply.changes.size(); ++i) {
    const RemoteChange& change = apply.changes[i];
    sent.push_back(change.path.str());
    std::string bytes;
    bool good = true;
    while (change.wanted) {
      BlobSource::Blob blob = co_await apply.source->Read(i);
      bytes += blob.bytes;
      good = !blob.failed;
      if (blob.bytes.empty()) break;
    }
    sent_bytes += bytes.size();
    good = good && (!change.wanted || DigestOf(bytes) == change.wanted->digest);
    applied.placed.push_back(Place(apply, change, std::move(bytes), good));
  }
  if (!apply.epoch.empty()) Spit(EpochPath(apply.root), apply.epoch);
  if (hooks.after_apply) CO_RETURN_IF_ERROR(hooks.after_apply());
  co_return applied;
}

Task<absl::Status> DirTree::Fetch(RemoteRoot root, Wanted wanted, TakeBytes take) {
  wish = root.wish;
  if (hooks.before) CO_RETURN_IF_ERROR(hooks.before("fetch"));
  if (hooks.within_fetch) co_await hooks.within_fetch();
  if (hooks.stream && wanted.names.size() < hooks.stream_names) co_return co_await take(TarEnd());
  if (hooks.stream) {
    absl::Status taken = co_await take(*hooks.stream);
    if (taken.ok() && hooks.behind_stream) co_await hooks.behind_stream(root.wish);
    co_return taken;
  }
  asked.push_back(wanted.names.size());
  for (const RelPath& name : wanted.names) {
    if (hooks.cut_after && fetched.size() == *hooks.cut_after)
      co_return Error(Reason::k_BACKEND_UNREACHABLE, "cut");
    fetched.push_back(name.str());
    const std::string path = root_ + "/" + name.str();
    const MaybeContent content = ContentAt(path);
    if (!content) continue;
    const std::string bytes = Slurp(path);
    CO_RETURN_IF_ERROR(co_await take(TarHeader(
        {.name = name, .size = bytes.size(), .mode = content->executable ? 0755u : 0644u})));
    if (!bytes.empty()) CO_RETURN_IF_ERROR(co_await take(bytes));
    if (!TarPadding(bytes.size()).empty())
      CO_RETURN_IF_ERROR(co_await take(TarPadding(bytes.size())));
  }
  co_return co_await take(TarEnd());
}

}  // namespace hermes::sync
