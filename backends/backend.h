#pragma once

// The contract between the daemon and the places where commands run. A Backend is a kind of place;
// a Sandbox is a live place that can open byte Streams to programs in it; an Engine turns streams
// into commands; a Channel is one running command. Everything belongs to the loop thread.
// Coroutines return Status; the reason tells the caller what happened. What every implementation
// must do is in backends/conformance.md; tests/contract runs it against each.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/ssh_spec.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"
#include "sync/mount.h"
#include "sync/remote_tree.h"

namespace hermes {

using EnvPairs = std::vector<std::pair<std::string, std::string>>;

enum class KillMethod { kUnspecified, kSupervisor, kGroupAndCookie, kGroup, kSandboxStop };

// What a session's place and engine can do. A "no" must be true: the suite asserts it.
struct Capabilities {
  bool split_stderr = false;
  bool merged_order = false;
  bool pty = false;
  bool stdin_stream = false;
  bool survives_daemon = false;
  bool remote_deadline = false;
  bool shell_functions = false;
  bool residual_tracking = false;
  bool argv = false;
  KillMethod kill_method = KillMethod::kUnspecified;
  bool kill_verified = false;
  uint32_t max_concurrent_commands = 0;  // 0: no limit of the place's own
};

// A duplex byte pipe to one program in a place. One read per output and one write may be in flight
// at a time. Destroying it drops the connection; whether the program dies with it is the engine's
// business, never assumed.
class Stream {
 public:
  virtual ~Stream() = default;

  // Up to `into.size()` bytes; 0 is end of file. An error is a broken stream, typed
  // BACKEND_UNREACHABLE.
  virtual Task<absl::StatusOr<size_t>> ReadStdout(std::span<char> into) = 0;
  virtual Task<absl::StatusOr<size_t>> ReadStderr(std::span<char> into) = 0;

  // Returns when all bytes are handed over. `data` must live until then.
  virtual Task<absl::Status> Write(std::string_view data) = 0;
  virtual void CloseStdin() = 0;

  // Breaks the stream: pending and later calls return soon, with an error or end of file.
  // Idempotent.
  virtual void Abort() = 0;

  // After end of file: how the program ended, if the transport knows. nullopt: it does not; never
  // guess.
  struct End {
    bool signalled = false;
    int value = 0;
  };
  virtual Task<std::optional<End>> WaitEnd() = 0;
};

enum class StateMode { kCommit, kReadOnly, kIsolated };

struct PtySize {
  uint16_t cols = 80;
  uint16_t rows = 24;
  std::string term = "xterm-256color";
};

// One command, as the engine needs it. Validated by the caller: sizes, names, no NUL where none may
// be.
struct CommandSpec {
  std::string run_id;  // UUID: the far side starts at most one process for it
  std::string script;
  std::vector<std::string> argv;  // not empty: argv form, script is ignored
  std::string cwd;                // empty: the session's
  EnvPairs env;
  EnvPairs secret_env;
  bool stdin_open = false;  // else end of file at once
  std::optional<PtySize> pty;
  bool merge_stderr = false;
  Duration run_timeout{0};  // 0: none
  Duration kill_grace{0};
  StateMode state_mode = StateMode::kCommit;
  // Where Engine::runs_files(), else CAPABILITY_MISSING:
  bool files = false;  // not a program but the runner's file service; script and argv are ignored
  std::string after;   // run id of a command started before: this one starts as soon as that has
                       // exited with 0, at once over there, else never (kNeverStarted)
};

enum class OutputStream : uint8_t { kStdout = 0, kStderr = 1 };  // a terminal's stream is kStdout
inline constexpr size_t kOutputStreams = 2;

enum class Cause {
  kUnspecified,
  kNatural,
  kRunTimeout,
  kCancelled,
  kOutputLimit,
  kSandboxLost,
  kLeaseExpired,
  kLaunchFailed,
  kDaemonRestarted,
  kRunnerDied,
};

enum class CommandState {
  kQueued,
  kLaunching,
  kRunning,
  kExited,
  kKilled,
  kNeverStarted,
  kUnknown
};

enum class LaunchStage {
  kNone,
  kBadCwd,
  kNotFound,
  kNotExecutable,
  kArgsTooLong,
  kResources,
  kPty,
  kOther,
  kAfter,  // what it followed, CommandSpec::after, did not succeed
};

struct TreeReport {
  KillMethod method = KillMethod::kUnspecified;
  uint32_t signalled = 0;
  uint32_t survivors = 0;
  bool verified = false;
  std::vector<int32_t> survivor_pids;
};

// How a command ended: exactly one per command. `state` is one of the last four of CommandState.
struct Outcome {
  CommandState state = CommandState::kUnknown;
  Cause cause = Cause::kUnspecified;
  bool signalled = false;
  int value = 0;  // exit code or signal; meaningless for kNeverStarted and kUnknown
  LaunchStage launch_stage = LaunchStage::kNone;
  int launch_errno = 0;
  std::optional<TreeReport> tree;
  uint64_t user_us = 0;
  uint64_t system_us = 0;
  uint64_t max_rss_bytes = 0;
  bool residual = false;
  bool state_committed = false;
  std::string state_reason;
  uint64_t generation = 0;  // of the session afterwards; 0: unchanged or unknown
  std::string cwd;          // of the session afterwards; empty: unchanged or unknown
};

struct StartedEvent {
  int64_t pid = 0;
};
struct DataEvent {
  OutputStream stream = OutputStream::kStdout;
  uint64_t offset = 0;
  std::string data;
};
// The far side no longer has [from, to): it lost them while nobody fetched them.
struct LostEvent {
  OutputStream stream = OutputStream::kStdout;
  uint64_t from = 0;
  uint64_t to = 0;
};
// It has ended over there, but not all of its output is here: that waits for acknowledgements, and
// comes before its EndedEvent.
struct OverEvent {};
struct EndedEvent {
  Outcome outcome;
};
struct DrainedEvent {};
using ChannelEvent =
    std::variant<StartedEvent, DataEvent, LostEvent, OverEvent, EndedEvent, DrainedEvent>;

// One command in a place. Destroying it abandons the command (it runs on, its record stays over
// there); never blocks.
class Channel {
 public:
  virtual ~Channel() = default;

