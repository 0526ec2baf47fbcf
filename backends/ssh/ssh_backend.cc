#include "backends/ssh/ssh_backend.h"

#include <utility>
#include <vector>

#include "backends/ssh/ssh_host.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr std::string_view kHandlePrefix = "ssh:";
constexpr size_t kNonceBytes = 12;
constexpr size_t kDirectoryDigits = 8;  // of the sharing key
// What the removal of a runner may take; then it stays there.
constexpr Duration kLeaveLimit = std::chrono::seconds(10);
// For who opens a session where a transport lacks something.
constexpr char kOtherTransport[] =
    "Mend what the error names; the other transport (--transport openssh or libssh2) may do "
    "without it.";

absl::Status WithNext(const absl::Status& status) {
  Metadata metadata = MetadataOf(status);
  if (ReasonOf(status) != Reason::k_CAPABILITY_MISSING) return status;
  metadata.try_emplace(std::string(ssh::kNextKey), kOtherTransport);
  return Error(Reason::k_CAPABILITY_MISSING,
               std::string_view(status.message().data(), status.message().size()),
               std::move(metadata));
}

struct Shared {
  Shared(SshHost::Deps d, SshOptions o) : deps(d), options(std::move(o)) {}
  SshHost::Deps deps;
  SshOptions options;
  SshGates gates{deps.loop};
  SshHosts openssh{deps, *options.openssh, gates};
  SshHosts libssh2{deps, *options.libssh2, gates};
};

