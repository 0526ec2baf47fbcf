#pragma once

// The C library behind a C++ face: one session over one link, never blocking. The only file that
// includes its header is libssh2_session.cc. Every call that says kAgain is called again, with the
// same arguments, after more has come in; nothing here waits. Owned by the login, then by the
// connection. Loop thread.

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "backends/backend.h"
#include "backends/ssh/libssh2_link.h"

namespace hermes {

// What a session may hold in the library's lists. Only a host that ignores the protocol's limits
// gets there: then the connection is broken.
inline constexpr size_t kMaxSessionHeap = 64 << 20;  // bytes

// A channel is opened with this window and widened at once: the library would widen by itself, by
// what it read rather than by what was consumed, when less than this is left, so we stop reading
// before.
inline constexpr size_t kFirstWindow = 4096;  // bytes

class Libssh2Session {
 public:
  enum class Step {
    kDone,
    kAgain,
    kRefused,  // the host said no; the session goes on
    kBroken,   // see Why()
  };
  using Channel = void*;

  explicit Libssh2Session(std::shared_ptr<Libssh2Link> link);
  ~Libssh2Session();  // kills the link
  Libssh2Session(const Libssh2Session&) = delete;
  Libssh2Session& operator=(const Libssh2Session&) = delete;

  // Libraries before 1.11 sign with RSA keys by SHA-1 only, which OpenSSH refuses since 8.8.
  static bool SignsRsaWithSha1Only();

  // Login, in this order.
  std::vector<std::string> SupportedHostKeys();
  void PreferHostKeys(const std::vector<std::string>& types);
  Step Handshake();
  std::string HostKey();
  std::string Banner();
  Step LoginWithKey(const std::string& user, const std::string& private_key);
  // `signature` empty: not known yet. Fills `to_sign` when the host takes the key and wants proof:
  // then kAgain, and called again with the signature.
  struct Signing {
    std::string blob;
    std::string to_sign;
    std::string signature;
    bool given_up = false;  // there will be none
  };
  Step LoginWithSigner(const std::string& user, Signing* signing);

  // One Open at a time. A `ping` asks for a channel of a type that no host has: its refusal proves
  // that the host lives, and waiting for it is how the library is made to read without a channel.
  Step Open(bool ping, Channel* channel);
  Step Exec(Channel channel, const std::string& command);
  Step Widen(Channel channel, size_t bytes);  // the receive window
  Step SendEof(Channel channel);
  // kDone: our CLOSE is sent. The channel lives on until Free.
  Step Close(Channel channel);
  void Free(Channel channel);  // only after Close was done

  // Bytes taken from what came; 0: nothing there now (or nothing that fits the window's rules).
  // Processes all that came in for every channel, as far as the link allows.
  struct Read {
    Step step = Step::kAgain;
    size_t bytes = 0;
  };
  Read ReadSome(Channel channel, bool of_stderr, std::span<char> into);
  Read WriteSome(Channel channel, std::string_view data);
  size_t SendWindow(Channel channel);

  bool AtEof(Channel channel);  // the host's end of file or close came, and all before it was read
  bool ClosedByHost(Channel channel);
  // What the host said of the program's end. The library does not tell "exit status 0" from none at
  // all: that is nullopt.
  std::optional<Stream::End> ProgramEnd(Channel channel);

  void Disconnect();  // queues the goodbye

  // Why the session is broken, or the last refusal, in words.
  std::string Why();
  size_t heap_bytes() const { return heap_bytes_; }

 private:
  struct Calls;
  struct Block;
  void Link(Block* block, size_t size);
  void Unlink(Block* block);
  Step StepOf(int code);

  std::shared_ptr<Libssh2Link> link_;
  void* session_ = nullptr;
  bool shaking_ = false;
  std::string goodbye_;      // of the host
  Block* blocks_ = nullptr;  // what the library has from us
  size_t heap_bytes_ = 0;
};

}  // namespace hermes
