#pragma once

// Everything that a SyncManager stands on, real but for the far end, which is a directory
// (DirTree).

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>

#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "daemon/runtime/status.h"
#include "daemon/runtime/workers.h"
#include "sync/manager.h"
#include "sync/real_fs.h"
#include "tests/sync/dir_tree.h"
#include "tests/sync/land_stand.h"

namespace hermes::sync {

using Files = std::map<std::string, std::string>;  // name -> bytes

inline Task<void> Nothing() { co_return; }

// Remembers what a sync told.
struct Heard : public SyncListener {
  void OnPhase(std::string_view phase) override { phases.emplace_back(phase); }
  void OnProgress(const SyncProgress& now) override { progress = now; }
  void OnEntry(const SyncEntry& entry) override { entries.push_back(entry); }
  // The only entry of this path.
  const SyncEntry& Of(std::string_view path) const;

  std::vector<std::string> phases;
  SyncProgress progress;
  std::vector<SyncEntry> entries;
};

// Waits a hundredth of what is asked for.
class HastyClock : public SystemClock {
 public:
  using SystemClock::SystemClock;
  SteadyTime Now() const override { return SystemClock::Now() + ahead; }
  std::unique_ptr<Alarm> At(SteadyTime when, absl::AnyInvocable<void()> due) override {
    asked.push_back(when - Now());
    return SystemClock::At(SystemClock::Now() + (when - Now()) / 100, std::move(due));
  }

  Duration ahead{0};  // of the real one
  std::vector<Duration> asked;
};

class SyncStand : public ::testing::Test {
 protected:
  explicit SyncStand(RealRoot::Where where = RealRoot::Where::kDisk);
  // In a directory where another one has been, which stays.
  explicit SyncStand(const std::string& dir);

  // A session with this mount: host/ and far/ below the stand, unless the mount names other roots.
  SyncManager& Open(Mount mount = {});
  SyncManager& manager() { return *manager_; }
  DirTree& far() { return *far_; }
  std::unique_ptr<SyncManager> MakeManager(std::vector<Mount> mounts, std::string session,
                                           DirTree** far = nullptr);
  absl::StatusOr<std::unique_ptr<SyncManager>> TryManager(std::vector<Mount> mounts,
                                                          std::string session,
                                                          DirTree** far = nullptr);
  void Close();      // the session ends, the pair with it
  void NewDaemon();  // nothing is left but what is on disk
  void Empty();      // a new daemon, and nothing is on disk

  absl::StatusOr<SyncReport> Push(PushRequest request = {});
  absl::StatusOr<SyncReport> Pull(PullRequest request = {});
  absl::StatusOr<SyncReport> Revert(std::string id, WishPtr wish = {});
  void MustPush(PushRequest request = {});
  SyncReport MustPull(PullRequest request = {});
  // Both sides hold this and agree on it.
  void Agree(const Files& files, Mount mount = {});
  Task<void> PushWithin();  // while another call runs
  template <typename T>
  T Run(Task<T> task) {
    std::optional<T> result;
    asio::co_spawn(loop_.executor(), std::move(task), [&](std::exception_ptr failed, T got) {
      if (failed) std::rethrow_exception(failed);
      result = std::move(got);
      loop_.Stop();
    });
    loop_.Run();
    return *std::move(result);
  }

  std::string Host(std::string_view name) const { return dir_ + "/host/" + std::string(name); }
  std::string Far(std::string_view name) const { return dir_ + "/far/" + std::string(name); }
  void WriteHost(std::string_view name, std::string_view bytes) const;
  void WriteFar(std::string_view name, std::string_view bytes) const;
  // Without what is ours.
  Files HostFiles() const;
  Files FarFiles() const;
  // Some version in the host's undo store has these bytes.
  bool IsKept(std::string_view bytes) const;
  std::string NextId() { return "y" + std::to_string(++ids_); }

  std::optional<RealRoot> temp_;
  const std::string dir_;
  Loop loop_;
  HastyClock clock_{loop_};
  SeededRandom random_{1};
  ThreadWorkers workers_{loop_, 2};
  RealFs fs_;
  Fs* landing_fs_ = &fs_;  // what the next daemon and manager land with
  SyncLocks locks_;
  std::string lock_file_;
  std::string far_home_;
  bool far_is_here_ = false;
  Duration min_interval_{0};
  Heard heard_;             // of the last call
  uint64_t conflicts_ = 0;  // as the daemon counts them
  uint64_t drift_ = 0;
  std::unique_ptr<MountPairs> pairs_;
  std::unique_ptr<SyncManager> manager_;
  DirTree* far_ = nullptr;

 private:
  int ids_ = 0;
};

}  // namespace hermes::sync