class SshSandbox : public Sandbox {
 public:
  SshSandbox(std::shared_ptr<Shared> shared, std::shared_ptr<SshHosts::Use> host, WishPtr wish)
      : shared_(std::move(shared)),
        host_(std::move(host)),
        wish_(std::move(wish)),
        place_key_(std::string(kHandlePrefix) + (*host_)->resolved().sharing_key),
        description_((*host_)->description()) {}

  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string boot_line, Lane lane,
                                                           WishPtr wish) override {
    if (host_ == nullptr) return Closed();
    return OpenThere(host_, std::move(boot_line), lane, wish != nullptr ? std::move(wish) : wish_);
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr wish) override {
    if (host_ == nullptr) return Closed();
    return Connect(shared_, host_, wish_, std::move(wish));
  }
  // The program is where the runner's is, and is found or put there as for a link.
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane lane, WishPtr wish) override {
    if (host_ == nullptr) return Closed();
    return BecomeFiles(shared_, host_, lane, wish != nullptr ? std::move(wish) : wish_);
  }
  std::string place_key() const override { return place_key_; }
  std::string description() const override { return description_; }
  std::string handle() const override { return place_key_; }

  // The connection is let go of, for it is shared; the last one takes the runner away.
  Task<absl::Status> Close(bool destroy) override {
    std::shared_ptr<SshHosts::Use> host = std::exchange(host_, nullptr);
    if (host == nullptr || !destroy || (*host)->shared() || !(*host)->runner().sought) {
      return Done(std::move(host));
    }
    return Leave(shared_, std::move(host));
  }

 private:
  static Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenThere(
      std::shared_ptr<SshHosts::Use> host, std::string command, Lane lane, WishPtr wish) {
    absl::StatusOr<std::unique_ptr<Stream>> stream =
        co_await (*host)->Open(std::move(command), lane, std::move(wish));
    if (!stream.ok()) co_return WithNext(stream.status());
    co_return stream;
  }
  static Task<absl::StatusOr<std::unique_ptr<Stream>>> Connect(std::shared_ptr<Shared> shared,
                                                               std::shared_ptr<SshHosts::Use> host,
                                                               WishPtr opener, WishPtr wish) {
    auto both = std::make_shared<Wish>();
    const auto end = [both] { both->Withdraw(); };
    const Wish::Ear first(opener, end), second(wish, end);
    if (IsWithdrawn(opener) || IsWithdrawn(wish)) end();
    CO_ASSIGN_OR_RETURN(ssh::FarRunner far, co_await Become(shared, host, {.files = false}, both));
    LogInfo("ssh to " + (*host)->description() + ": runner in " + far.place.text +
            (far.uploaded ? ", sent" : "") + "; " + far.place.os + " " + far.place.arch +
            ", login shell " + far.place.shell + ", has " + far.place.tools);
    co_return std::move(far.stream);
  }
  static Task<absl::StatusOr<std::unique_ptr<Stream>>> BecomeFiles(
      std::shared_ptr<Shared> shared, std::shared_ptr<SshHosts::Use> host, Lane lane,
      WishPtr wish) {
    CO_ASSIGN_OR_RETURN(
        ssh::FarRunner far,
        co_await Become(shared, host, {.files = true, .lane = lane}, std::move(wish)));
    co_return std::move(far.stream);
  }

  struct What {
    bool files = false;  // else the runner's link
    Lane lane = Lane::kCommand;
  };
  static Task<absl::StatusOr<ssh::FarRunner>> Become(std::shared_ptr<Shared> shared,
                                                     std::shared_ptr<SshHosts::Use> host, What what,
                                                     WishPtr wish) {
    const ssh::Programs programs = shared->options.programs;
    const std::string nonce = shared->deps.random.Hex(kNonceBytes);
    ssh::PlaceQuestion question = ssh::QuestionFor(programs, Directory(*shared, *host), nonce);
    question.files = what.files;
    SshHost::Runner& runner = (*host)->runner();
    while (runner.leaving) co_await runner.changed.Wait();
    CO_ASSIGN_OR_RETURN(std::unique_ptr<Stream> stream,
                        co_await OpenThere(host, ssh::PlaceCommand(question), what.lane, wish));
    runner.sought = true;
    co_return co_await ssh::AwaitRunner(shared->deps.clock, std::move(stream),
                                        {.programs = programs, .nonce = nonce, .wish = wish});
  }

  // A runner speaks to one link. Two targets that turn out to be one account on one host, or hosts
  // that share a home, must not meet there.
  static std::string Directory(const Shared& shared, const SshHosts::Use& host) {
    return shared.options.daemon_id + "-" +
           host->resolved().sharing_key.substr(0, kDirectoryDigits);
  }

  // Whatever comes of it: what could not be removed is no reason to keep a session.
  static Task<absl::Status> Leave(std::shared_ptr<Shared> shared,
                                  std::shared_ptr<SshHosts::Use> host) {
    SshHost::Runner& runner = (*host)->runner();
    runner.leaving = true;
    auto talk = std::make_shared<LastTalk>();
    const bool left = co_await WithDeadline(
        shared->deps.clock, shared->deps.clock.Now() + kLeaveLimit,
        TellToLeave(host, ssh::LeaveCommand(Directory(*shared, *host)), talk), [talk] {
          talk->wish->Withdraw();
          if (talk->stream != nullptr) talk->stream->Abort();
        });
    if (!left) LogWarning("ssh to " + (*host)->description() + ": the runner was not removed");
    runner.sought = !left;
    runner.leaving = false;
    runner.changed.NotifyAll();
    co_return absl::OkStatus();
  }

  struct LastTalk {
    WishPtr wish = std::make_shared<Wish>();
    std::unique_ptr<Stream> stream;
  };
  static Task<bool> TellToLeave(std::shared_ptr<SshHosts::Use> host, std::string command,
                                std::shared_ptr<LastTalk> talk) {
    absl::StatusOr<std::unique_ptr<Stream>> stream =
        co_await (*host)->Open(std::move(command), Lane::kControl, talk->wish);
    if (!stream.ok()) co_return false;
    talk->stream = *std::move(stream);
    talk->stream->CloseStdin();
    std::vector<char> noise(4096);
    absl::StatusOr<size_t> bytes = 1;
    while (bytes.ok() && *bytes > 0) bytes = co_await talk->stream->ReadStdout(noise);
    co_return bytes.ok();
  }

  static Task<absl::StatusOr<std::unique_ptr<Stream>>> Closed() {
    co_return Error(Reason::k_SESSION_NOT_READY, "the session is closed");
  }
  static Task<absl::Status> Done(std::shared_ptr<SshHosts::Use>) { co_return absl::OkStatus(); }

  const std::shared_ptr<Shared> shared_;
  std::shared_ptr<SshHosts::Use> host_;  // null once it is closed
  const WishPtr wish_;                   // of who opens it
  const std::string place_key_;
  const std::string description_;
};

