#include "backends/ssh/openssh_words.h"

#include <array>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include "backends/ssh/mux_socket.h"

namespace hermes {

std::shared_ptr<Words> Words::Gather(Loop& loop, int fd, size_t most,
                                     absl::AnyInvocable<void()> heard) {
  auto self = std::make_shared<Words>(loop, fd, most);
  Detach(loop, Listen(self, std::move(heard)));
  return self;
}

void Words::Stop() {
  asio::error_code ignored;
  pipe_.close(ignored);
}

Task<void> Words::Listen(std::shared_ptr<Words> self, absl::AnyInvocable<void()> heard) {
  std::array<char, 4096> buffer;
  while (true) {
    asio::error_code error;
    const size_t bytes = co_await self->pipe_.async_read_some(
        asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
    self->text_.append(buffer.data(), bytes);
    if (self->text_.size() <= self->most_) continue;
    self->text_.erase(0, self->text_.size() - self->most_);
    self->cut_ = true;
  }
  self->Stop();
  self->ended_ = true;
  heard();
}

}  // namespace hermes
