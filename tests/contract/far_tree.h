#pragma once

// A mount's far root in a contract test: what its RemoteTree is asked, and what a command finds
// there. Test thread only.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sync/remote_tree.h"
#include "tests/contract/driver.h"

namespace hermes::contract {

struct FarChange {
  std::string name;
  std::optional<std::string> expected = {};
  std::optional<std::string> wanted = {};
  bool executable = false;
  bool was_executable = false;
};

class FarTree : public sync::BlobSource {
 public:
  // In a new directory over there, which goes with it. `tree`: null: the engine's.
  FarTree(World& world, TestSession& session, std::unique_ptr<sync::RemoteTree> tree = nullptr);
  ~FarTree() override;
  // The same directory at level B.
  std::unique_ptr<FarTree> WithAShell();

  // One letter for each change; or the reason of the error.
  std::string Apply(const std::vector<FarChange>& changes);
  std::string Apply(sync::RemoteApply apply);
  sync::RemoteApply Request(const std::vector<FarChange>& changes);
  Task<absl::StatusOr<sync::RemoteApplied>> Applying(sync::RemoteApply apply) {
    return tree_->Apply(std::move(apply));
  }

  sync::RemoteLook Look(std::optional<sync::Digest> expected = {});
  // Name -> bytes.
  std::map<std::string, std::string> Fetch(const std::vector<std::string>& names);

  // What a command says that runs in the root.
  std::string In(const std::string& script);

  Task<Blob> Read(size_t index) override;

  sync::RemoteRoot root;
  std::string found_epoch;                   // by the last Apply
  std::function<void(size_t index)> before;  // is called before a file is read
  std::optional<size_t> fails;               // this file changes while it is read

 private:
  FarTree(const FarTree& other, std::unique_ptr<sync::RemoteTree> tree);

  World& world_;
  TestSession& session_;
  std::unique_ptr<sync::RemoteTree> tree_;
  std::string made_;  // directory to remove; empty: another one's
  std::vector<std::string> files_;
  size_t index_ = SIZE_MAX;
  size_t at_ = 0;
};

}  // namespace hermes::contract
