// hermes_bulk_bench: what a command feels of the bytes that another session's sync moves at the
// same time, over a narrow link: much has a connection of its own, little leaves room on the one of
// the commands. The SSH backend and sync's far trees in this process, a real sshd with an account
// of its own; needs root. With --smoke less is moved and the link is wider. Exit code 1: something
// did not work; 77: not possible here.

#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <asio/co_spawn.hpp>

#include "backends/engine/remote_tree.h"
#include "tests/bench/table.h"
#include "tests/contract/driver.h"
#include "tests/contract/ssh_stand.h"
#include "tests/hosts/delay_proxy.h"

namespace hermes {
namespace {

constexpr uint64_t kLinkBytes = 20'000'000 / 8;  // per second
constexpr int kRttMs = 20;
constexpr size_t kMany = 200;   // so many files, or bytes, that sync takes the bulk lane
constexpr size_t kShell = 120;  // the same
constexpr size_t kFew = 6;      // so few that it does not
// By few: kMostFilesDelay, what fills a round trip, pieces of 64 KiB.
constexpr double kMostDelayMs = 250;

// Files of random bytes that are alike but for their number.
class Files : public sync::BlobSource {
 public:
  Files(Random& random, size_t bytes) {
    while (bytes_.size() < bytes) bytes_ += random.Hex(32 << 10);
    bytes_.resize(bytes);
  }
  Task<Blob> Read(size_t index) override {
    if (index < next_) co_return Blob{};
    next_ = index + 1;
    co_return Blob{.bytes = Numbered(index)};
  }
  sync::Content ContentOf(size_t index) {
    return {.digest = sync::DigestOf(Numbered(index)), .size = bytes_.size(), .executable = false};
  }

 private:
  const std::string& Numbered(size_t index) {
    std::memcpy(bytes_.data(), &index, sizeof(index));
    return bytes_;
  }

  std::string bytes_;
  size_t next_ = 0;
};

class Bench {
 public:
  Bench(Scale scale, SshTransportChoice transport) : scale_(scale), transport_(transport) {
    stand_.ServeOpenSsh();
    proxy_ = std::make_unique<DelayProxy>(
        DelayProxyOptions{.target_port = stand_.server().port(),
                          .rtt = std::chrono::milliseconds(kRttMs),
                          .bytes_per_second = scale.smoke ? 10 * kLinkBytes : kLinkBytes});
    place_.engine = "runner";
    place_.backend = SshStand::MakeBackend;
    place_.where = [this](SandboxSpec& spec) { stand_.Fill(spec, transport_, proxy_->port()); };
    world_ = std::make_unique<contract::World>(place_, stand_.dir().path());
    session_ = &world_->Open({}, std::chrono::minutes(10));
    syncing_ = &world_->Open({}, std::chrono::minutes(10));
  }
  ~Bench() {
    world_.reset();
    stand_.account().KillProcesses();
  }

  bool Run() {
    for (int i = 0; i < scale_.Of(60, 5); ++i) idle_.push_back(OneTrue());
    const auto runner = syncing_->engine->NewRemoteTree();
    const auto shell =
        MakeShellTree({.clock = world_->clock, .random = world_->random}, syncing_->sandbox);
    BesideFew(*runner);
    BesideMany(*runner, "runner", kMany);
    BesideMany(*shell, "sh", kShell);
    return ok_;
  }

 private:
  void BesideMany(sync::RemoteTree& tree, const char* by, size_t files) {
    Push(tree, files);
    Row("pushed", by);
    Pull(tree);
    Row("pulled", by);
  }

  void BesideFew(sync::RemoteTree& tree) {
    std::vector<double> pushed, pulled;
    for (int i = 0; i < scale_.Of(5, 1); ++i) {
      Push(tree, kFew);
      pushed.insert(pushed.end(), busy_.begin(), busy_.end());
      Pull(tree);
      pulled.insert(pulled.end(), busy_.begin(), busy_.end());
    }
    FewRow("pushed", pushed, kMostDelayMs);
    FewRow("pulled", pulled, 0);
  }

  // `most_ms` of 0: nothing is demanded.
  void FewRow(const char* what, const std::vector<double>& busy, double most_ms) {
    if (busy.empty()) return;  // it was over before a command was
    const double still = Percentile(idle_, 0.5), longest = Percentile(busy, 1);
    table_.Row(
        Text("true while %zu MB are %s, runner, %s", (kFew * file_bytes()) >> 20, what, Via()),
        Text("p50 %.1f ms, longest %.1f, of %zu, idle %.1f", Percentile(busy, 0.5), longest,
             busy.size(), still),
        most_ms == 0 ? "-" : Text("longest <= idle + %.0f ms", most_ms),
        most_ms == 0 || longest <= still + most_ms);
  }

