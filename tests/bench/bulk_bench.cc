// hermes_bulk_bench: what a command feels of the bytes that sync moves at the same time, over a
// narrow link: each has a connection of its own. The SSH backend and sync's far tree in this
// process, a real sshd with an account of its own; needs root. With --smoke less is moved and the
// link is wider. Exit code 1: something did not work; 77: not possible here.

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
constexpr int kFiles = 200;  // so many, or so many bytes, that sync takes the bulk lane

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
    tree_ = MakeShellTree({.clock = world_->clock, .random = world_->random}, session_->sandbox);
  }
  ~Bench() {
    tree_.reset();
    world_.reset();
    stand_.account().KillProcesses();
  }

  bool Run() {
    std::vector<double> idle;
    for (int i = 0; i < scale_.Of(60, 5); ++i) idle.push_back(OneTrue());
    Push();
    Row("pushed", idle);
    Pull();
    Row("pulled", idle);
    return ok_;
  }

 private:
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

  void Push() {
    Files source(world_->random, file_bytes());
    sync::RemoteApply apply{.root = root_, .epoch = std::string(16, '0'), .source = &source};
    for (size_t i = 0; i < static_cast<size_t>(kFiles); ++i) {
      apply.changes.push_back(
          {*sync::RelPath::Parse("f" + std::to_string(i)), std::nullopt, source.ContentOf(i)});
      names_.push_back(apply.changes.back().path);
    }
    Beside([](sync::RemoteTree* tree, sync::RemoteApply all) -> Task<bool> {
      const size_t wanted = all.changes.size();
      const auto placed = co_await tree->Apply(std::move(all));
      co_return placed.ok() && placed->placed.size() == wanted;
    }(tree_.get(), std::move(apply)));
  }

  void Pull() {
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
    }(tree_.get(), root_, names_, &taken));
    ok_ = ok_ && taken >= names_.size() * file_bytes();
  }

  void Row(const char* what, const std::vector<double>& idle) {
    if (busy_.empty()) {
      ok_ = false;
      return;
    }
    const double still = Percentile(idle, 0.5), moving = Percentile(busy_, 0.5);
    table_.Row(Text("true while %zu MB are %s, %s", (kFiles * file_bytes()) >> 20, what,
                    transport_ == SshTransportChoice::kOpenSsh ? "openssh" : "libssh2"),
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
  contract::TestSession* session_ = nullptr;
  std::unique_ptr<sync::RemoteTree> tree_;
  const sync::RemoteRoot root_{.path = "~/bulk"};
  std::vector<sync::RelPath> names_;
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
