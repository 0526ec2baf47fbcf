#include "tests/sync/sync_stand.h"

#include <algorithm>
#include <filesystem>

#include "sync/bundle.h"
#include "tests/sync/process.h"

namespace hermes::sync {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::string> Foreign(std::map<std::string, std::string> files) {
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

SyncStand::SyncStand() : dir_(fs::canonical(temp_.path()).string()) {
  for (const char* name : {"/host", "/far", "/bases", "/quarantine"})
    fs::create_directory(dir_ + name);
  NewDaemon();
}

void SyncStand::NewDaemon() {
  Close();
  pairs_ = std::make_unique<MountPairs>(
      MountPairs::Deps{loop_, clock_, workers_, fs_, locks_, {}, dir_ + "/bases"});
}

void SyncStand::Close() {
  manager_.reset();
  far_ = nullptr;
}

std::unique_ptr<SyncManager> SyncStand::MakeManager(std::vector<Mount> mounts, std::string session,
                                                    DirTree** far) {
  for (Mount& mount : mounts) {
    if (mount.host_root.empty()) mount.host_root = dir_ + "/host";
    if (mount.remote_root.empty()) mount.remote_root = dir_ + "/far";
    if (mount.id.empty()) mount.id = "far";
  }
  SyncManager::Setup setup{.session_id = std::move(session), .place = "here", .mounts = mounts};
  setup.lock_file = lock_file_;
  setup.new_tree = [&, i = size_t{0}]() mutable {
    const std::string& root = mounts[i++].remote_root;
    auto tree = std::make_unique<DirTree>(fs::is_regular_file(mounts[i - 1].host_root)
                                              ? fs::path(root).parent_path().string()
                                              : root);
    if (far != nullptr) *far = tree.get();
    return tree;
  };
  SyncDeps deps{
      loop_, clock_, random_, workers_, fs_, locks_, *pairs_, FindUnpack(), dir_ + "/quarantine",
      {}};
  absl::StatusOr<std::unique_ptr<SyncManager>> made =
      Run(SyncManager::Open(std::move(deps), std::move(setup)));
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *std::move(made) : nullptr;
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

absl::StatusOr<SyncReport> SyncStand::Revert(std::string id) {
  heard_ = {};
  return Run(manager_->Revert(std::move(id), &heard_));
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

std::map<std::string, std::string> SyncStand::HostFiles() const {
  return Foreign(FilesBelow(dir_ + "/host"));
}

std::map<std::string, std::string> SyncStand::FarFiles() const {
  return Foreign(FilesBelow(dir_ + "/far"));
}

}  // namespace hermes::sync
