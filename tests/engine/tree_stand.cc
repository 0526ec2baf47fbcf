#include "tests/engine/tree_stand.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <utility>

#include "backends/local/fd_stream.h"
#include "daemon/runtime/child.h"
#include "daemon/runtime/status.h"
#include "sync/host_root.h"
#include "sync/host_tree.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;

// Ends what is written after some bytes.
class CutStream : public Stream {
 public:
  CutStream(std::unique_ptr<Stream> inner, ShellSandbox* owner, std::optional<uint64_t> left)
      : inner_(std::move(inner)), owner_(owner), left_(left) {}

  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) override {
    return inner_->ReadStdout(into);
  }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char> into) override {
    return inner_->ReadStderr(into);
  }
  Task<absl::Status> Write(std::string_view data) override {
    owner_->written += data.size();
    if (!left_) co_return co_await inner_->Write(data);
    data = data.substr(0, *left_);
    *left_ -= data.size();
    if (!data.empty()) CO_RETURN_IF_ERROR(co_await inner_->Write(data));
    if (*left_ == 0) inner_->CloseStdin();
    co_return absl::OkStatus();
  }
  void CloseStdin() override { inner_->CloseStdin(); }
  void Abort() override { inner_->Abort(); }
  Task<std::optional<End>> WaitEnd() override { return inner_->WaitEnd(); }

 private:
  const std::unique_ptr<Stream> inner_;
  ShellSandbox* const owner_;
  std::optional<uint64_t> left_;
};

void MakeBin(const Userland& userland, const std::string& bin) {
  fs::create_directories(bin);
  if (!userland.busybox) {
    fs::create_symlink(userland.shell, bin + "/sh");
    return;
  }
  const std::string list = bin + "/.list";
  ASSERT_EQ(std::system((userland.shell + " --list >" + list).c_str()), 0);
  std::ifstream applets(list);
  for (std::string applet; std::getline(applets, applet);)
    fs::create_symlink(userland.shell, bin + "/" + applet);
}

}  // namespace

const std::vector<Userland>& Userlands() {
  static const auto* const all = new std::vector<Userland>{
      {"Bash", "/bin/bash"}, {"Dash", "/bin/dash"}, {"Busybox", "/bin/busybox", true}};
  return *all;
}

std::string NameOfUserland(const testing::TestParamInfo<Userland>& info) { return info.param.name; }

