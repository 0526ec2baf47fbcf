#pragma once

// What the benchmarks share: a table, percentiles, and a client that follows one command.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "tests/e2e/daemon_process.h"

namespace hermes {

using Clock = std::chrono::steady_clock;

inline double Ms(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

struct Scale {
  bool smoke = false;
  int Of(int full, int smoke_count) const { return smoke ? smoke_count : full; }
};

class Table {
 public:
  void Row(const std::string& what, const std::string& measured, const std::string& target,
           bool met) {
    std::printf("| %-46s | %-58s | %-34s | %s |\n", what.c_str(), measured.c_str(), target.c_str(),
                met ? "yes" : "NO");
    std::fflush(stdout);
  }
};

template <typename... Args>
std::string Text(const char* format, Args... args) {
  char text[256];
  std::snprintf(text, sizeof(text), format, args...);
  return text;
}

inline double Percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<size_t>(p * static_cast<double>(values.size())))];
}

// VmRSS or VmHWM, its peak, of a process.
inline uint64_t StatusKb(pid_t pid, const std::string& field) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field + ":")) return std::stoull(line.substr(field.size() + 1));
  }
  return 0;
}
inline uint64_t RssKb(pid_t pid) { return StatusKb(pid, "VmRSS"); }

struct Followed {
  bool ok = false;
  bool gap = false;
  double first_byte_ms = 0;
  double ms = 0;
  uint64_t bytes = 0;
};

inline Followed Follow(v1::ExecService::Stub& stub, const v1::ExecuteRequest& request,
                       bool stop_at_first = false) {
  Followed seen;
  auto begin = Clock::now();
  grpc::ClientContext context;
  auto stream = stub.Execute(&context, request);
  v1::CommandEvent event;
  while (stream->Read(&event)) {
    if (event.has_output()) {
      if (seen.bytes == 0) seen.first_byte_ms = Ms(Clock::now() - begin);
      seen.bytes += event.output().data().size();
      if (stop_at_first) context.TryCancel();
    }
    if (event.has_gap()) seen.gap = true;
    if (event.has_finished()) {
      seen.ok =
          event.finished().state() == v1::Command::EXITED && event.finished().exit().code() == 0;
    }
  }
  (void)stream->Finish();
  seen.ms = Ms(Clock::now() - begin);
  return seen;
}

}  // namespace hermes
