#pragma once

// Commands that write more than is kept, as several e2e tests start them: numbers, one a line.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"
#include "tests/hosts/processes.h"

namespace hermes {

inline std::string Numbers(uint64_t bytes) {
  std::string text;
  for (int i = 1; text.size() < bytes; ++i) text += std::to_string(i) + "\n";
  return text.substr(0, bytes);
}

// True: processes with this in their environment live, and each of them waits.
inline bool AllWait(const std::string& cookie) {
  const std::vector<pid_t> pids = ProcessesWithCookie(cookie);
  return !pids.empty() && std::all_of(pids.begin(), pids.end(), [](pid_t pid) {
    ProcessFacts facts;
    return ReadProcess(pid, &facts) && facts.state == 'S';
  });
}

// The only command of session "s" that runs; empty: there is none, or more than one.
inline std::string RunningCommand(v1::ExecService::Stub& stub) {
  v1::ListCommandsRequest list;
  list.set_parent("sessions/s");
  list.set_filter("state=RUNNING");
  v1::ListCommandsResponse running;
  grpc::ClientContext context;
  if (!stub.ListCommands(&context, list, &running).ok()) return "";
  return running.commands_size() == 1 ? running.commands(0).name() : "";
}

// Cancels it; the daemon has half a minute.
inline grpc::Status Cancel(const DaemonProcess& daemon, v1::Command* cancelled) {
  auto stub = v1::ExecService::NewStub(daemon.Connect());
  v1::CancelCommandRequest request;
  request.set_name(RunningCommand(*stub));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  return stub->CancelCommand(&context, request, cancelled);
}

// Where it cannot be cancelled the daemon is ended, so that who follows it comes to an end.
inline void CancelOrTerminate(DaemonProcess& daemon) {
  v1::Command cancelled;
  const grpc::Status status = Cancel(daemon, &cancelled);
  EXPECT_TRUE(status.ok()) << status.error_message();
  if (!status.ok()) daemon.Terminate();
}

}  // namespace hermes
