#include "backends/runner/askpass.h"

#include <sys/prctl.h>
#include <unistd.h>

#include "backends/runner/listener.h"
#include "backends/runner/sys.h"

namespace hermes::runner {

int AskpassMain(const std::string& self) {
  prctl(PR_SET_DUMPABLE, 0);
  size_t slash = self.rfind('/');
  std::string directory = slash == std::string::npos ? "." : self.substr(0, slash);
  Fd socket = ConnectTo(directory + "/s");
  std::string request;
  frames::Writer writer(request);
  writer.Begin(kAskpass, 0);
  writer.End();
  if (!socket.valid() || !WriteAll(socket.get(), request)) return 1;
  std::string answer;
  for (;;) {
    frames::Frame frame;
    size_t consumed = 0;
    auto parse = frames::ParseFrame(answer, &frame, &consumed);
    if (parse == frames::Parse::kBroken) return 1;
    if (parse == frames::Parse::kFrame) {
      if (frame.type != kAskpassAnswer) return 1;
      std::string line(frames::Reader(frame.payload).Str());
      return WriteAll(STDOUT_FILENO, line + "\n") ? 0 : 1;
    }
    char piece[4096];
    ssize_t n = read(socket.get(), piece, sizeof piece);
    if (n <= 0) return 1;
    answer.append(piece, static_cast<size_t>(n));
  }
}

}  // namespace hermes::runner
