#pragma once

// A directory to watch, and a second way to say what is in it.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>

#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "sync/host_root.h"
#include "sync/host_tree.h"
#include "tests/fakes/temp_dir.h"

namespace hermes::sync {

inline void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline Content Bytes(std::string_view bytes, bool executable = false) {
  return {DigestOf(bytes), bytes.size(), executable};
}

class HostTreeStand {
 public:
  HostTreeStand() {
    std::filesystem::create_directory(outside_);
    std::filesystem::create_directory(root_path_);
    mount_.host_root = root_path_;
    mount_.remote_root = "/r";
    mount_.policy = Policy::kPush;
  }

  // Opens the root and the tree; call again after a change of mount_.
  void Open(size_t max_watches = kMaxWatches, std::map<std::string, KnownFile> known = {}) {
    tree_.reset();
    absl::StatusOr<HostRoot> root = HostRoot::Open(mount_, {});
    ASSERT_TRUE(root.ok()) << root.status();
    root_.emplace(*std::move(root));
    tree_.emplace(HostTree::Setup{.root = &*root_,
                                  .clock = &clock_,
                                  .mount = mount_,
                                  .known = std::move(known),
                                  .max_watches = max_watches});
  }

  std::string At(const std::string& name) const { return root_path_ + "/" + name; }
  std::string Outside(const std::string& name) const { return outside_ + "/" + name; }
  void Write(const std::string& name, std::string_view bytes) const {
    std::filesystem::create_directories(std::filesystem::path(At(name)).parent_path());
    WriteFile(At(name), bytes);
  }

  // The manifest after a Refresh.
  const Manifest& Now(Effort effort = Effort::kChanges) {
    const absl::Status status = tree_->Refresh(effort);
    EXPECT_TRUE(status.ok()) << status;
    return tree_->manifest();
  }

  // What there is, read anew by other means; regular files only.
  FileMap Truth() const {
    FileMap files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root_path_)) {
      if (!std::filesystem::is_regular_file(entry.symlink_status())) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string bytes((std::istreambuf_iterator<char>(file)), {});
      const bool executable = (entry.status().permissions() & std::filesystem::perms::owner_exec) !=
                              std::filesystem::perms::none;
      files.emplace(*RelPath::Parse(entry.path().string().substr(root_path_.size() + 1)),
                    Bytes(bytes, executable));
    }
    return files;
  }

  Mount mount_;
  std::optional<HostTree> tree_;

 private:
  TempDir dir_;
  std::string base_ = std::filesystem::canonical(dir_.path()).string();
  std::string root_path_ = base_ + "/root";
  std::string outside_ = base_ + "/outside";
  Loop loop_;
  SystemClock clock_{loop_};
  std::optional<HostRoot> root_;
};

}  // namespace hermes::sync