  double OneTrue() {
    CommandSpec spec;
    spec.script = "true";
    const contract::RunPtr run = world_->Run(*session_, std::move(spec));
    ok_ = ok_ && run->outcome->state == CommandState::kExited && run->outcome->value == 0;
    return Ms(run->ended_at - run->asked);
  }

  // Runs `true` again and again for as long as `task` goes on.
  void Beside(Task<bool> task) {
    std::optional<bool> moved;
    busy_.clear();
    asio::co_spawn(world_->loop.executor(), std::move(task),
                   [this, &moved](std::exception_ptr, bool ok) {
                     moved = ok;
                     world_->Poke();
                   });
    const uint64_t before = proxy_->upstream_bytes() + proxy_->downstream_bytes();
    const auto under_way = [&] {
      return proxy_->upstream_bytes() + proxy_->downstream_bytes() > before + file_bytes();
    };
    while (!moved && !under_way()) world_->Until([] { return false; }, kPause);
    while (!moved) {
      busy_.push_back(OneTrue());

      world_->Until([&] { return moved.has_value(); }, kPause);
    }
    ok_ = ok_ && *moved;
  }

  void Push(sync::RemoteTree& tree, size_t files) {
    Files source(world_->random, file_bytes());
    root_.path = "~/bulk" + std::to_string(++roots_);
    names_.clear();
    sync::RemoteApply apply{.root = root_, .epoch = std::string(16, '0'), .source = &source};
    for (size_t i = 0; i < files; ++i) {
      apply.changes.push_back(
          {*sync::RelPath::Parse("f" + std::to_string(i)), std::nullopt, source.ContentOf(i)});
      names_.push_back(apply.changes.back().path);
    }
    Beside([](sync::RemoteTree* tree, sync::RemoteApply all) -> Task<bool> {
      const size_t wanted = all.changes.size();
      const auto placed = co_await tree->Apply(std::move(all));
      co_return placed.ok() && placed->placed.size() == wanted;
    }(&tree, std::move(apply)));
  }

  void Pull(sync::RemoteTree& tree) {
    uint64_t taken = 0;
    Beside([](sync::RemoteTree* tree, sync::RemoteRoot root, std::vector<sync::RelPath> names,
              uint64_t* bytes) -> Task<bool> {
      const absl::Status fetched = co_await tree->Fetch(
          std::move(root), {std::move(names)},
          [bytes](std::string_view piece) -> Task<absl::Status> {
            *bytes += piece.size();
            return []() -> Task<absl::Status> { co_return absl::OkStatus(); }();
          });
      co_return fetched.ok();
    }(&tree, root_, names_, &taken));
    ok_ = ok_ && taken >= names_.size() * file_bytes();
  }

  const char* Via() const {
    return transport_ == SshTransportChoice::kOpenSsh ? "openssh" : "libssh2";
  }

  void Row(const char* what, const char* by) {
    if (busy_.empty()) {
      ok_ = false;
      return;
    }
    const double still = Percentile(idle_, 0.5), moving = Percentile(busy_, 0.5);
    table_.Row(Text("true while %zu MB are %s, %s, %s", (names_.size() * file_bytes()) >> 20, what,
                    by, Via()),
               Text("p50 %.1f ms (p99 %.1f, of %zu), idle %.1f: %.2f x", moving,
                    Percentile(busy_, 0.99), busy_.size(), still, moving / still),
               "<= 2 x", moving <= 2 * still);
  }

  size_t file_bytes() const { return static_cast<size_t>(scale_.Of(1 << 20, 80 << 10)); }

  static constexpr Duration kPause = std::chrono::milliseconds(50);

  const Scale scale_;
  const SshTransportChoice transport_;
  Table table_;
  bool ok_ = true;
  SshStand stand_;
  std::unique_ptr<DelayProxy> proxy_;
  contract::Place place_;
  std::unique_ptr<contract::World> world_;
  contract::TestSession* session_ = nullptr;  // whose commands run
  contract::TestSession* syncing_ = nullptr;
  sync::RemoteRoot root_;
  int roots_ = 0;
  std::vector<sync::RelPath> names_;
  std::vector<double> idle_;
  std::vector<double> busy_;
};

}  // namespace
}  // namespace hermes

int main(int argc, char** argv) {
  if (const std::string why = hermes::SshStand::Unsupported(); !why.empty()) {
    std::printf("skipped: %s\n", why.c_str());
    return 77;
  }
  const hermes::Scale scale{argc > 1 && std::strcmp(argv[1], "--smoke") == 0};
  bool ok = hermes::Bench(scale, hermes::SshTransportChoice::kOpenSsh).Run();
  ok = hermes::Bench(scale, hermes::SshTransportChoice::kLibssh2).Run() && ok;
  return ok ? 0 : 1;
}
