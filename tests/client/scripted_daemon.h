#pragma once

// An ExecService over a real Unix socket that answers from a script and remembers what it was
// asked. All methods are thread-safe. gRPC's headers stay in the .cc.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "hermes/v1/exec.pb.h"
#include "hermes/v1/session.pb.h"
#include "hermes/v1/sync.pb.h"

namespace hermes::client {

// Shorthands for events.
v1::CommandEvent Started(const std::string& name);
v1::CommandEvent Out(uint64_t offset, const std::string& data);
v1::CommandEvent Err(uint64_t offset, const std::string& data);
v1::CommandEvent GapEvent(uint64_t from, uint64_t to, const std::string& reason);
v1::CommandEvent Exited(int code);
v1::CommandEvent Cancelled();

class ScriptedDaemon {
 public:
  enum class End {
    kOk,           // the stream ends OK, finished or not
    kUnavailable,  // with DRAINING from the catalogue
    kAway,         // an answer: BACKEND_UNREACHABLE
    kTorn,         // as a transport error looks: UNAVAILABLE without details
    kRefused,      // FAILED_PRECONDITION with reason SESSION_NOT_READY and a next step
    kHang,  // until the client cancels, or CancelCommand or stdin's end is answered with `then`
    kStop,  // the daemon itself goes away in the middle
  };

  // One stream of Execute, Attach or Interact, whichever comes.
  struct Reply {
    std::vector<v1::CommandEvent> events = {};
    End end = End::kOk;
    std::vector<v1::CommandEvent> then = {};
  };

  ScriptedDaemon();
  ~ScriptedDaemon();
  ScriptedDaemon(const ScriptedDaemon&) = delete;
  ScriptedDaemon& operator=(const ScriptedDaemon&) = delete;

  const std::string& socket() const;

  void Script(std::vector<Reply> replies);
  // Of the following WriteStdin calls: take at most so many bytes each, and fail every second call
  // with a torn connection after having taken them.
  void MakeStdinAwkward(size_t bytes_each);
  // CancelCommand does what it should, but does not answer.
  void StallCancelAnswers();
  void Stop();
  void Start();

  // What ReadOutput reads of any command's stdout, at most `most` bytes an answer; bytes [gap_from,
  // gap_to) of it are not kept.
  struct Log {
    std::string bytes;
    size_t most = 1000;
    uint64_t gap_from = 0;
    uint64_t gap_to = 0;
  };
  void SetLog(Log log);
  // ListCommands gives two a page, GetCommand and WaitCommand the first, which has ended at the
  // second WaitCommand.
  void SetCommands(std::vector<v1::Command> commands);
  // What CreateSession, GetSession and Cleanup answer; Cleanup breaks at the first call.
  void SetSession(v1::Session session);
  // Cleanup tells this sync and is refused: PULL_PENDING.
  void RefuseCleanup(v1::SyncJob sync);

  // One stream of Sync, SyncBack or RevertSync, whichever comes; kHang ends when the client has
  // cancelled.
  struct SyncReply {
    std::vector<v1::SyncEvent> events = {};
    End end = End::kOk;
  };
  void ScriptSyncs(std::vector<SyncReply> replies);
  // ListSyncs gives two a page, GetSync the first.
  void SetSyncs(std::vector<v1::SyncJob> syncs);

  // "Execute ID SCRIPT @0,0", "Attach NAME @5,0", "Cancel NAME", "Resize 80x24", "Signal 15",
  // "Start SCRIPT FORCE", "SyncBack ID NAME dry-run", ...
  std::vector<std::string> calls();
  // Waits up to 10 s; false: no call that starts so came.
  bool WaitForCall(const std::string& prefix);
  // Waits as WaitForCall until exactly these bytes were taken.
  bool WaitForStdin(const std::string& bytes);
  std::string stdin_bytes();
  bool stdin_closed();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hermes::client
