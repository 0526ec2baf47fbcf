#include "daemon/rpc/folder_watch.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <utility>

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include "daemon/runtime/status.h"

namespace hermes {

absl::StatusOr<std::shared_ptr<FolderWatch>> FolderWatch::Open(Loop& loop,
                                                               const std::string& folder) {
  Fd fd(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, "inotify");
  constexpr uint32_t kNames = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO;
  if (inotify_add_watch(fd.get(), folder.c_str(), kNames | IN_ONLYDIR) < 0) {
    return ErrnoStatus(errno, "watch " + folder);
  }
  return std::make_shared<FolderWatch>(loop, std::move(fd));
}

FolderWatch::FolderWatch(Loop& loop, Fd fd) : events_(loop.context(), fd.release()) {}

Task<void> FolderWatch::Changed(std::shared_ptr<FolderWatch> self) {
  asio::error_code ignored;
  co_await self->events_.async_wait(asio::posix::stream_descriptor::wait_read,
                                    asio::redirect_error(asio::use_awaitable, ignored));
  if (self->open()) self->Drain();
}

void FolderWatch::Drain() {
  char bytes[64 * (sizeof(inotify_event) + NAME_MAX + 1)];
  for (;;) {
    const ssize_t got = read(events_.native_handle(), bytes, sizeof(bytes));
    if (got <= 0) return;
    for (ssize_t at = 0; at < got;) {
      inotify_event event;
      memcpy(&event, bytes + at, sizeof(event));
      if ((event.mask & IN_IGNORED) != 0) return Close();
      at += static_cast<ssize_t>(sizeof(event) + event.len);
    }
  }
}

void FolderWatch::Close() {
  asio::error_code ignored;
  events_.close(ignored);
}

}  // namespace hermes
