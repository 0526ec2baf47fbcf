#pragma once

// SshConnection: one logged-in connection to one host that runs programs there. SshTransport: how
// connections are made. Two of them: openssh (a supervised `ssh` and its control socket) and
// libssh2 (in this process). They move bytes and tell the truth about failures; when to log in, how
// often, over how many connections is decided above them, by SshLane. Loop thread.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/backend.h"
#include "backends/ssh_spec.h"
#include "daemon/runtime/clock.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/wish.h"

namespace hermes {

// A login that takes longer (name, TCP, keys, authentication) is given up: BACKEND_UNREACHABLE.
inline constexpr Duration kLoginLimit = std::chrono::seconds(30);
// The part of it until the peer's first word.
inline constexpr Duration kConnectLimit = std::chrono::seconds(10);
// A peer that has said nothing for so many intervals, though asked after each, is dead.
inline constexpr Duration kAliveInterval = std::chrono::seconds(5);
inline constexpr int kAliveMisses = 3;
inline constexpr Duration kAliveLimit = kAliveMisses * kAliveInterval;

// A pinned key may be of a type that the host prefers less than others. Each try shows one key, and
// is a connection of its own to the host.
inline constexpr int kPinTries = 3;
bool IsPinned(const SshSpec& spec);

struct SshTarget {
  SshSpec spec;
  // hermesd's own known_hosts: what accept-new has learned. Written by "accept-new" only; the
  // user's own files are read by every policy but a pinned key, and never written.
  std::string learned_known_hosts;
  bool operator==(const SshTarget&) const = default;
};

// What a target comes to once the user's configuration has been read.
struct SshResolved {
  std::string host;  // the effective ones, for people
  std::string user;
  uint32_t port = 22;
  // "host:port" of the first of its jump hosts, by the name that the configuration has for it;
  // empty: none. That one sees our address, the target sees another.
  std::string first_hop = {};
  // A digest of what may make another machine of the same host: the jump hosts, the proxy command,
  // the name that its key is known by. Empty: none of them.
  std::string route = {};
  // Targets with the same key may share a connection: a digest of everything that matters to it.
  std::string sharing_key;
  // The files that a login's credentials come from: keys, the agent's socket.
  std::vector<std::string> credential_files = {};
  std::vector<std::string> known_hosts_files = {};
};

// The machine and the account that a target leads to, whatever else of a connection changes.
struct SshPlace {
  std::string name;  // "user@host:port"
  std::string route;
  bool operator==(const SshPlace&) const = default;
};
SshPlace PlaceOf(const SshResolved& resolved);

// BACKEND_UNREACHABLE: who is at `was` does not follow where `typed` leads now.
absl::Status LeadsElsewhere(const std::string& typed, const SshPlace& was, const SshPlace& now);

// Of an error's metadata: what its reader can do about it, where that is not what the catalogue
// says of the reason. At most 256 bytes.
inline constexpr std::string_view kNextKey = "next";

// What tells whether files have changed: their device, number and times, never their contents.
std::string StampOf(const std::vector<std::string>& files);

class SshConnection {
 public:
  // Drops the connection: its streams end with an error, soon.
  virtual ~SshConnection() = default;

  // Has the account's login shell run `command`, with its stdio as a stream. Not a word of
  // `command` is secret: others see it in `ps`. IsSlotBusy when the host refuses one more channel
  // just now; BACKEND_UNREACHABLE when the connection is broken. Streams outlive nothing: they
  // break with the connection. WaitEnd tells what the host said of the program's end, nullopt when
  // it said nothing; a broken connection is never an end.
  virtual Task<absl::StatusOr<std::unique_ptr<Stream>>> Run(std::string command) = 0;

  // False once the connection is broken; `why` then says how (typed), OK before.
  virtual bool alive() const = 0;
  virtual absl::Status why() const = 0;

  // The server must not have two programs of ours at once (see MixesPrograms), nor one beside a
  // program that we have given up.
  virtual bool one_at_a_time() const { return false; }
};

// The connections of a login that came to nothing although the host had answered: it may count them
// against our address. One that was never answered costs nothing.
struct SshTries {
  int left = 0;     // ended before a key can have been offered
  int refused = 0;  // ended after that, or nobody knows
};

class SshTransport {
 public:
  virtual ~SshTransport() = default;
  virtual std::string_view name() const = 0;
  virtual absl::Status Available() const = 0;  // OK, or why it cannot be used here

  // Reads configuration, talks to nobody.
  virtual Task<absl::StatusOr<SshResolved>> Resolve(SshTarget target) = 0;

  // Logs in, once. HOST_KEY_UNKNOWN, HOST_KEY_CHANGED, BACKEND_AUTH_FAILED, BACKEND_UNREACHABLE,
  // BAD_FIELD (an option that ssh refuses): each says what is wrong and what to do, and shows
  // ssh's own words where they help. A withdrawn wish ends the login at once, with any error. Adds
  // to `tries` on success, too; it outlives the call.
  virtual Task<absl::StatusOr<std::unique_ptr<SshConnection>>> Connect(SshTarget target,
                                                                       WishPtr wish,
                                                                       SshTries* tries) = 0;
};

// Of a server's software version. Dropbear closes a channel that has no program yet whenever a
// program of another channel ends, then starts the program all the same, and at its first byte
// drops the whole connection with everything on it: Run is safe only while nothing else can end.
bool MixesPrograms(std::string_view version);

// The one status without a reason of the catalogue: never shown to callers.
absl::Status SlotBusy(std::string_view why);
bool IsSlotBusy(const absl::Status& status);

}  // namespace hermes
