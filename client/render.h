#pragma once

// Answers of the daemon as text for people: tables and key-value lists. Pure: time and colour are
// arguments. All text from outside is made safe for a terminal.

#include <cstdint>
#include <string>
#include <vector>

#include "hermes/v1/admin.pb.h"
#include "hermes/v1/exec.pb.h"
#include "hermes/v1/session.pb.h"

namespace hermes::client {

struct View {
  int64_t now_seconds = 0;  // Unix time, for ages
  bool colour = false;
};

// "5s", "3m20s", "2h5m", "4d": two units at most.
std::string Age(int64_t seconds);
// "512 B", "1.5 KiB".
std::string HumanBytes(uint64_t count);
std::string OrDash(std::string text);

std::string RenderSessions(const std::vector<v1::Session>& sessions, const View& view);
std::string RenderSession(const v1::Session& session, const View& view);
// One line for `session watch`.
std::string RenderSessionEvent(const v1::SessionEvent& event);

std::string RenderCommands(const std::vector<v1::Command>& commands, const View& view);

std::string RenderInfo(const v1::InfoResponse& info, const View& view);
std::string RenderBackends(const v1::CapabilitiesResponse& capabilities, const View& view);

}  // namespace hermes::client
