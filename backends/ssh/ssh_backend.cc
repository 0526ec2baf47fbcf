#include "backends/ssh/ssh_backend.h"

#include <map>
#include <utility>
#include <vector>

#include "backends/ssh/ssh_handle.h"
#include "backends/ssh/ssh_host.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr size_t kNonceBytes = 12;
// What the removal of a runner may take; then it stays there.
constexpr Duration kLeaveLimit = std::chrono::seconds(10);
// For who opens a session where a transport lacks something.
constexpr char kOtherTransport[] =
    "Mend what the error names; the other transport (--transport openssh or libssh2) may do "
    "without it.";

absl::Status WithNext(const absl::Status& status) {
  Metadata metadata = MetadataOf(status);
  if (ReasonOf(status) != Reason::k_CAPABILITY_MISSING) return status;
  metadata.try_emplace(std::string(kNextKey), kOtherTransport);
  return Error(Reason::k_CAPABILITY_MISSING,
               std::string_view(status.message().data(), status.message().size()),
               std::move(metadata));
}

// The folder of one runner, and what those who use it tell one another: whether a runner was looked
// for there, and that one of them is removing it, so that nobody connects to what is going.
struct Folder {
  explicit Folder(Loop& loop) : changed(loop) {}
  bool sought = false;
  bool leaving = false;
  Event changed;  // leaving
};

// What a sandbox holds until it is closed, and its coroutines until they end.
struct Attached {
  std::shared_ptr<SshHosts::Use> host;
  SshHandle handle;
  std::shared_ptr<Folder> folder;
  bool alone() const { return folder.use_count() == 1; }
};
using AttachedPtr = std::shared_ptr<const Attached>;

struct Shared {
  Shared(SshHost::Deps d, SshOptions o) : deps(d), options(std::move(o)) {}
  SshHost::Deps deps;
  SshOptions options;
  SshGates gates{deps.loop};
  SshHosts openssh{deps, *options.openssh, gates};
  SshHosts libssh2{deps, *options.libssh2, gates};
  std::map<std::string, std::weak_ptr<Folder>> folders;  // by place key

  std::shared_ptr<Folder> FolderOf(const SshHandle& handle) {
    std::erase_if(folders, [](const auto& entry) { return entry.second.expired(); });
    std::weak_ptr<Folder>& known = folders[handle.PlaceKey()];
    std::shared_ptr<Folder> folder = known.lock();
    if (folder == nullptr) known = folder = std::make_shared<Folder>(deps.loop);
    return folder;
  }
};

