// Any text as a known_hosts file: nothing but whole keys that name their own type comes out, and
// a key is what it is whatever stands around its line.

#include <cstddef>
#include <cstdint>
#include <string>

#include "backends/ssh/known_hosts.h"
#include "backends/ssh/libssh2_wire.h"
#include "daemon/runtime/check.h"

namespace hermes {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  for (uint32_t port : {22U, 2222U}) {
    for (const KnownHostKey& key : FindKnownHost(text, "f", "127.0.0.1", port)) {
      CHECK(!key.type.empty() && KeyTypeOf(key.blob) == key.type);
      CHECK(key.where.starts_with("f:"));
      CHECK(DecodeBase64(EncodeBase64(key.blob)) == key.blob);
    }
    std::string blob;
    PutString(blob, "ssh-ed25519");
    const std::string line =
        KnownHostName("127.0.0.1", port) + " ssh-ed25519 " + EncodeBase64(blob) + "\n";
    HostKeyVerdict verdict =
        JudgeHostKey(FindKnownHost(line + text, "f", "127.0.0.1", port), blob).verdict;
    CHECK(verdict == HostKeyVerdict::kKnown || verdict == HostKeyVerdict::kRevoked);
  }
  return 0;
}

}  // namespace hermes
