#include "tests/sync/sync_stand.h"

#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "sync/bundle.h"
#include "tests/sync/process.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

Files Foreign(Files files) {
  std::erase_if(files,
                [](const auto& file) { return file.first.find(".hermesd") != std::string::npos; });
  return files;
}

}  // namespace

const SyncEntry& Heard::Of(std::string_view path) const {
  static const SyncEntry kNone;
  const auto is = [path](const SyncEntry& entry) { return entry.path == path; };
  EXPECT_EQ(std::count_if(entries.begin(), entries.end(), is), 1) << path;
  const auto found = std::find_if(entries.begin(), entries.end(), is);
  return found == entries.end() ? kNone : *found;
}

SyncStand::SyncStand(RealRoot::Where where)
    : temp_(std::in_place, where), dir_(fs::canonical(temp_->path()).string()) {
  Empty();
}

SyncStand::SyncStand(const std::string& dir) : dir_(dir) { NewDaemon(); }

void SyncStand::Empty() {
  NewDaemon();
  for (const char* name : {"/host", "/far", "/bases", "/quarantine"}) {
    fs::remove_all(dir_ + name);
    fs::create_directory(dir_ + name);
  }
}

void SyncStand::NewDaemon() {
  signal(SIGPIPE, SIG_IGN);  // as a daemon does
  Close();
  pairs_ = std::make_unique<MountPairs>(
      MountPairs::Deps{loop_, clock_, workers_, *landing_fs_, locks_, {}, dir_ + "/bases"});
}

void SyncStand::Close() {
  manager_.reset();
  far_ = nullptr;
}

std::unique_ptr<SyncManager> SyncStand::MakeManager(std::vector<Mount> mounts, std::string session,
                                                    DirTree** far) {
  absl::StatusOr<std::unique_ptr<SyncManager>> made =
      TryManager(std::move(mounts), std::move(session), far);
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *std::move(made) : nullptr;
}

absl::StatusOr<std::unique_ptr<SyncManager>> SyncStand::TryManager(std::vector<Mount> mounts,
                                                                   std::string session,
                                                                   DirTree** far) {
  for (Mount& mount : mounts) {
    if (mount.host_root.empty()) mount.host_root = dir_ + "/host";
    if (mount.remote_root.empty()) mount.remote_root = dir_ + "/far";
    if (mount.id.empty()) mount.id = "far";
  }
  SyncManager::Setup setup{.session_id = std::move(session), .place = "here", .mounts = mounts};
  setup.lock_file = lock_file_;
  setup.home = far_home_;
  setup.here = far_is_here_;
  setup.min_interval = min_interval_;
  setup.new_tree = [&, i = size_t{0}]() mutable {
    const std::string& root = mounts[i++].remote_root;
    auto tree = std::make_unique<DirTree>(fs::is_regular_file(mounts[i - 1].host_root)
                                              ? fs::path(root).parent_path().string()
                                              : root);
    if (far != nullptr) *far = tree.get();
    return tree;
  };
  SyncDeps deps{.loop = loop_,
                .clock = clock_,
                .random = random_,
                .workers = workers_,
                .fs = *landing_fs_,
                .locks = locks_,
                .pairs = *pairs_,
                .unpack_program = FindUnpack(),
                .quarantine_dir = dir_ + "/quarantine",
                .undo = {},
                .conflicts = &conflicts_,
                .drift = &drift_};
  return Run(SyncManager::Open(std::move(deps), std::move(setup)));
}

SyncManager& SyncStand::Open(Mount mount) {
  Close();
  manager_ = MakeManager({std::move(mount)}, "session", &far_);
  return *manager_;
}

absl::StatusOr<SyncReport> SyncStand::Push(PushRequest request) {
  heard_ = {};
  if (request.listener == nullptr) request.listener = &heard_;
  return Run(manager_->Push(std::move(request)));
}

absl::StatusOr<SyncReport> SyncStand::Pull(PullRequest request) {
  heard_ = {};
  if (request.listener == nullptr) request.listener = &heard_;
  if (request.id.empty()) request.id = NextId();
  return Run(manager_->Pull(std::move(request)));
}

absl::StatusOr<SyncReport> SyncStand::Revert(std::string id, WishPtr wish) {
  heard_ = {};
  return Run(manager_->Revert(std::move(id), std::move(wish), &heard_));
}

void SyncStand::MustPush(PushRequest request) {
  const absl::StatusOr<SyncReport> report = Push(std::move(request));
  ASSERT_TRUE(report.ok()) << report.status();
}

SyncReport SyncStand::MustPull(PullRequest request) {
  absl::StatusOr<SyncReport> report = Pull(std::move(request));
  EXPECT_TRUE(report.ok()) << report.status();
  return report.ok() ? *std::move(report) : SyncReport();
}

void SyncStand::Agree(const Files& files, Mount mount) {
  for (const auto& [name, bytes] : files) WriteHost(name, bytes);
  Open(std::move(mount));
  MustPush();
  ASSERT_EQ(FarFiles(), files);
}

Task<void> SyncStand::PushWithin() {
  const absl::StatusOr<SyncReport> report = co_await manager_->Push({});
  EXPECT_TRUE(report.ok()) << report.status();
}

void SyncStand::WriteHost(std::string_view name, std::string_view bytes) const {
  Spit(Host(name), bytes);
}

void SyncStand::WriteFar(std::string_view name, std::string_view bytes) const {
  Spit(Far(name), bytes);
}

Files SyncStand::HostFiles() const { return Foreign(FilesBelow(dir_ + "/host")); }

Files SyncStand::FarFiles() const { return Foreign(FilesBelow(dir_ + "/far")); }

bool SyncStand::IsKept(std::string_view bytes) const {
  const Files files = FilesBelow(dir_ + "/host");
  return std::any_of(files.begin(), files.end(), [bytes](const auto& file) {
    return file.first.starts_with(".hermesd-stage/") && file.second == bytes;
  });
}

}  // namespace hermes::sync
