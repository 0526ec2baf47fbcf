#include "daemon/runtime/log.h"

#include <atomic>
#include <memory>

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace hermes {
namespace {

constexpr char kTimePattern[] = "%Y-%m-%dT%H:%M:%S.%eZ %l %v";
constexpr char kJournalPattern[] = "%v";

struct Emitter {
  Emitter() : logger("hermes", std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
    SetPattern(kTimePattern);
    logger.flush_on(spdlog::level::trace);
  }
  void SetPattern(const char* pattern) {
    logger.set_formatter(
        std::make_unique<spdlog::pattern_formatter>(pattern, spdlog::pattern_time_type::utc));
  }
  spdlog::logger logger;
  std::atomic<bool> journal{false};
};

// Never destroyed: the last lines come from the end of main.
Emitter& TheEmitter() {
  static auto* const emitter = new Emitter;
  return *emitter;
}

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

const char* JournalPrefix(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "<7>";
    case LogLevel::kInfo:
      return "<6>";
    case LogLevel::kWarning:
      return "<4>";
    case LogLevel::kError:
      return "<3>";
  }
  return "<3>";
}

// Control characters become \xNN: text from outside must not forge a line or drive a terminal.
void AppendPrintable(std::string_view text, std::string* line) {
  static constexpr char kDigits[] = "0123456789abcdef";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line->push_back(c);
    } else {
      line->append("\\x");
      line->push_back(kDigits[byte >> 4]);
      line->push_back(kDigits[byte & 0xf]);
    }
  }
}

void AppendField(std::string_view name, std::string_view value, std::string* line) {
  if (value.empty()) return;
  line->append(" ").append(name).append("=");
  AppendPrintable(value, line);
}

}  // namespace

void InitLog(LogLevel least, bool journal) {
  Emitter& emitter = TheEmitter();
  emitter.logger.set_level(SpdlogLevel(least));
  emitter.SetPattern(journal ? kJournalPattern : kTimePattern);
  emitter.journal.store(journal);
}

void Log(LogLevel level, std::string_view message, const LogContext& context) {
  Emitter& emitter = TheEmitter();
  if (!emitter.logger.should_log(SpdlogLevel(level))) return;
  std::string line;
  if (emitter.journal.load()) line.append(JournalPrefix(level));
  AppendPrintable(message, &line);
  AppendField("session", context.session, &line);
  AppendField("command", context.command, &line);
  AppendField("request", context.request_id, &line);
  emitter.logger.log(SpdlogLevel(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace hermes