class SshBackend : public Backend {
 public:
  explicit SshBackend(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

  std::string_view name() const override { return "ssh"; }
  absl::Status Available() const override { return absl::OkStatus(); }
  absl::Status Check(const SandboxSpec& spec) const override {
    RETURN_IF_ERROR(CheckSshSpec(spec.ssh, "ssh"));
    if (!Configured(spec.ssh) || !UsesLibssh2(spec.ssh)) return absl::OkStatus();
    return BadField("ssh.config_file",
                    "and options need the openssh transport: " +
                        std::string(shared_->options.openssh->Available().message()));
  }

  Capabilities runner_capabilities() const override {
    Capabilities all = plain_capabilities();
    all.merged_order = true;
    all.pty = true;
    all.survives_daemon = true;
    all.residual_tracking = true;
    all.kill_method = KillMethod::kSupervisor;
    all.kill_verified = true;
    return all;
  }
  Capabilities plain_capabilities() const override {
    Capabilities some;
    some.split_stderr = true;
    some.merged_order = true;
    some.stdin_stream = true;
    some.remote_deadline = true;
    some.shell_functions = true;
    some.argv = true;
    some.kill_method = KillMethod::kGroupAndCookie;
    return some;
  }
  Duration lease() const override { return kSshLease; }

  Task<absl::StatusOr<std::unique_ptr<Sandbox>>> Open(SandboxSpec spec) override {
    return Make(shared_, std::move(spec.wish), TargetFor(spec.ssh), UsesLibssh2(spec.ssh));
  }
  Task<absl::StatusOr<std::unique_ptr<Sandbox>>> Reattach(SandboxSpec spec,
                                                          std::string handle) override {
    if (!handle.starts_with(kHandlePrefix) || spec.ssh.host.empty()) {
      co_return Error(Reason::k_STORE_CORRUPT, "this is no handle of the ssh backend");
    }
    co_return co_await Make(shared_, std::move(spec.wish), TargetFor(spec.ssh),
                            UsesLibssh2(spec.ssh));
  }

 private:
  static Task<absl::StatusOr<std::unique_ptr<Sandbox>>> Make(std::shared_ptr<Shared> shared,
                                                             WishPtr wish, SshTarget target,
                                                             bool libssh2) {
    SshHosts& hosts = libssh2 ? shared->libssh2 : shared->openssh;
    absl::StatusOr<std::shared_ptr<SshHosts::Use>> host = co_await hosts.For(std::move(target));
    if (!host.ok()) co_return WithNext(host.status());
    co_return std::make_unique<SshSandbox>(std::move(shared), *std::move(host), std::move(wish));
  }

  static bool Configured(const SshSpec& spec) {
    return !spec.config_file.empty() || !spec.options.empty();
  }
  bool UsesLibssh2(const SshSpec& spec) const {
    SshTransportChoice choice = spec.transport;
    if (choice == SshTransportChoice::kAuto) choice = shared_->options.transport;
    if (choice != SshTransportChoice::kAuto) return choice == SshTransportChoice::kLibssh2;
    return !shared_->options.openssh->Available().ok();
  }
  SshTarget TargetFor(const SshSpec& spec) const {
    SshTarget target{spec, shared_->options.learned_known_hosts};
    if (target.spec.host_key.empty()) target.spec.host_key = shared_->options.host_key;
    return target;
  }

  const std::shared_ptr<Shared> shared_;
};

}  // namespace

std::unique_ptr<Backend> MakeSshBackend(Loop& loop, Clock& clock, Random& random,
                                        SshOptions options) {
  return std::make_unique<SshBackend>(
      std::make_shared<Shared>(SshHost::Deps{loop, clock, random}, std::move(options)));
}

}  // namespace hermes
