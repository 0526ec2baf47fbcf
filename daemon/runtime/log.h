#pragma once

// The one log emitter. Thread-safe. Messages are for operators: they carry names and ids, never
// payload bytes of commands and never secrets. Fields that many lines share go through LogContext.

#include <string>
#include <string_view>

namespace hermes {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// What a line is about; empty parts are left out.
struct LogContext {
  std::string session = {};
  std::string command = {};
  std::string request_id = {};
};

// Once, from main. `journal`: lines carry a <N> priority prefix for systemd instead of a time.
void InitLog(LogLevel least, bool journal);

void Log(LogLevel level, std::string_view message, const LogContext& context = {});

inline void LogDebug(std::string_view message, const LogContext& context = {}) {
  Log(LogLevel::kDebug, message, context);
}
inline void LogInfo(std::string_view message, const LogContext& context = {}) {
  Log(LogLevel::kInfo, message, context);
}
inline void LogWarning(std::string_view message, const LogContext& context = {}) {
  Log(LogLevel::kWarning, message, context);
}
inline void LogError(std::string_view message, const LogContext& context = {}) {
  Log(LogLevel::kError, message, context);
}

}  // namespace hermes
