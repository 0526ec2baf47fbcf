#include "backends/ssh/libssh2_agent.h"

#include <sys/un.h>

#include <utility>

#include <asio/buffer.hpp>
#include <asio/read.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include "backends/ssh/libssh2_wire.h"
#include "daemon/runtime/race.h"

namespace hermes {
namespace {

// Message numbers of the agent's protocol.
constexpr char kRequestIdentities = 11;
constexpr uint8_t kIdentitiesAnswer = 12;
constexpr char kSignRequest = 13;
constexpr uint8_t kSignResponse = 14;

absl::Status Trouble(const std::string& path, const std::string& why) {
  return absl::UnavailableError("the agent at " + path + " " + why);
}

}  // namespace

SshAgent::SshAgent(Loop& loop, Clock& clock, std::string path)
    : clock_(clock), path_(std::move(path)), socket_(loop.context()) {}

Task<absl::StatusOr<std::string>> SshAgent::Ask(std::string request) {
  asio::error_code error;
  if (!socket_.is_open()) {
    if (path_.size() >= sizeof(sockaddr_un::sun_path)) co_return Trouble(path_, "has a long path");
    co_await socket_.async_connect(asio::local::stream_protocol::endpoint(path_),
                                   asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return Trouble(path_, "can't be reached: " + error.message());
  }
  std::string message;
  PutString(message, request);
  co_await asio::async_write(socket_, asio::buffer(message),
                             asio::redirect_error(asio::use_awaitable, error));
  std::string reply(4, '\0');
  if (!error) {
    co_await asio::async_read(socket_, asio::buffer(reply),
                              asio::redirect_error(asio::use_awaitable, error));
  }
  if (error) co_return Trouble(path_, "does not answer: " + error.message());
  uint32_t size = 0;
  WireReader(reply).U32(&size);
  if (size == 0 || size > kMaxAgentReply) co_return Trouble(path_, "answers nonsense");
  reply.resize(size);
  co_await asio::async_read(socket_, asio::buffer(reply),
                            asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return Trouble(path_, "does not answer: " + error.message());
  co_return reply;
}

// Out of time, the socket is closed: a late answer must not be taken for the next one's.
Task<absl::StatusOr<std::string>> SshAgent::AskUntil(std::string request, SteadyTime deadline) {
  bool expired = false;
  absl::StatusOr<std::string> reply = co_await WithDeadline(
      clock_, deadline, Ask(std::move(request)),
      [this] {
        asio::error_code ignored;
        socket_.close(ignored);
      },
      &expired);
  if (!reply.ok() && expired) co_return Trouble(path_, "has not answered in time");
  co_return reply;
}

Task<absl::StatusOr<std::vector<std::string>>> SshAgent::List(SteadyTime deadline) {
  absl::StatusOr<std::string> reply =
      co_await AskUntil(std::string(1, kRequestIdentities), deadline);
  if (!reply.ok()) co_return reply.status();
  WireReader reader(*reply);
  uint8_t type = 0;
  uint32_t count = 0;
  if (!reader.Byte(&type) || type != kIdentitiesAnswer || !reader.U32(&count)) {
    co_return Trouble(path_, "does not tell its keys");
  }
  std::vector<std::string> blobs;
  for (std::string_view blob, comment; count > 0; --count) {
    if (!reader.String(&blob) || !reader.String(&comment)) break;
    blobs.emplace_back(blob);
  }
  co_return blobs;
}

Task<absl::StatusOr<std::string>> SshAgent::Sign(std::string blob, std::string data,
                                                 SteadyTime deadline) {
  std::string request(1, kSignRequest);
  PutString(request, blob);
  PutString(request, data);
  PutU32(request, 0);  // no flags: what libssh2 asks for is the key's own algorithm
  absl::StatusOr<std::string> reply = co_await AskUntil(std::move(request), deadline);
  if (!reply.ok()) co_return reply.status();
  WireReader reader(*reply);
  uint8_t type = 0;
  std::string_view signature, algorithm, bare;
  if (!reader.Byte(&type) || type != kSignResponse || !reader.String(&signature)) {
    co_return Trouble(path_, "refuses to sign");
  }
  WireReader parts(signature);
  if (!parts.String(&algorithm) || !parts.String(&bare)) {
    co_return Trouble(path_, "answers nonsense");
  }
  co_return std::string(bare);
}

}  // namespace hermes
