#pragma once

// DaemonProcess: a real hermesd in a directory of its own (--dev, or with a configuration),
// started, killed and started again by a test. Its destructor ends the daemon and the runner that
// it left behind, by pid. One thread each, except stubs.

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "hermes/v1/admin.grpc.pb.h"
#include "hermes/v1/exec.grpc.pb.h"
#include "hermes/v1/session.grpc.pb.h"
#include "tests/fakes/eventually.h"

namespace hermes {

class DaemonProcess {
 public:
  DaemonProcess();
  ~DaemonProcess();

  // From now on it is started with --config and this after the paths, which lie in dir(), but for
  // the socket's folder if one is named: socket() is not there then.
  void Configure(const std::string& toml, const std::string& runtime_dir = "");

  // Its HOME from the next start on; by default dir().
  void SetHome(const std::string& home) { home_ = home; }

  void Start();           // returns when it is READY
  void Kill(int signal);  // returns when it is gone
  int Terminate();        // SIGTERM; its exit code
  pid_t pid() const { return pid_; }
  const std::string& dir() const { return dir_; }
  std::string socket() const { return dir_ + "/hermes.sock"; }

  // Of the runner that serves this daemon's local sessions; 0: none.
  pid_t RunnerPid() const;

  // A connection of its own each.
  std::shared_ptr<grpc::Channel> Connect() const;

  void CreateSession(const std::string& id,
                     v1::RunnerPolicy runner = v1::RUNNER_POLICY_UNSPECIFIED);
  v1::Session GetSession(const std::string& id) const;

 private:
  std::string dir_;
  std::string home_;
  std::string config_;  // the file; empty: --dev
  pid_t pid_ = 0;
};

// Where the programs of this build are: beside the test.
std::string BinDir();

// Processes whose environment holds NAME=value, whatever became of their parents.
std::vector<pid_t> ProcessesWithCookie(const std::string& cookie);
// For trees that end a moment after what told of their end: false when some are left after 30 s.
bool WaitUntilNoneHas(const std::string& cookie);

// What one client learned of one command.
struct Seen {
  std::string out;
  std::string err;
  bool gap = false;
  int finished = 0;
  hermes::v1::Command command;
  grpc::Status status;
};

// Executes and follows to the end, over as many connections as it takes: retries with the same
// request id after UNAVAILABLE, and attaches from its own offsets. Gives up after `attempts`.
Seen ExecuteToEnd(const DaemonProcess& daemon, const hermes::v1::ExecuteRequest& request,
                  int attempts = 200);

hermes::v1::ExecuteRequest Shell(const std::string& session, const std::string& script,
                                 const std::string& request_id = "");
std::string NewUuid();

}  // namespace hermes
