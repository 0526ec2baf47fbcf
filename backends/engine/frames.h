#pragma once

// The wire format between hermesd and hermes-runner: one duplex byte stream, frames both ways.
//
//   u32 length | u8 type | u32 command | payload        all integers little endian; length counts
//   type to payload's end
//
// Shared by the daemon and the runner, so: no I/O, no allocation but std::string, no exceptions.
// Both ends treat what they read as hostile: lengths are bounded, a short or overlong payload is a
// decode failure, unknown frame types are skipped. `command` is a number chosen by the daemon,
// unique among the commands that the runner has; 0 where a frame is not about a command (OPEN and
// CLOSE use it as a tag that their answer repeats).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hermes::frames {

// Every build speaks its own version and the one before. Raise it when a frame changes its meaning
// or its payload; a new frame alone is skipped by who does not know it. HERMES_PROTOCOL: for the
// variant of the runner that tests keep as the previous version.
#ifndef HERMES_PROTOCOL
#define HERMES_PROTOCOL 3
#endif
inline constexpr uint16_t kVersion = HERMES_PROTOCOL;                        // spoken best
inline constexpr uint16_t kOldestVersion = kVersion > 1 ? kVersion - 1 : 1;  // still understood

// From this version on a START may ask for the file service (kFiles), and kAfter is understood.
inline constexpr uint16_t kFilesVersion = 3;

inline constexpr size_t kHeaderBytes = 9;  // length, type, command
inline constexpr size_t kMaxFrameBytes =
    12 << 20;  // a START with a 4 MiB script and 6 MiB of env; more ends the link
inline constexpr size_t kMaxDataBytes = 64
                                        << 10;  // of OUT, ERR and STDIN payload bytes in one frame
inline constexpr uint64_t kOutputWindow =
    4 << 20;  // unacknowledged output bytes per command and stream: at the limit
              // the runner stops reading the pipe (or spools, daemon away)
inline constexpr uint64_t kStdinWindow =
    256 << 10;  // stdin bytes sent beyond what STDIN_ACK has accepted
inline constexpr uint64_t kFilesStdinWindow =
    4 << 20;  // the same of the file service: a push of this size may cost one round trip
inline constexpr uint64_t kFilesAckBytes = 64 << 10;  // of which STDIN_ACK tells each so many

enum class Type : uint8_t {
  // daemon -> runner
  kHello =
      1,  // u16 oldest, u16 newest, str daemon_id. First frame; fences and closes every older link.
  kOpen = 2,  // Open
  kClose =
      3,  // str session, u32 grace_ms: kill its commands, remove its state; answered by kClosed
  kLease = 4,  // str session, u32 seconds (0: no lease): when it lapses the session's commands are
               // killed
  kList = 5,   // answered by one kListed per command and a kListEnd
  kStart = 6,  // Start; a second one with a known run id attaches
  kStdin = 7,  // u64 offset, bytes
  kStdinEof = 8,  // u64 offset: end of stdin after so many bytes
  kSignal = 9,    // u8 signal, u8 Scope
  kKill = 10,     // u32 grace_ms, u8 Cause: TERM, grace, KILL of the tree; answered by kKilled
  kResize = 11,   // u16 cols, u16 rows
  kAttach = 12,   // u64 out, u64 err: send output again from these offsets
  kAck = 13,     // u64 out, u64 err: bytes before these are safe with the daemon; frees them, opens
                 // the window
  kForget = 14,  // the command's end is safe with the daemon: drop its record. Before its end:
                 // poison the run id
  kSecret = 15,  // str session, str sudo password (empty: forget it)
  kPing = 16,    // u64 token; answered by kPong
  kForgetRun = 17,  // str run_id: drop the run id; an unknown one is poisoned, so a late START of
                    // it is refused
  kRetire = 18,     // leave, sessions stay on disk. The link ends, or kRefused: a command is left
  kAfter = 35,      // u32 first command: the START of this command, which follows at once, waits
                    // until `first` has exited with 0, or ends with LaunchStage::kAfter
  // runner -> daemon
  kWelcome = 65,  // Welcome
  kOpened = 66,   // Opened
  kClosed = 67,   // TreeReport
  kListed = 68,   // Listed
  kListEnd = 69,  // -
  kStarted = 70,  // u32 pid, u8 attached
  kOut = 71,      // u64 offset, bytes
  kErr = 72,      // u64 offset, bytes
  kExit = 73,     // Exit
  kDrained = 74,  // nothing of the command is left: no process, no open pipe. Follows kExit, always
  kKilled = 75,   // TreeReport
  kStdinAck =
      76,  // u64 accepted: stdin bytes written to the command so far; u8 closed: it reads no more
  kPong = 77,  // u64 token
  kRefused =
      78,  // str reason (catalogue name), str message: this frame's command or tag was refused
};

