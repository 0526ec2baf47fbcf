#include "daemon/core/session_names.h"

#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

#include "daemon/runtime/status.h"

namespace hermes {

std::string_view NameOf(SessionState state) {
  switch (state) {
    case SessionState::kOpening:
      return "OPENING";
    case SessionState::kReady:
      return "READY";
    case SessionState::kDegraded:
      return "DEGRADED";
    case SessionState::kClosing:
      return "CLOSING";
    case SessionState::kClosed:
      return "CLOSED";
    case SessionState::kFailed:
      return "FAILED";
    case SessionState::kLost:
      return "LOST";
  }
  return "?";
}

std::string SessionName(std::string_view session_id) {
  return "sessions/" + std::string(session_id);
}

std::string CommandName(std::string_view session_id, std::string_view command_id) {
  return SessionName(session_id) + "/commands/" + std::string(command_id);
}

std::string SyncName(std::string_view session_id, std::string_view sync_id) {
  return SessionName(session_id) + "/syncs/" + std::string(sync_id);
}

std::string SpoolPath(std::string_view spool_dir, std::string_view command) {
  std::string path(spool_dir);
  path += '/';
  for (char c : command) path += c == '/' ? '+' : c;  // no id has a '+': the file name is unique
  return path;
}

void RemoveSpool(const std::string& spool_dir, std::string_view session_id) {
  const std::string prefix = std::string(session_id) + "+";  // as SpoolPath makes them
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(spool_dir, error)) {
    if (entry.path().filename().string().starts_with(prefix)) files.push_back(entry.path());
  }
  for (const auto& file : files) std::filesystem::remove(file, error);
}

uint64_t SpoolBytes(const std::string& spool_dir) {
  std::error_code error;
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(spool_dir, error)) {
    uintmax_t size = entry.file_size(error);
    if (!error) bytes += size;
  }
  return bytes;
}

std::string ReasonName(const absl::Status& status) {
  std::optional<Reason> reason = ReasonOf(status);
  return std::string(InfoOf(reason.value_or(Reason::k_BUG)).name);
}

}  // namespace hermes
