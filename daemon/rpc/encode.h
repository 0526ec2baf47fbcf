#pragma once

// From the core's values to messages. Pure; messages only, no gRPC.

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include "daemon/core/command_run.h"
#include "daemon/core/follow.h"
#include "daemon/core/model.h"
#include "daemon/rpc/server_info.h"
#include "hermes/v1/admin.pb.h"
#include "hermes/v1/exec.pb.h"
#include "hermes/v1/session.pb.h"

namespace hermes {

void EncodeTime(WallTime time, google::protobuf::Timestamp* to);
void EncodeDuration(Duration duration, google::protobuf::Duration* to);

void Encode(const SessionInfo& info, v1::Session* to);
void Encode(const CommandInfo& info, v1::Command* to);
void Encode(const Capabilities& capabilities, v1::Capabilities* to);
void Encode(const TreeReport& tree, v1::TreeReport* to);
void Encode(const Outcome& outcome, v1::Exit* to);

// As it is now: a command that runs has produced what is in its log.
void EncodeRun(CommandRun& run, v1::Command* to);

// Output bytes are moved into the message. `has_pty`: stdout is shown as TTY.
void Encode(CommandEvent event, bool has_pty, WallTime now, v1::CommandEvent* to);

// The same event on the wire, but for piece.data, which follows.
std::string EncodeHead(const OutputPiece& piece, bool has_pty, WallTime now);

v1::Channel ChannelOf(OutputStream stream, bool has_pty);

// The exit code that a shell would show for this end: the code, 128 + signal, 124 timeout, 130
// cancelled, 126 and 127 launch failures; 125 when there is no code to tell.
int ShellCode(const Outcome& outcome);

}  // namespace hermes
