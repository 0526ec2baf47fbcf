#pragma once

// SshHost: what the sessions on one host share: a lane for commands, one for bulk, made on demand
// and dropped when idle. SshHosts: all of them, found by what a target resolves to, counted by the
// sandboxes that use them. Owned by the SSH backend; loop thread.

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "backends/ssh/ssh_lane.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/random.h"

namespace hermes {

// A bulk connection without streams is closed after this.
inline constexpr Duration kBulkIdleLimit = std::chrono::seconds(60);
// A host that no session uses keeps its connection this long for the next one.
inline constexpr Duration kHostLinger = std::chrono::seconds(60);
// What a target resolved to is believed this long: ssh_config is not read again for each of a
// thousand sessions. More than kMaxResolved targets: all are forgotten.
inline constexpr Duration kResolvedLife = std::chrono::seconds(10);
inline constexpr size_t kMaxResolved = 1024;

class SshHost {
 public:
  struct Deps {
    Loop& loop;
    Clock& clock;
    Random& random;
  };
  SshHost(Deps deps, SshTransport& transport, SshTarget target, SshResolved resolved,
          std::shared_ptr<SshGate> gate);
  ~SshHost();

  // Commands and control go over one connection, bulk over another. Control that finds every slot
  // taken, or is refused one, goes over the other, too: a kill must not wait for what it is to
  // kill.
  Task<absl::StatusOr<std::unique_ptr<Stream>>> Open(std::string command, Lane lane, WishPtr wish);

  const SshResolved& resolved() const { return resolved_; }

 private:
  friend class SshHosts;
  static Task<absl::StatusOr<std::unique_ptr<Stream>>> OpenControl(SshLane::Ptr first,
                                                                   SshLane::Ptr other,
                                                                   std::string command,
                                                                   WishPtr wish);
  SshLane::Ptr MakeLane(Duration idle_limit) const;

  Deps deps_;
  SshTransport& transport_;
  const SshTarget target_;
  const SshResolved resolved_;
  const std::shared_ptr<SshGate> gate_;
  const SshLane::Ptr command_lane_;
  const SshLane::Ptr bulk_lane_;
  int users_ = 0;
  std::unique_ptr<Clock::Alarm> linger_;
};

// The gates of all hosts, for all transports: a host sees one address of us.
class SshGates {
 public:
  explicit SshGates(Loop& loop) : loop_(loop) {}
  std::shared_ptr<SshGate> For(const SshResolved& resolved);

 private:
  Loop& loop_;
  std::map<std::string, std::weak_ptr<SshGate>> gates_;  // by host:port
};

class SshHosts {
 public:
  SshHosts(SshHost::Deps deps, SshTransport& transport, SshGates& gates)
      : deps_(deps), transport_(transport), gates_(gates) {}

  // One use of a host; ends with its destruction.
  class Use {
   public:
    Use(SshHosts& hosts, std::shared_ptr<SshHost> host);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    SshHost* operator->() const { return host_.get(); }

   private:
    SshHosts& hosts_;
    const std::shared_ptr<SshHost> host_;
  };

  Task<absl::StatusOr<std::shared_ptr<Use>>> For(SshTarget target);
  // The next For asks where it leads, whoever asked a moment ago.
  void Forget(const SshTarget& target);

 private:
  struct Known {
    SshTarget target;
    SshResolved resolved;
    SteadyTime until;
  };
  void Release(const std::shared_ptr<SshHost>& host);

  SshHost::Deps deps_;
  SshTransport& transport_;
  SshGates& gates_;
  std::map<std::string, std::shared_ptr<SshHost>> hosts_;  // by sharing key
  std::multimap<std::string, Known> resolved_;             // by spec.host
};

}  // namespace hermes
