// The frames of the daemon: which one means what. A frame that cannot be decoded ends its link; one
// about an unknown command or session is refused.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "backends/runner/askpass.h"
#include "backends/runner/runner.h"
#include "backends/runner/tree.h"

namespace hermes::runner {

using frames::Frame;
using frames::Reader;
using frames::Type;
using frames::Writer;

namespace {

bool IsAboutCommand(Type type) {
  switch (type) {
    case Type::kStdin:
    case Type::kStdinEof:
    case Type::kSignal:
    case Type::kKill:
    case Type::kResize:
    case Type::kAttach:
    case Type::kAck:
    case Type::kForget:
      return true;
    default:
      return false;
  }
}

}  // namespace

void Runner::OnFrame(Link& link, const Frame& frame) {
  if (!link.greeted) return OnFirstFrame(link, frame);
  if (!IsAboutCommand(frame.type)) {
    if (!OnSessionFrame(link, frame)) link.Close();
    return;
  }
  Command* command = FindCommand(frame.command);
  if (command != nullptr) {
    if (!OnCommandFrame(*command, frame)) link.Close();
    return;
  }
  bool is_late = frame.type == Type::kAck || frame.type == Type::kForget;
  if (!is_late) Refuse(link, frame.command, "COMMAND_UNKNOWN", "no such command");
}

void Runner::OnFirstFrame(Link& link, const Frame& frame) {
  if (frame.type == Type::kHello) return Greet(link, Reader(frame.payload));
  if (frame.type == kAskpass) return AnswerAskpass(link);
  link.Close();
}

void Runner::Greet(Link& link, Reader payload) {
  uint16_t oldest = payload.U16();
  uint16_t newest = payload.U16();
  payload.Str();  // whose daemon: the directory is per daemon, so there is only one
  if (!payload.done()) return link.Close();
  uint16_t version = std::min(newest, frames::kVersion);
  if (version < oldest || version < frames::kOldestVersion)
    return Refuse(link, 0, "CAPABILITY_MISSING",
                  "this runner speaks protocol versions " + Decimal(frames::kOldestVersion) +
                      " to " + Decimal(frames::kVersion) + ", the daemon " + Decimal(oldest) +
                      " to " + Decimal(newest));
  if (link_ != nullptr) link_->Close();
  for (auto& other : links_)
    if (other.get() != &link && other->greeted) other->Close();
  link.greeted = true;
  link_ = &link;
  ++link_epoch_;
  for (auto& [number, command] : commands_) command->SetLink(&link);
  frames::Welcome welcome{.version = version,
                          .start_token = place_.start_token,
                          .pid = static_cast<uint32_t>(getpid()),
                          .build = std::string(BuildId()),
                          .arch = std::string(Architecture()),
                          .home = place_.home};
  frames::Encode(link.control(), welcome);
}

// The frame handlers return false for a payload that cannot be decoded.
bool Runner::OnCommandFrame(Command& command, const Frame& frame) {
  Reader payload(frame.payload);
  switch (frame.type) {
    case Type::kStdin: {
      uint64_t offset = payload.U64();
      std::string_view bytes = payload.Rest();
      if (payload.ok() && !command.Stdin(offset, bytes))
        Refuse(*link_, frame.command, "STDIN_OFFSET_MISMATCH", "stdin does not continue there");
      return payload.ok();
    }
    case Type::kStdinEof: {
      uint64_t offset = payload.U64();
      if (payload.done() && !command.StdinEof(offset))
        Refuse(*link_, frame.command, "STDIN_OFFSET_MISMATCH", "stdin does not end there");
      return payload.done();
    }
    case Type::kSignal: {
      int signal = payload.U8();
      auto scope = static_cast<frames::Scope>(payload.U8());
      if (payload.done() && signal > 0 && signal < NSIG) command.Signal(signal, scope);
      return payload.done();
    }
    case Type::kKill: {
      uint32_t grace_ms = payload.U32();
      auto cause = static_cast<frames::Cause>(payload.U8());
      if (!payload.done()) return false;
      command.kill_asked = true;
      command.Kill(grace_ms, cause);
      return true;
    }
    case Type::kResize: {
      uint16_t cols = payload.U16();
      uint16_t rows = payload.U16();
      if (payload.done()) command.Resize(cols, rows);
      return payload.done();
    }
    case Type::kAttach:
    case Type::kAck: {
      uint64_t out = payload.U64();
      uint64_t err = payload.U64();
      if (!payload.done()) return false;
      frame.type == Type::kAck ? command.Ack(out, err) : command.Attach(out, err);
      return true;
    }
    default:
      Forget(command);
      return payload.done();
  }
}

bool Runner::OnSessionFrame(Link& link, const Frame& frame) {
  Reader payload(frame.payload);
  switch (frame.type) {
    case Type::kOpen:
      return OnOpen(link, frame);
    case Type::kClose:
      return OnClose(link, frame.command, payload);
    case Type::kLease:
      return OnLease(payload);
    case Type::kList:
      SendList(link);
      return true;
    case Type::kStart:
      return OnStart(link, frame);
    case Type::kAfter:
      if (frames::kVersion < frames::kFilesVersion) return true;
      after_ = {.command = frame.command, .first = payload.U32()};
      return payload.done();
    case Type::kSecret:
      return OnSecret(payload);
    case Type::kPing: {
      uint64_t token = payload.U64();
      Writer writer(link.control());
      writer.Begin(Type::kPong, 0);
      writer.U64(token);
      writer.End();
      return payload.done();
    }
    case Type::kForgetRun:
      return OnForgetRun(payload);
    case Type::kRetire:
      OnRetire(link);
      return true;
    case Type::kHello:
      return false;  // once per link
    default:
      return true;  // of a newer daemon
  }
}

bool Runner::OnForgetRun(Reader payload) {
  std::string_view run_id = payload.Str();
  if (!payload.done() || !IsRunId(run_id)) return false;
  if (Command* command = FindRun(run_id))
    Forget(*command);
  else
    run_ids_.Remember(run_id);
  return true;
}

void Runner::Forget(Command& command) {
  command.forgotten = true;
  run_ids_.Remember(command.run_id());
  if (command.drained()) droppable_.push_back(command.run_id());
}

void Runner::SendList(Link& link) {
  for (const auto& [number, command] : commands_)
    if (!command->forgotten) frames::Encode(link.control(), number, command->Describe());
  Writer writer(link.control());
  writer.Begin(Type::kListEnd, 0);
  writer.End();
}

// A newer program is to serve here. The socket goes before the link, so who finds the link ended
// finds nobody listening.
void Runner::OnRetire(Link& link) {
  DropForgotten();
  if (commands_.empty() && opening_.empty() && listener_.Retire()) return loop_.Stop();
  Refuse(link, 0, "SESSION_NOT_READY", "a command is left");
}

void Runner::AnswerAskpass(Link& link) {
  pid_t asking = PeerPid(link.fd());
  for (const auto& [number, command] : commands_) {
    const std::string& password = command->session().sudo_password;
    pid_t supervisor = command->supervisor();
    // What an ended command left behind is nobody's to answer.
    if (password.empty() || command->ended() || supervisor == 0) continue;
    if (!IsDescendant(asking, supervisor)) continue;
    Writer writer(link.control());
    writer.Begin(kAskpassAnswer, 0);
    writer.Str(password);
    writer.End();
    return;
  }
  Refuse(link, 0, "NOT_OWNER", "not a command of a session that has a password");
}

void Runner::Refuse(Link& link, uint32_t tag, std::string_view reason, std::string_view message) {
  Writer writer(link.control());
  writer.Begin(Type::kRefused, tag);
  writer.Str(reason);
  writer.Str(message);
  writer.End();
}

}  // namespace hermes::runner
