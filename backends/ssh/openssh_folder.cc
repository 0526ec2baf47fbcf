#include "backends/ssh/openssh_folder.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <utility>

#include "backends/ssh/mux_socket.h"
#include "backends/ssh/openssh_transport.h"
#include "daemon/runtime/log.h"
#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// From the request to end to SIGKILL.
constexpr Duration kLeaveLimit = std::chrono::seconds(3);

absl::Status Unfit(const std::string& path, const std::string& why) {
  return Error(Reason::k_CAPABILITY_MISSING,
               "the folder of ssh's control sockets " + path + " " + why);
}

Task<void> AwaitClose(std::shared_ptr<MuxSocket> socket) {
  while ((co_await MuxSocket::Next(socket)).ok()) {
  }
}

// Whoever still listens there is an ssh that nobody owns. It has gone when it closes the
// connection.
Task<void> EndLeftover(Loop& loop, Clock& clock, std::string path) {
  absl::StatusOr<std::shared_ptr<MuxSocket>> found = co_await MuxSocket::Connect(loop, clock, path);
  if (found.ok()) {
    const std::shared_ptr<MuxSocket> socket = *std::move(found);
    const std::string request =
        mux::EncodeHello() + mux::EncodeRequest(mux::Type::kTerminate, /*request_id=*/1);
    const absl::Status ignored = socket->Send(request);
    co_await WithDeadline(clock, clock.Now() + kLeaveLimit, AwaitClose(socket), [socket] {
      if (const pid_t pid = socket->Peer(); pid > 1) kill(pid, SIGKILL);
      socket->Close();
    });
    LogInfo("ended an ssh that an earlier hermesd left at " + path);
  }
  unlink(path.c_str());
}

}  // namespace

absl::Status PrepareSocketFolder(const std::string& path) {
  if (ControlPath(path, std::string(2 * kControlNameBytes, 'x')).size() > kMaxControlPath) {
    return Unfit(path, "has too long a name: a socket in it would have more than " +
                           std::to_string(kMaxControlPath) + " bytes");
  }
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return Unfit(path, "can't be made: " + std::string(ErrnoStatus(errno, "mkdir").message()));
  }
  struct stat info{};
  if (lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return Unfit(path, "is not a folder");
  }
  if (info.st_uid != geteuid()) return Unfit(path, "belongs to another account");
  if ((info.st_mode & 077) != 0 && chmod(path.c_str(), 0700) != 0) {
    return Unfit(path, "is open to other accounts");
  }
  return absl::OkStatus();
}

std::string ControlPath(const std::string& folder, const std::string& name) {
  return folder + "/" + name;
}

void EndLeftovers(Loop& loop, Clock& clock, const std::string& folder) {
  std::error_code ignored;
  for (std::filesystem::directory_iterator at(folder, ignored), end; at != end;
       at.increment(ignored)) {
    if (ignored) break;
    if (at->symlink_status(ignored).type() == std::filesystem::file_type::socket) {
      Detach(loop, EndLeftover(loop, clock, at->path().string()));
    } else if (at->path().extension() == ".conf") {
      unlink(at->path().c_str());
    }
  }
}

}  // namespace hermes