class SshSandbox : public Sandbox {
 public:
  SshSandbox(std::shared_ptr<Shared> shared, AttachedPtr there, WishPtr wish)
      : shared_(std::move(shared)),
        there_(std::move(there)),
        wish_(std::move(wish)),
        handle_(there_->handle) {}

  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string boot_line, Lane lane,
                                                           WishPtr wish) override {
    if (there_ == nullptr) return Closed();
    return OpenThere(there_, std::move(boot_line), lane, wish != nullptr ? std::move(wish) : wish_);
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr wish) override {
    if (there_ == nullptr) return Closed();
    return Connect(shared_, there_, wish_, std::move(wish));
  }
  // The program is where the runner's is, and is found or put there as for a link.
  Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane lane, WishPtr wish) override {
    if (there_ == nullptr) return Closed();
    return BecomeFiles(shared_, there_, lane, wish != nullptr ? std::move(wish) : wish_);
  }
  std::string place_key() const override { return handle_.PlaceKey(); }
  std::string description() const override { return handle_.place->name; }
  std::string handle() const override { return handle_.Text(); }

  // The connection is let go of, for it is shared; the last one takes the runner away.
  Task<absl::Status> Close(bool destroy) override {
    AttachedPtr there = std::exchange(there_, nullptr);
    if (there == nullptr || !destroy || !there->alone() || !there->folder->sought) {
      return Done(std::move(there));
    }
    return Leave(shared_, std::move(there));
  }

 private:
  static Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenThere(AttachedPtr there,
                                                                 std::string command, Lane lane,
                                                                 WishPtr wish) {
    absl::StatusOr<std::unique_ptr<Stream>> stream =
        co_await (*there->host)->Open(std::move(command), lane, std::move(wish));
    if (!stream.ok()) co_return WithNext(stream.status());
    co_return stream;
  }
  static Task<absl::StatusOr<std::unique_ptr<Stream>>> Connect(std::shared_ptr<Shared> shared,
                                                               AttachedPtr there, WishPtr opener,
                                                               WishPtr wish) {
    auto both = std::make_shared<Wish>();
    const auto end = [both] { both->Withdraw(); };
    const Wish::Ear first(opener, end), second(wish, end);
    if (IsWithdrawn(opener) || IsWithdrawn(wish)) end();
    CO_ASSIGN_OR_RETURN(ssh::FarRunner far, co_await Become(shared, there, {.files = false}, both));
    LogInfo("ssh to " + there->handle.place->name + ": runner in " + far.place.text +
            (far.uploaded ? ", sent" : "") + "; " + far.place.os + " " + far.place.arch +
            ", login shell " + far.place.shell + ", has " + far.place.tools);
    co_return std::move(far.stream);
  }
  static Task<absl::StatusOr<std::unique_ptr<Stream>>> BecomeFiles(std::shared_ptr<Shared> shared,
                                                                   AttachedPtr there, Lane lane,
                                                                   WishPtr wish) {
    CO_ASSIGN_OR_RETURN(
        ssh::FarRunner far,
        co_await Become(shared, there, {.files = true, .lane = lane}, std::move(wish)));
    co_return std::move(far.stream);
  }

  struct What {
    bool files = false;  // else the runner's link
    Lane lane = Lane::kCommand;
  };
  static Task<absl::StatusOr<ssh::FarRunner>> Become(std::shared_ptr<Shared> shared,
                                                     AttachedPtr there, What what, WishPtr wish) {
    const ssh::Programs programs = shared->options.programs;
    const std::string nonce = shared->deps.random.Hex(kNonceBytes);
    ssh::PlaceQuestion question = ssh::QuestionFor(programs, Directory(*shared, *there), nonce);
    question.files = what.files;
    Folder& folder = *there->folder;
    while (folder.leaving) co_await folder.changed.Wait();
    CO_ASSIGN_OR_RETURN(std::unique_ptr<Stream> stream,
                        co_await OpenThere(there, ssh::PlaceCommand(question), what.lane, wish));
    folder.sought = true;
    co_return co_await ssh::AwaitRunner(
        shared->deps.clock, std::move(stream),
        {.programs = programs, .nonce = nonce, .wish = wish, .limit = shared->options.place_limit});
  }

  // A runner speaks to one link, and this daemon has one link for a place key. The folder's name is
  // made of the same key: so no two links meet in one, though several targets may turn out to be
  // one account on one host, or hosts that share a home.
  static std::string Directory(const Shared& shared, const Attached& there) {
    return shared.options.daemon_id + "-" + there.handle.Directory();
  }

  // Whatever comes of it: what could not be removed is no reason to keep a session.
  static Task<absl::Status> Leave(std::shared_ptr<Shared> shared, AttachedPtr there) {
    Folder& folder = *there->folder;
    folder.leaving = true;
    auto talk = std::make_shared<LastTalk>();
    const bool left = co_await WithDeadline(
        shared->deps.clock, shared->deps.clock.Now() + kLeaveLimit,
        TellToLeave(there->host, ssh::LeaveCommand(Directory(*shared, *there)), talk), [talk] {
          talk->wish->Withdraw();
          if (talk->stream != nullptr) talk->stream->Abort();
        });
    if (!left) LogWarning("ssh to " + there->handle.place->name + ": the runner was not removed");
    folder.sought = !left;
    folder.leaving = false;
    folder.changed.NotifyAll();
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
  static Task<absl::Status> Done(AttachedPtr) { co_return absl::OkStatus(); }

  const std::shared_ptr<Shared> shared_;
  AttachedPtr there_;   // null once it is closed
  const WishPtr wish_;  // of who opens it
  const SshHandle handle_;
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
    return Make(shared_, Wanted(spec, std::nullopt));
  }
  Task<absl::StatusOr<std::unique_ptr<Sandbox>>> Reattach(SandboxSpec spec,
                                                          std::string handle) override {
    std::optional<SshHandle> stored = ParseSshHandle(handle);
    if (!stored || spec.ssh.host.empty()) {
      co_return Error(Reason::k_STORE_CORRUPT, "this is no handle of the ssh backend");
    }
    co_return co_await Make(shared_, Wanted(spec, std::move(stored)));
  }

 private:
  struct Place {
    SshTarget target;
    bool libssh2 = false;
    std::optional<SshHandle> stored;  // of a session that was made before
    WishPtr wish;
  };
  Place Wanted(const SandboxSpec& spec, std::optional<SshHandle> stored) const {
    return {TargetFor(spec.ssh), UsesLibssh2(spec.ssh), std::move(stored), spec.wish};
  }

  // A stored session goes back to where it was, or nowhere.
  static Task<absl::StatusOr<std::unique_ptr<Sandbox>>> Make(std::shared_ptr<Shared> shared,
                                                             Place place) {
    SshHosts& hosts = place.libssh2 ? shared->libssh2 : shared->openssh;
    absl::StatusOr<std::shared_ptr<SshHosts::Use>> host = co_await hosts.For(place.target);
    if (!host.ok()) co_return WithNext(host.status());
    const SshResolved& resolved = (**host)->resolved();
    const SshPlace now = PlaceOf(resolved);
    SshHandle handle = place.stored.value_or(SshHandle{resolved.sharing_key, now});
    if (!handle.place) handle.place = now;
    if (*handle.place != now) {
      hosts.Forget(place.target);  // somebody may be about to mend it
      co_return LeadsElsewhere(place.target.spec.host, *handle.place, now);
    }
    std::shared_ptr<Folder> folder = shared->FolderOf(handle);
    auto there = std::make_shared<Attached>(*std::move(host), std::move(handle), std::move(folder));
    co_return std::make_unique<SshSandbox>(std::move(shared), std::move(there),
                                           std::move(place.wish));
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
