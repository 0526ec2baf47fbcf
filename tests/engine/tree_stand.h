#pragma once

// What tests of RemoteTrees stand on: a host's directory, a far one, and a sandbox whose streams
// are real shells on this machine. Test thread only.

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "backends/backend.h"
#include "backends/engine/remote_tree.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"
#include "sync/manifest.h"
#include "sync/remote_tree.h"
#include "tests/fakes/temp_dir.h"
#include "tests/runtime/run.h"

namespace hermes {

// A machine whose `sh` and tools are these.
struct Userland {
  std::string name;
  std::string shell;     // what its `sh` is
  bool busybox = false;  // all tools are its applets, and there are no others
};
inline void PrintTo(const Userland& userland, std::ostream* out) { *out << userland.name; }
const std::vector<Userland>& Userlands();
std::string NameOfUserland(const testing::TestParamInfo<Userland>& info);

class ShellSandbox : public Sandbox {
 public:
  ShellSandbox(Loop& loop, const Userland& userland, std::string home);

  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string boot_line, Lane lane,
                                                           WishPtr wish) override;
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr wish) override;
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane lane, WishPtr wish) override;
  std::string place_key() const override { return "tree"; }
  std::string handle() const override { return ""; }
  Task<absl::Status> Close(bool destroy) override;

  int streams = 0;       // opened so far
  uint64_t written = 0;  // over all streams
  std::optional<Lane> lane;
  // The next stream's input ends after so many bytes, as if the connection broke.
  std::optional<uint64_t> cut_after;
  std::set<std::string> without;   // tools that are missing there; empty: all are there
  std::string before = {};         // said by a login shell before anything else
  std::vector<std::string> words;  // before the shell: as another account, in another namespace

 private:
  std::string BinWithout() const;

  Loop& loop_;
  const std::string bin_;
  const std::string home_;
};

// A push's bytes by index.
class Bytes : public sync::BlobSource {
 public:
  Task<Blob> Read(size_t index) override;

  std::vector<std::string> files;
  std::optional<size_t> fails;  // of this one it tells at the end that it changed
  std::vector<size_t> reads;    // indices, in order, each once

 private:
  size_t index_ = SIZE_MAX;
  size_t at_ = 0;
};

class TreeStand : public testing::TestWithParam<Userland> {
 protected:
  void SetUp() override;

  // Made on first use.
  sync::RemoteTree& tree();
  ShellSandbox& sandbox();

  std::string Far(std::string_view name = "") const;
  void Write(const std::string& path, std::string_view bytes, bool executable = false) const;
  static std::string Read(const std::string& path);

  // The far side runs as an account that is not root, and all that is there now belongs to it.
  void LeaveRoot();

  // What the host's own code finds below a directory.
  sync::Manifest HostManifest(const std::string& path, std::vector<std::string> ignore = {},
                              uint64_t max_file_bytes = UINT64_MAX);

  absl::StatusOr<sync::RemoteLook> Look(std::optional<sync::Digest> expected = {});
  sync::RemoteLook MustLook();

  struct Change {
    std::string name;
    std::optional<std::string> expected;
    std::optional<std::string> wanted;
    bool executable = false;
    bool was_executable = false;
  };
  sync::RemoteApply ApplyOf(const std::vector<Change>& changes);
  absl::StatusOr<sync::RemoteApplied> Apply(sync::RemoteApply apply);
  absl::StatusOr<sync::RemoteApplied> Apply(const std::vector<Change>& changes);
  // One letter for each change: p, c or f; or the error.
  std::string Placed(const std::vector<Change>& changes);

  static std::vector<sync::RelPath> Paths(const std::vector<std::string>& names);
  template <typename T>
  T Await(Task<T> task) {
    return RunTask(loop_, std::move(task));
  }
  absl::StatusOr<std::string> Fetch(const std::vector<std::string>& names);
  // Name -> bytes of the archive, read by GNU tar.
  std::map<std::string, std::string> Unpacked(std::string_view tar);

  sync::RemoteRoot root_;
  Bytes bytes_;
  std::string known_epoch_;  // of the next applies
  TempDir dir_;
  std::string base_;
  Loop loop_;
  SystemClock clock_{loop_};
  SystemRandom random_;

 private:
  std::shared_ptr<ShellSandbox> sandbox_;
  std::unique_ptr<sync::RemoteTree> tree_;
};

}  // namespace hermes
