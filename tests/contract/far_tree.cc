#include "tests/contract/far_tree.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "backends/engine/remote_tree.h"
#include "daemon/runtime/status.h"
#include "tests/fakes/temp_dir.h"

namespace hermes::contract {
namespace {

constexpr size_t kPiece = 100'000;
constexpr Duration kTreePatience = std::chrono::seconds(120);

std::string ReasonName(const absl::Status& status) {
  const std::optional<Reason> reason = ReasonOf(status);
  return reason ? std::string(InfoOf(*reason).name) : status.ToString();
}

}  // namespace

FarTree::FarTree(World& world, TestSession& session, std::unique_ptr<sync::RemoteTree> tree)
    : world_(world),
      session_(session),
      tree_(tree != nullptr ? std::move(tree) : session.engine->NewRemoteTree()) {
  made_ = world_.Run(session_, std::string("mktemp -d -p /dev/shm || mktemp -d"))->out;
  EXPECT_TRUE(made_.starts_with('/') && made_.ends_with('\n')) << made_;
  made_.pop_back();
  root.path = made_ + "/far";
}

FarTree::FarTree(const FarTree& other, std::unique_ptr<sync::RemoteTree> tree)
    : root(other.root), world_(other.world_), session_(other.session_), tree_(std::move(tree)) {}

FarTree::~FarTree() {
  if (made_.empty()) return;
  const RunPtr run = world_.Start(session_, "rm -rf " + made_);
  world_.WaitEnd(run, kTreePatience);
}

std::unique_ptr<FarTree> FarTree::WithAShell() {
  return std::unique_ptr<FarTree>(
      new FarTree(*this, MakeShellTree({world_.clock, world_.random}, session_.sandbox)));
}

sync::RemoteApply FarTree::Request(const std::vector<FarChange>& changes) {
  sync::RemoteApply apply{.root = root, .epoch = "0123456789abcdef", .source = this};
  files_.clear();
  index_ = SIZE_MAX;
  for (const FarChange& change : changes) {
    sync::RemoteChange made{.path = *sync::RelPath::Parse(change.name)};
    if (change.expected)
      made.expected = {sync::DigestOf(*change.expected), change.expected->size(),
                       change.was_executable};
    if (change.wanted)
      made.wanted = {sync::DigestOf(*change.wanted), change.wanted->size(), change.executable};
    apply.changes.push_back(std::move(made));
    files_.push_back(change.wanted.value_or(""));
  }
  return apply;
}

std::string FarTree::Apply(sync::RemoteApply apply) {
  const absl::StatusOr<sync::RemoteApplied> applied =
      world_.Await(Applying(std::move(apply)), kTreePatience);
  if (!applied.ok()) return ReasonName(applied.status());
  found_epoch = applied->epoch;
  std::string letters;
  for (sync::Placed placed : applied->placed) letters.push_back(static_cast<char>(placed));
  return letters;
}

std::string FarTree::Apply(const std::vector<FarChange>& changes) {
  return Apply(Request(changes));
}

sync::RemoteLook FarTree::Look(std::optional<sync::Digest> expected) {
  absl::StatusOr<sync::RemoteLook> look = world_.Await(tree_->Look(root, expected), kTreePatience);
  EXPECT_TRUE(look.ok()) << look.status();
  return look.ok() ? *std::move(look) : sync::RemoteLook{};
}

std::map<std::string, std::string> FarTree::Fetch(const std::vector<std::string>& names) {
  struct Taker {
    std::string bytes;
    Task<absl::Status> Take(std::string_view piece) {
      bytes.append(piece);
      co_return absl::OkStatus();
    }
  } taker;
  std::vector<sync::RelPath> paths;
  for (const std::string& name : names) paths.push_back(*sync::RelPath::Parse(name));
  const absl::Status fetched = world_.Await(
      tree_->Fetch(root, {paths}, [&](std::string_view piece) { return taker.Take(piece); }),
      kTreePatience);
  EXPECT_TRUE(fetched.ok()) << fetched;
  TempDir to;
  std::ofstream(to.path() + "/.tar", std::ios::binary) << taker.bytes;
  EXPECT_EQ(std::system(("cd " + to.path() + " && tar -xf .tar && rm .tar").c_str()), 0);
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(to.path())) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    files[entry.path().string().substr(to.path().size() + 1)] =
        std::string(std::istreambuf_iterator<char>(file), {});
  }
  return files;
}

std::string FarTree::In(const std::string& script) {
  return world_.Run(session_, "cd " + root.path + " && { " + script + "\n}")->out;
}

Task<sync::BlobSource::Blob> FarTree::Read(size_t index) {
  if (index != index_) {
    index_ = index;
    at_ = 0;
    if (before) before(index);
  }
  const std::string_view part = std::string_view(files_[index]).substr(at_, kPiece);
  at_ += part.size();
  co_return Blob{.bytes = std::string(part), .failed = part.empty() && fails == index};
}

}  // namespace hermes::contract
