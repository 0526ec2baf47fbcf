#pragma once

// Names as words: resource names and the states' names. Pure.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "daemon/core/model.h"

namespace hermes {

std::string_view NameOf(SessionState state);  // "READY"
std::string SessionName(std::string_view session_id);
std::string CommandName(std::string_view session_id, std::string_view command_id);
std::string SyncName(std::string_view session_id, std::string_view sync_id);

// Where the output files of a command ("session/command") are; a prefix for OutputLog.
std::string SpoolPath(std::string_view spool_dir, std::string_view command);

// Removes all output files of a session. Blocking; a rare and short walk of one directory.
void RemoveSpool(const std::string& spool_dir, std::string_view session_id);

// The bytes of all output files. Blocking, as RemoveSpool.
uint64_t SpoolBytes(const std::string& spool_dir);

// The catalogue name of a status' reason; "BUG" for one without.
std::string ReasonName(const absl::Status& status);

}  // namespace hermes
