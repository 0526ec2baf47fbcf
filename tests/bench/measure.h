#pragma once

// What the benchmarks of the daemon share: a client that follows one command.

#include <sys/types.h>

#include <cstdint>
#include <fstream>
#include <string>

#include "tests/bench/table.h"
#include "tests/e2e/daemon_process.h"

namespace hermes {

using Clock = std::chrono::steady_clock;

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