enum class Scope : uint8_t { kTree = 0, kLeader = 1, kForeground = 2 };

enum class Cause : uint8_t {
  kNatural = 1,
  kRunTimeout = 2,
  kCancelled = 3,
  kOutputLimit = 4,
  kSandboxLost = 5,
  kLeaseExpired = 6,
  kLaunchFailed = 7,
  kSupervisorDied = 8,
};

enum class LaunchStage : uint8_t {
  kNone = 0,
  kBadCwd = 1,
  kNotFound = 2,
  kNotExecutable = 3,
  kArgsTooLong = 4,
  kResources = 5,
  kPty = 6,
  kOther = 7,
  kAfter = 8,  // what it waited for ended otherwise, or it was killed or timed out meanwhile
};

enum class Form : uint8_t { kScript = 0, kArgv = 1, kFiles = 2 };  // of Start; kFiles: the service

enum class StdinKind : uint8_t {
  kNull = 0,
  kOpen = 1
};  // inline stdin is kOpen plus STDIN frames plus STDIN_EOF
enum class StateMode : uint8_t { kCommit = 0, kReadOnly = 1, kIsolated = 2 };

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Open {
  std::string session;
  std::string cwd;     // absolute, "~/..." or empty for the home
  Pairs env;           // on top of the captured login environment
  uint8_t resume = 0;  // 1: the session existed; use its saved state if there is one
};

struct Opened {
  uint64_t generation = 0;
  std::string cwd;
  uint8_t shell = 0;      // 1: bash, 2: sh
  uint8_t recovered = 0;  // resume found saved state
};

struct Welcome {
  uint16_t version = 0;
  std::string start_token;  // names this very runner process: boot id and a random part
  uint32_t pid = 0;
  std::string build;  // version and commit
  std::string arch;
  std::string home;
};

struct Start {
  std::string session;
  std::string run_id;  // UUID; at most one process for each
  Form form = Form::kScript;
  std::string script;
  std::vector<std::string> argv;
  std::string cwd;  // empty: the session's
  Pairs env;
  Pairs secret_env;
  StdinKind stdin_kind = StdinKind::kNull;
  uint8_t pty = 0;
  uint16_t cols = 80;
  uint16_t rows = 24;
  std::string term;
  uint8_t merge_stderr = 0;
  uint64_t deadline_ms = 0;  // 0: none; from the start
  uint32_t grace_ms = 2000;  // of the kill at the deadline
  StateMode state_mode = StateMode::kCommit;
};

struct TreeReport {
  uint32_t signalled = 0;
  uint32_t survivors = 0;
  uint8_t verified = 0;
  std::vector<uint32_t> pids;  // of survivors, at most 16
};

struct Exit {
  Cause cause = Cause::kNatural;
  uint8_t signalled = 0;  // value is a signal, not a code
  int32_t value = 0;
  LaunchStage stage = LaunchStage::kNone;
  int32_t launch_errno = 0;
  uint64_t out = 0;  // bytes produced until now
  uint64_t err = 0;
  uint64_t user_us = 0;
  uint64_t system_us = 0;
  uint64_t max_rss_kb = 0;
  uint8_t residual = 0;  // processes or pipe holders are left; kDrained follows when they are gone
  uint8_t state_committed = 0;
  std::string state_reason;  // why not
  uint64_t generation = 0;   // of the session, afterwards
  std::string cwd;           // of the session, afterwards
  uint8_t has_tree = 0;
  TreeReport tree;
};

struct Listed {
  std::string session;
  std::string run_id;
  uint32_t pid = 0;
  uint64_t out = 0;  // produced
  uint64_t err = 0;
  uint64_t out_first = 0;  // oldest byte still kept
  uint64_t err_first = 0;
  uint8_t exited = 0;
  uint8_t drained = 0;
};

// Appends frames to a buffer.
class Writer {
 public:
  explicit Writer(std::string& out) : out_(out) {}

