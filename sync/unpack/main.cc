// hermes-unpack: reads a Request and a tar stream on stdin, writes records on stdout (wire.h). It
// has no arguments, no environment and, once confined, no way to reach anything but these two.

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>

#include "sync/unpack/confine.h"
#include "sync/unpack/unpacker.h"
#include "sync/unpack/wire.h"

namespace hermes::sync::unpack {
namespace {

constexpr size_t kReadBytes = 256 << 10;

// Only _exit: nothing of the C library's ending is needed, nor allowed.
[[noreturn]] void Leave(int code) { _exit(code); }

size_t ReadSome(char* into, size_t most) {
  for (;;) {
    const ssize_t got = read(STDIN_FILENO, into, most);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) Leave(1);
  }
}

void Flush(std::string* out) {
  for (size_t done = 0; done < out->size();) {
    const ssize_t put = write(STDOUT_FILENO, out->data() + done, out->size() - done);
    if (put < 0 && errno != EINTR) Leave(1);
    if (put > 0) done += static_cast<size_t>(put);
  }
  out->clear();
}

std::string ReadExactly(size_t count) {
  std::string bytes(count, '\0');
  for (size_t done = 0; done < count;) {
    const size_t got = ReadSome(bytes.data() + done, count - done);
    if (got == 0) Leave(1);
    done += got;
  }
  return bytes;
}

Request ReadRequest() {
  std::string bytes = ReadExactly(kRequestPrefix);
  const size_t all = RequestBytes(bytes);
  if (all > kMaxRequestBytes) Leave(1);
  bytes += ReadExactly(all - kRequestPrefix);
  std::optional<Request> request = DecodeRequest(bytes);
  if (!request) Leave(1);
  return *std::move(request);
}

void Run() {
  // A service manager ends the daemon and all of its children at once. The end of stdin ends this
  // one; an end by a signal would count as the doing of who sent the stream.
  for (const int mine : {SIGTERM, SIGINT, SIGHUP}) signal(mine, SIG_IGN);
  std::string out;
  Encode(out, Confine());
  Flush(&out);
  Unpacker unpacker(ReadRequest());
  std::string buffer(kReadBytes, '\0');
  while (size_t got = ReadSome(buffer.data(), buffer.size())) {
    const bool more = unpacker.Feed(std::string_view(buffer).substr(0, got), &out);
    Flush(&out);
    if (!more) break;
  }
  unpacker.Finish(&out);
  Flush(&out);
}

}  // namespace
}  // namespace hermes::sync::unpack

int main() {
  hermes::sync::unpack::Run();
  _exit(0);
}
