#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <string>

#include "backends/engine/frames.h"
#include "backends/runner/listener.h"
#include "backends/runner/lock.h"
#include "backends/runner/place.h"
#include "backends/runner/serve.h"
#include "backends/runner/sys.h"

namespace hermes::runner {
namespace {

constexpr int64_t kPatienceUs = 5'000'000;  // then it counts as one that stays

// True: the runner has closed the connection, so it leaves. One that stays says why.
bool AwaitEnd(int socket) {
  const int64_t give_up_us = NowUs() + kPatienceUs;
  std::string heard;
  for (;;) {
    const int64_t left_ms = (give_up_us - NowUs()) / 1000;
    pollfd end{.fd = socket, .events = POLLIN, .revents = 0};
    if (left_ms <= 0 || poll(&end, 1, static_cast<int>(left_ms)) <= 0) return false;
    char bytes[4096];
    const ssize_t n = read(socket, bytes, sizeof bytes);
    if (n <= 0) return true;
    heard.append(bytes, static_cast<size_t>(n));
    frames::Frame frame;
    size_t consumed = 0;
    while (frames::ParseFrame(heard, &frame, &consumed) == frames::Parse::kFrame) {
      if (frame.type == frames::Type::kRefused) return false;
      heard.erase(0, consumed);
    }
  }
}

}  // namespace

int LeaveMain(const std::string& directory) {
  IgnoreSignal(SIGPIPE);
  if (Fd socket = ConnectTo(directory + "/s"); socket.valid()) {
    std::string words;
    frames::Writer writer(words);
    writer.Begin(frames::Type::kHello, 0);
    writer.U16(frames::kOldestVersion);
    writer.U16(frames::kVersion);
    writer.Str("leave");
    writer.End();
    writer.Begin(frames::Type::kRetire, 0);
    writer.End();
    if (!WriteAll(socket.get(), words) || !AwaitEnd(socket.get())) return 1;
  }
  Fd lock;  // until the runner has really ended
  return LockDirectory(directory, false, &lock) == LockResult::kOurs ? 0 : 1;
}

}  // namespace hermes::runner