ShellSandbox::ShellSandbox(Loop& loop, const Userland& userland, std::string home)
    : loop_(loop),
      bin_(home + "/bin:" + (userland.busybox ? "" : "/usr/bin:/bin")),
      home_(std::move(home)) {
  MakeBin(userland, home_ + "/bin");
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> ShellSandbox::OpenStream(std::string boot_line,
                                                                       Lane which, WishPtr wish) {
  ++streams;
  lane = which;
  ChildSpec spec;
  spec.argv = words;
  if (!before.empty()) boot_line = "printf %s '" + before + "'; " + boot_line;
  spec.argv.insert(spec.argv.end(), {"/bin/sh", "-c", std::move(boot_line)});
  spec.environment = {"PATH=" + (without.empty() ? bin_ : BinWithout()), "HOME=" + home_,
                      "LC_ALL=C.UTF-8"};
  spec.cwd = "/";
  Child::Pipes pipes;
  absl::StatusOr<std::unique_ptr<Child>> child = Child::Spawn(loop_, std::move(spec), &pipes);
  if (!child.ok()) co_return child.status();
  co_return std::make_unique<CutStream>(MakeChildStream(loop_, *std::move(child), pipes), this,
                                        std::exchange(cut_after, std::nullopt));
}

std::string ShellSandbox::BinWithout() const {
  const std::string bin = home_ + "/less";
  fs::remove_all(bin);
  fs::create_directory(bin);
  fs::create_symlink(home_ + "/bin/sh", bin + "/sh");
  for (const char* tool :
       {"cat", "cp", "chmod", "dd", "find", "mkdir", "mv", "openssl", "paste", "rm", "sed",
        "sha256sum", "shasum", "sort", "tar", "tr", "uniq", "wc", "xargs"}) {
    const std::string path = std::string("/usr/bin/") + tool;
    if (!without.contains(tool) && fs::exists(path)) fs::create_symlink(path, bin + "/" + tool);
  }
  return bin;
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> ShellSandbox::ConnectRunner(WishPtr wish) {
  co_return Error(Reason::k_CAPABILITY_MISSING, "there is no runner");
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> ShellSandbox::OpenFiles(Lane which, WishPtr wish) {
  co_return Error(Reason::k_CAPABILITY_MISSING, "there is no runner");
}

Task<absl::Status> ShellSandbox::Close(bool destroy) { co_return absl::OkStatus(); }

Task<sync::BlobSource::Blob> Bytes::Read(size_t index) {
  if (index != index_) {
    index_ = index;
    at_ = 0;
    reads.push_back(index);
  }
  const std::string_view part = std::string_view(files[index]).substr(at_, 100'000);
  at_ += part.size();
  co_return Blob{.bytes = std::string(part), .failed = part.empty() && fails == index};
}

void TreeStand::SetUp() {
  if (!fs::exists(GetParam().shell)) GTEST_SKIP() << "there is no " << GetParam().shell << " here";
  signal(SIGPIPE, SIG_IGN);  // as the daemon does
  base_ = fs::canonical(dir_.path()).string();
  fs::create_directory(base_ + "/home");
  root_.path = base_ + "/far";
}

ShellSandbox& TreeStand::sandbox() {
  if (!sandbox_) sandbox_ = std::make_shared<ShellSandbox>(loop_, GetParam(), base_ + "/home");
  return *sandbox_;
}

sync::RemoteTree& TreeStand::tree() {
  sandbox();
  if (!tree_) tree_ = MakeShellTree({.clock = clock_, .random = random_}, sandbox_);
  return *tree_;
}

std::string TreeStand::Far(std::string_view name) const {
  return base_ + "/far" + (name.empty() ? "" : "/") + std::string(name);
}

void TreeStand::Write(const std::string& path, std::string_view bytes, bool executable) const {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  chmod(path.c_str(), executable ? 0755 : 0644);
}

std::string TreeStand::Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void TreeStand::LeaveRoot() {
  if (geteuid() != 0) return;
  constexpr uid_t kNobody = 65534;
  fs::permissions(base_, static_cast<fs::perms>(0755));
  ASSERT_EQ(lchown(Far().c_str(), kNobody, kNobody), 0);
  for (const auto& entry : fs::recursive_directory_iterator(Far()))
    ASSERT_EQ(lchown(entry.path().c_str(), kNobody, kNobody), 0);
  sandbox().words = {"/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"};
}

sync::Manifest TreeStand::HostManifest(const std::string& path, std::vector<std::string> ignore,
                                       uint64_t max_file_bytes) {
  sync::Mount mount;
  mount.host_root = path;
  mount.remote_root = "/r";
  mount.policy = sync::Policy::kPush;
  mount.ignore = std::move(ignore);
  mount.max_file_bytes = max_file_bytes;
  absl::StatusOr<sync::HostRoot> root = sync::HostRoot::Open(mount, {});
  EXPECT_TRUE(root.ok()) << root.status();
  sync::HostTree tree({.root = &*root, .clock = &clock_, .mount = mount, .max_watches = 0});
  const absl::Status status = tree.Refresh(sync::Effort::kBytes);
  EXPECT_TRUE(status.ok()) << status;
  return tree.manifest();
}

absl::StatusOr<sync::RemoteLook> TreeStand::Look(std::optional<sync::Digest> expected) {
  return Await(tree().Look(root_, expected));
}

sync::RemoteLook TreeStand::MustLook() {
  absl::StatusOr<sync::RemoteLook> look = Look();
  EXPECT_TRUE(look.ok()) << look.status();
  return look.ok() ? *std::move(look) : sync::RemoteLook{};
}

sync::RemoteApply TreeStand::ApplyOf(const std::vector<Change>& changes) {
  sync::RemoteApply apply{.root = root_, .epoch = "0123456789abcdef", .source = &bytes_};
  apply.known_epoch = known_epoch_;
  bytes_ = {};
  for (const Change& change : changes) {
    sync::RemoteChange made{.path = *sync::RelPath::Parse(change.name)};
    if (change.expected)
      made.expected = {sync::DigestOf(*change.expected), change.expected->size(),
                       change.was_executable};
    if (change.wanted)
      made.wanted = {sync::DigestOf(*change.wanted), change.wanted->size(), change.executable};
    apply.changes.push_back(std::move(made));
    bytes_.files.push_back(change.wanted.value_or(""));
  }
  return apply;
}

absl::StatusOr<sync::RemoteApplied> TreeStand::Apply(sync::RemoteApply apply) {
  return Await(tree().Apply(std::move(apply)));
}

absl::StatusOr<sync::RemoteApplied> TreeStand::Apply(const std::vector<Change>& changes) {
  return Apply(ApplyOf(changes));
}

std::string TreeStand::Placed(const std::vector<Change>& changes) {
  const absl::StatusOr<sync::RemoteApplied> applied = Apply(changes);
  if (!applied.ok()) return std::string(applied.status().message());
  std::string letters;
  for (sync::Placed one : applied->placed) letters.push_back(static_cast<char>(one));
  return letters;
}

std::vector<sync::RelPath> TreeStand::Paths(const std::vector<std::string>& names) {
  std::vector<sync::RelPath> paths;
  for (const std::string& name : names) paths.push_back(*sync::RelPath::Parse(name));
  return paths;
}

absl::StatusOr<std::string> TreeStand::Fetch(const std::vector<std::string>& names) {
  struct Taker {
    std::string bytes;
    Task<absl::Status> Take(std::string_view piece) {
      bytes.append(piece);
      co_return absl::OkStatus();
    }
  } taker;
  const absl::Status status = Await(tree().Fetch(
      root_, {Paths(names)}, [&](std::string_view piece) { return taker.Take(piece); }));
  if (!status.ok()) return status;
  return taker.bytes;
}

std::map<std::string, std::string> TreeStand::Unpacked(std::string_view tar) {
  const std::string to = base_ + "/unpacked";
  fs::remove_all(to);
  fs::create_directory(to);
  Write(base_ + "/tar", tar);
  EXPECT_EQ(std::system(("tar -xf " + base_ + "/tar -C " + to).c_str()), 0);
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(to)) {
    if (entry.is_regular_file())
      files[entry.path().string().substr(to.size() + 1)] = Read(entry.path());
  }
  return files;
}

}  // namespace hermes