  // The next event, in order: StartedEvent at most once, data, perhaps an OverEvent and more data,
  // exactly one EndedEvent, later data of children that hold the pipes, DrainedEvent last. One read
  // in flight. Reconnecting is silent in here. An error only after Abandon.
  virtual Task<absl::StatusOr<ChannelEvent>> Read() = 0;

  // Makes a pending Read return CANCELLED. The command is not touched.
  virtual void Abandon() = 0;

  // Appends to stdin at an absolute offset (bytes before what was accepted are skipped). Returns
  // when the far side's window has room, so a command that does not read its stdin holds the
  // writer. Fails with STDIN_OFFSET_MISMATCH, or FAILED_PRECONDITION when stdin is closed.
  virtual Task<absl::Status> WriteStdin(uint64_t offset, std::string data, bool eof) = 0;
  virtual uint64_t stdin_accepted() const = 0;
  // After the end of file was written. Returns when nobody need say any of stdin again: the command
  // has it, or reads no more, or has ended; or after Abandon.
  virtual Task<void> StdinTaken() = 0;

  virtual absl::Status Signal(int signal,
                              int scope) = 0;  // scope: hermes.v1.SignalRequest.Scope minus one
  virtual absl::Status Resize(uint16_t cols, uint16_t rows) = 0;

  // The kill ladder; returns when the tree is gone or with survivors. The EndedEvent comes through
  // Read as always.
  virtual Task<absl::StatusOr<TreeReport>> Kill(Duration grace, Cause cause) = 0;

  // Bytes before these offsets are safe here (on disk or in a committed row). Cheap; may be
  // batched.
  virtual void Ack(uint64_t stdout_offset, uint64_t stderr_offset) = 0;

  // The end is safe here: the far side may drop its record. After DrainedEvent.
  virtual void Forget() = 0;
};

struct SessionSpec {
  std::string session_id;
  std::string cwd;
  EnvPairs env;
  std::string sudo_password;
  bool resume = false;
  // With resume: the run ids that will be adopted. What else the place still has of this session is
  // ended and forgotten there, for nobody can ask for it any more. nullopt: all is left as it is.
  std::optional<std::set<std::string, std::less<>>> live_runs = {};
};

struct SessionFacts {
  uint64_t generation = 0;
  std::string cwd;
  std::string incarnation;
  std::string engine;         // "runner" | "plain"
  std::string engine_reason;  // why this one
};

// One session's way of running commands in its place. Owned by the Session; Close before
// destroying.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual const Capabilities& capabilities() const = 0;

