#pragma once

// A transport to a host that does what the test says: lets in, refuses, does not answer, runs
// programs that never end by themselves. Test thread only.

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/status.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"

namespace hermes {

// The host: how many programs it runs at once, and what it says to a login.
struct Far {
  explicit Far(Loop& loop) : changed(loop) {}
  Event changed;
  uint32_t slots = 1000;
  uint32_t running = 0;
  int connections = 0;  // now
  int started = 0;
  std::vector<std::string> commands = {};  // that were run
  bool answers = true;                     // to logins; else they hang until they are given up
  absl::Status verdict = absl::OkStatus();
  SshTries counts = {};  // what each login adds, also one that is given up
  int logins = 0;        // begun
  int given_up = 0;
  int at_once = 0;  // under way
  int most_at_once = 0;
  // One of the logins that hang, or the next, gets its answer.
  void LetOneIn() {
    ++let_in;
    changed.NotifyAll();
  }
  int let_in = 0;
  std::map<std::string, SshResolved> names = {};  // what a name stands for; else for itself
  int resolved = 0;                               // times that this was asked
  bool opens = true;                              // channels; else who asks waits until it does
};

class HeldStream : public Stream {
 public:
  explicit HeldStream(Far& far) : far_(far) {
    ++far_.running;
    ++far_.started;
  }
  ~HeldStream() override { --far_.running; }
  Task<absl::StatusOr<size_t>> ReadStdout(std::span<char>) override { co_return 0; }
  Task<absl::StatusOr<size_t>> ReadStderr(std::span<char>) override { co_return 0; }
  Task<absl::Status> Write(std::string_view) override { co_return absl::OkStatus(); }
  void CloseStdin() override {}
  void Abort() override {}
  Task<std::optional<End>> WaitEnd() override { co_return std::nullopt; }

 private:
  Far& far_;
};

class FarConnection : public SshConnection {
 public:
  explicit FarConnection(Far& far) : far_(far) { ++far_.connections; }
  ~FarConnection() override { --far_.connections; }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> Run(std::string command) override {
    while (!far_.opens) co_await far_.changed.Wait();
    far_.commands.push_back(std::move(command));
    if (far_.running >= far_.slots) co_return SlotBusy("full");
    co_return std::make_unique<HeldStream>(far_);
  }
  bool alive() const override { return true; }
  absl::Status why() const override { return absl::OkStatus(); }

 private:
  Far& far_;
};

class FarTransport : public SshTransport {
 public:
  explicit FarTransport(Far& far) : far_(far) {}
  std::string_view name() const override { return "far"; }
  absl::Status Available() const override { return absl::OkStatus(); }
  Task<absl::StatusOr<SshResolved>> Resolve(SshTarget target) override {
    ++far_.resolved;
    const auto found = far_.names.find(target.spec.host);
    if (found != far_.names.end()) co_return found->second;
    co_return SshResolved{.host = target.spec.host, .sharing_key = target.spec.host};
  }
  Task<absl::StatusOr<std::unique_ptr<SshConnection>>> Connect(SshTarget, WishPtr wish,
                                                               SshTries* tries) override {
    ++far_.logins;
    tries->left += far_.counts.left;
    tries->refused += far_.counts.refused;
    far_.most_at_once = std::max(far_.most_at_once, ++far_.at_once);
    const Wish::Ear ear(wish, [this] { far_.changed.NotifyAll(); });
    while (!far_.answers && far_.let_in == 0 && !wish->withdrawn()) co_await far_.changed.Wait();
    --far_.at_once;
    if (!far_.answers && !wish->withdrawn()) --far_.let_in;
    if (wish->withdrawn()) {
      ++far_.given_up;
      co_return Error(Reason::k_BACKEND_UNREACHABLE, "given up");
    }
    if (!far_.verdict.ok()) co_return far_.verdict;
    co_return std::make_unique<FarConnection>(far_);
  }

 private:
  Far& far_;
};

}  // namespace hermes
