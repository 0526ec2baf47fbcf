#pragma once

// Words: what a program says on a pipe, gathered in the background so that it never blocks on
// saying it. Only the last bytes are kept. Loop thread; outlives whoever started it until the pipe
// ends.

#include <cstddef>
#include <memory>
#include <string>

#include <asio/posix/stream_descriptor.hpp>

#include "absl/functional/any_invocable.h"
#include "daemon/runtime/loop.h"
#include "daemon/runtime/task.h"

namespace hermes {

class Words {
 public:
  // Takes the descriptor over. `heard` is called when the pipe has ended.
  static std::shared_ptr<Words> Gather(Loop& loop, int fd, size_t most,
                                       absl::AnyInvocable<void()> heard);

  Words(Loop& loop, int fd, size_t most) : pipe_(loop.context(), fd), most_(most) {}

  const std::string& text() const { return text_; }
  bool ended() const { return ended_; }
  bool cut() const { return cut_; }  // something was dropped

  // Stops listening: what comes later is lost, and whoever says it gets EPIPE.
  void Stop();

 private:
  static Task<void> Listen(std::shared_ptr<Words> self, absl::AnyInvocable<void()> heard);

  asio::posix::stream_descriptor pipe_;
  size_t most_;
  std::string text_;
  bool ended_ = false;
  bool cut_ = false;
};

}  // namespace hermes