  // Prepares the session over there (captures the login environment, or takes up saved state).
  virtual Task<absl::StatusOr<SessionFacts>> Open(SessionSpec spec) = 0;

  // Hands the command over. OK means it was sent, or waits its turn for a stream: whether it
  // started is told by the channel's events. A failure means that it was certainly not started,
  // unless the reason is RECONNECTING (then: unknown).
  virtual Task<absl::StatusOr<std::unique_ptr<Channel>>> Start(CommandSpec spec) = 0;

  // What "~" of a mount is over there, as the place itself says; empty: not known.
  virtual std::string home() const { return ""; }

  // Whether CommandSpec::files and ::after can be asked for now.
  virtual bool runs_files() const { return false; }

  // The far end of one mount, at the best tool level that this engine has. The engine outlives it.
  virtual std::unique_ptr<sync::RemoteTree> NewRemoteTree() = 0;

  // Takes up a command that an earlier hermesd started. COMMAND_UNKNOWN: the place does not know
  // it, and from now on refuses to start it.
  virtual Task<absl::StatusOr<std::unique_ptr<Channel>>> Adopt(std::string run_id,
                                                               uint64_t stdout_offset,
                                                               uint64_t stderr_offset) = 0;

  virtual void SetSudoPassword(std::string password) = 0;

  // Ends what ended commands left running that no run id names any more; the session stays open.
  // When no command runs: an engine may end those, too. Where residual_tracking holds there is no
  // such thing: those commands are known until all is gone.
  virtual Task<absl::StatusOr<TreeReport>> EndLeftovers(Duration grace) { co_return TreeReport{}; }

  // Kills what runs, forgets the session over there.
  virtual Task<absl::StatusOr<TreeReport>> Close(Duration grace) = 0;
};

// What a stream is for. A place that has several ways there keeps bulk away from commands, and lets
// control in when commands have taken every slot.
enum class Lane { kCommand, kControl, kBulk };

// A live place.
class Sandbox {
 public:
  virtual ~Sandbox() = default;

  // Runs `boot_line` in the place's shell with its stdio as a stream. It may have to wait for its
  // turn; a withdrawn wish gives the turn up, and any error comes back.
  virtual Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenStream(std::string boot_line, Lane lane,
                                                                   WishPtr wish) = 0;

  // A stream whose stdin and stdout are a hermes-runner's link. CAPABILITY_MISSING where no runner
  // can run. A withdrawn wish, or the one that the place was opened with, ends a login for it
  // alone.
  virtual Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectRunner(WishPtr wish) = 0;

  // A stream whose stdin and stdout are a `hermes-runner files` of its own, apart from commands.
  // CAPABILITY_MISSING where no runner can run.
  virtual Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenFiles(Lane lane, WishPtr wish) = 0;

  // Places with the same key share one runner link.
  virtual std::string place_key() const = 0;

  // Where this is, for people: "user@host:22". Empty: on this host.
  virtual std::string description() const { return ""; }

  // Opaque bytes that Reattach understands after a restart.
  virtual std::string handle() const = 0;

  virtual Task<absl::Status> Close(bool destroy) = 0;
};

struct SandboxSpec {
  std::string session_id;
  SshSpec ssh;                           // for the ssh backend
  std::vector<sync::Mount> mounts = {};  // whose far ends will lie there
  WishPtr wish = {};  // withdrawn: who opens the place gave up; logins for it alone end at once
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;
  virtual absl::Status Available() const = 0;  // OK, or why this backend cannot be used here
  virtual Capabilities runner_capabilities() const = 0;
  virtual Capabilities plain_capabilities() const = 0;
  // Commands of the runner engine end this long after the daemon's last word; 0: never.
  virtual Duration lease() const { return Duration{0}; }
  // BAD_FIELD when `spec` is not what this backend needs. Talks to nobody.
  virtual absl::Status Check(const SandboxSpec& spec) const { return absl::OkStatus(); }
  virtual Task<absl::StatusOr<std::unique_ptr<Sandbox>>> Open(SandboxSpec spec) = 0;
  virtual Task<absl::StatusOr<std::unique_ptr<Sandbox>>> Reattach(SandboxSpec spec,
                                                                  std::string handle) = 0;
};

}  // namespace hermes