  void Begin(Type type, uint32_t command) {
    start_ = out_.size();
    U32(0);
    U8(static_cast<uint8_t>(type));
    U32(command);
  }
  void End() {
    uint32_t length = static_cast<uint32_t>(out_.size() - start_ - 4);
    for (int i = 0; i < 4; ++i) out_[start_ + i] = static_cast<char>(length >> (8 * i));
  }
  void U8(uint8_t v) { out_.push_back(static_cast<char>(v)); }
  void U16(uint16_t v) { Int(v, 2); }
  void U32(uint32_t v) { Int(v, 4); }
  void U64(uint64_t v) { Int(v, 8); }
  void Raw(std::string_view s) { out_.append(s.data(), s.size()); }
  void Str(std::string_view s) {
    U32(static_cast<uint32_t>(s.size()));
    Raw(s);
  }
  void PairList(const Pairs& pairs) {
    U32(static_cast<uint32_t>(pairs.size()));
    for (const auto& [name, value] : pairs) {
      Str(name);
      Str(value);
    }
  }

 private:
  void Int(uint64_t v, int bytes) {
    for (int i = 0; i < bytes; ++i) out_.push_back(static_cast<char>(v >> (8 * i)));
  }
  std::string& out_;
  size_t start_ = 0;
};

// Reads one payload. After any failed read `ok()` is false for good and all values are empty.
class Reader {
 public:
  explicit Reader(std::string_view data) : rest_(data) {}

  bool ok() const { return ok_; }
  bool done() const { return ok_ && rest_.empty(); }
  uint8_t U8() { return static_cast<uint8_t>(Int(1)); }
  uint16_t U16() { return static_cast<uint16_t>(Int(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Int(4)); }
  uint64_t U64() { return Int(8); }
  std::string_view Str() { return Take(U32()); }
  std::string_view Rest() { return Take(rest_.size()); }
  Pairs PairList() {
    Pairs pairs;
    uint32_t count = U32();
    if (count > rest_.size() / 8)
      ok_ = false;  // each pair needs two lengths: no allocation on a lie
    for (uint32_t i = 0; ok_ && i < count; ++i) {
      std::string name(Str());
      std::string value(Str());
      pairs.emplace_back(std::move(name), std::move(value));
    }
    return pairs;
  }
  std::vector<std::string> StrList() {
    std::vector<std::string> list;
    uint32_t count = U32();
    if (count > rest_.size() / 4) ok_ = false;
    for (uint32_t i = 0; ok_ && i < count; ++i) list.emplace_back(Str());
    return list;
  }

 private:
  std::string_view Take(size_t bytes) {
    if (!ok_ || bytes > rest_.size()) {
      ok_ = false;
      return {};
    }
    std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }
  uint64_t Int(int bytes) {
    std::string_view raw = Take(static_cast<size_t>(bytes));
    uint64_t v = 0;
    for (size_t i = 0; i < raw.size(); ++i)
      v |= static_cast<uint64_t>(static_cast<uint8_t>(raw[i])) << (8 * i);
    return v;
  }
  std::string_view rest_;
  bool ok_ = true;
};

struct Frame {
  Type type;
  uint32_t command;
  std::string_view payload;  // into the parsed buffer
};

enum class Parse { kFrame, kNeedMore, kBroken };

// Looks for one whole frame at the front of `data`; on kFrame `*consumed` is its size.
inline Parse ParseFrame(std::string_view data, Frame* frame, size_t* consumed) {
  if (data.size() < 4) return Parse::kNeedMore;
  uint32_t length = Reader(data).U32();
  if (length < kHeaderBytes - 4 || length > kMaxFrameBytes) return Parse::kBroken;
  if (data.size() - 4 < length) return Parse::kNeedMore;
  Reader head(data.substr(4, 5));
  frame->type = static_cast<Type>(head.U8());
  frame->command = head.U32();
  frame->payload = data.substr(kHeaderBytes, length - 5);
  *consumed = 4 + static_cast<size_t>(length);
  return Parse::kFrame;
}

// Payloads. Encode appends one whole frame; Decode returns nullopt for anything but exactly one
// well-formed payload. (Frames whose payload is one or two scalars are written and read in place.)
void Encode(std::string& out, uint32_t tag, const Open& open);
void Encode(std::string& out, uint32_t tag, const Opened& opened);
void Encode(std::string& out, const Welcome& welcome);
void Encode(std::string& out, uint32_t command, const Start& start);
void Encode(std::string& out, uint32_t command, const Exit& exit);
void Encode(std::string& out, uint32_t command, const Listed& listed);
void Encode(std::string& out, uint32_t command, Type type,
            const TreeReport& report);  // kClosed or kKilled
void EncodeData(std::string& out, uint32_t command, Type type, uint64_t offset,
                std::string_view data);

template <typename T>
std::optional<T> Decode(std::string_view payload);  // for each struct above

}  // namespace hermes::frames
