#include "backends/ssh/libssh2_login.h"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include "backends/ssh/libssh2_auth.h"
#include "daemon/runtime/event.h"
#include "daemon/runtime/race.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

using Tcp = asio::ip::tcp;
using Step = Libssh2Session::Step;

constexpr size_t kMaxAddresses = 16;  // of one name; further ones are not tried

absl::Status Unreachable(const HostAddress& address, const std::string& why) {
  return Error(Reason::k_BACKEND_UNREACHABLE,
               address.host + " port " + std::to_string(address.port) + ": " + why);
}

absl::StatusOr<std::vector<Tcp::endpoint>> LookUp(const HostAddress& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const std::string port = std::to_string(address.port);
  const int error = ::getaddrinfo(address.host.c_str(), port.c_str(), &hints, &list);
  if (error != 0) return Unreachable(address, ::gai_strerror(error));
  std::vector<Tcp::endpoint> endpoints;
  for (addrinfo* one = list; one != nullptr && endpoints.size() < kMaxAddresses;
       one = one->ai_next) {
    Tcp::endpoint endpoint;
    if (one->ai_addrlen > endpoint.capacity()) continue;
    std::memcpy(endpoint.data(), one->ai_addr, one->ai_addrlen);
    endpoint.resize(one->ai_addrlen);
    endpoints.push_back(endpoint);
  }
  ::freeaddrinfo(list);
  if (endpoints.empty()) return Unreachable(address, "has no address");
  return endpoints;
}

template <typename T>
struct Outcome {
  explicit Outcome(Loop& loop) : changed(loop) {}
  Event changed;
  std::optional<T> result;
  bool expired = false;
};

template <typename T, typename F>
Task<void> RunInto(Workers& workers, std::shared_ptr<Outcome<T>> outcome, F work) {
  outcome->result.emplace(co_await workers.Run(std::move(work)));
  outcome->changed.NotifyAll();
}

class Login {
 public:
  Login(const Libssh2LoginDeps& deps, Libssh2LoginSpec spec)
      : loop_(deps.loop),
        clock_(deps.clock),
        workers_(deps.workers),
        spec_(std::move(spec)),
        deadline_(deps.clock.Now() + kLoginLimit) {}

  Task<absl::StatusOr<Libssh2LoggedIn>> Run() {
    absl::StatusOr<std::vector<Tcp::endpoint>> endpoints =
        co_await OnWorkers([address = spec_.address] { return LookUp(address); });
    if (!endpoints.ok()) co_return endpoints.status();
    absl::StatusOr<std::vector<KnownHostKey>> known = co_await OnWorkers(
        [spec = spec_] { return ReadKnownHosts(spec.target, spec.address, spec.home); });
    if (!known.ok()) co_return known.status();
    CO_RETURN_IF_ERROR(co_await Connect(*std::move(endpoints)));
    SetAlarms();
    session_ = std::make_unique<Libssh2Session>(link_);
    const std::vector<std::string> types =
        PreferredHostKeys(*known, session_->SupportedHostKeys(), spec_.refused_key_types);
    if (types.empty())
      co_return Unreachable(spec_.address, "no type of host key is left to ask for");
    session_->PreferHostKeys(types);
    CO_RETURN_IF_ERROR(co_await Handshake());
    CO_RETURN_IF_ERROR(co_await CheckHost(*std::move(known)));
    CO_RETURN_IF_ERROR(co_await Authenticate());
    co_return Libssh2LoggedIn{link_, std::move(session_)};
  }

  // After a failure.
  void CountIn(SshTries& tries) const {
    if (link_ == nullptr || link_->received() == 0) return;
    ++(offers_ ? tries.refused : tries.left);
  }

 private:
  // What takes longer than the login may runs to its end for nobody.
  template <typename F, typename T = std::invoke_result_t<F>>
  Task<T> OnWorkers(F work) {
    auto outcome = std::make_shared<Outcome<T>>(loop_);
    asio::co_spawn(loop_.executor(), RunInto<T>(workers_, outcome, std::move(work)),
                   asio::detached);
    const auto give_up = [outcome] {
      outcome->expired = true;
      outcome->changed.NotifyAll();
    };
    auto alarm = clock_.At(deadline_, give_up);
    const Wish::Ear ear(spec_.wish, give_up);
    while (!outcome->result && !outcome->expired) co_await outcome->changed.Wait();
    if (!outcome->result) co_return TooLong();
    co_return *std::move(outcome->result);
  }

  absl::Status TooLong() const {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(kLoginLimit).count();
    return Unreachable(spec_.address,
                       "the login took longer than " + std::to_string(seconds) + " s");
  }

  Task<absl::Status> Connect(std::vector<Tcp::endpoint> endpoints) {
    absl::Status last = TooLong();
    for (const Tcp::endpoint& endpoint : endpoints) {
      const SteadyTime now = clock_.Now();
      if (now >= deadline_ || IsWithdrawn(spec_.wish)) break;
      Tcp::socket socket(loop_.context());
      const auto close = [&socket] {
        asio::error_code ignored;
        socket.close(ignored);
      };
      const Wish::Ear ear(spec_.wish, close);
      bool expired = false;
      asio::error_code error =
          co_await WithDeadline(clock_, std::min(deadline_, now + kConnectLimit),
                                ConnectOne(&socket, endpoint), close, &expired);
      if (!error && !expired) {
        asio::error_code ignored;
        socket.set_option(Tcp::no_delay(true), ignored);
        socket.set_option(asio::socket_base::keep_alive(true), ignored);
        link_ = std::make_shared<Libssh2Link>(clock_, std::move(socket));
        co_return absl::OkStatus();
      }
      last = Unreachable(spec_.address, endpoint.address().to_string() + " " +
                                            (expired ? "does not answer" : error.message()));
    }
    co_return last;
  }

  static Task<asio::error_code> ConnectOne(Tcp::socket* socket, Tcp::endpoint endpoint) {
    asio::error_code error;
    co_await socket->async_connect(endpoint, asio::redirect_error(asio::use_awaitable, error));
    co_return error;
  }

  void SetAlarms() {
    given_up_ = std::make_unique<Wish::Ear>(spec_.wish,
                                            [link = link_, why = TooLong()] { link->Kill(why); });
    deadline_alarm_ = clock_.At(deadline_, [link = link_, why = TooLong()] { link->Kill(why); });
    const SteadyTime first_word = std::min(deadline_, clock_.Now() + kConnectLimit);
    first_word_alarm_ =
        clock_.At(first_word, [link = link_, why = Unreachable(spec_.address,
                                                               "accepts connections, but no "
                                                               "SSH server answers")] {
          if (link->received() == 0) link->Kill(why);
        });
  }

  Task<absl::Status> Handshake() {
    Step step = co_await FinishCall(*link_, [this] { return session_->Handshake(); });
    if (step == Step::kDone) co_return absl::OkStatus();
    if (link_->error().ok()) {
      co_return Unreachable(spec_.address,
                            session_->Why() +
                                ". Is it an SSH server? This library may lack what it asks for: "
                                "the openssh transport knows more");
    }
    co_return Explain();
  }

  // Our own words stand as they are; what the peer did is put behind its name.
  absl::Status Explain() const {
    const std::string why = session_->Why();
    if (why.starts_with(spec_.address.host)) return link_->error();
    return Unreachable(spec_.address, why);
  }

  Task<absl::Status> CheckHost(std::vector<KnownHostKey> known) {
    const std::string shown = session_->HostKey();
    bool learn = false;
    CO_RETURN_IF_ERROR(CheckHostKey(spec_.target, spec_.address, known, shown, &learn));
    if (!learn) co_return absl::OkStatus();
    co_return co_await OnWorkers(
        [spec = spec_, shown] { return LearnHostKey(spec.target, spec.address, shown); });
  }

  Task<absl::Status> Authenticate() {
    Libssh2Auth auth(loop_, clock_, {spec_.user, spec_.agent_socket, deadline_}, *link_, *session_);
    const std::string& key_file = spec_.target.spec.key_file;
    absl::StatusOr<std::vector<PrivateKey>> keys =
        co_await OnWorkers([key_file, home = spec_.home] { return ReadKeys(key_file, home); });
    if (!keys.ok()) co_return keys.status();
    offers_ = true;
    absl::Status done = co_await auth.Run(*std::move(keys), !key_file.empty());
    if (done.ok() || ReasonOf(done) == Reason::k_BACKEND_AUTH_FAILED) co_return done;
    co_return Explain();
  }

  Loop& loop_;
  Clock& clock_;
  Workers& workers_;
  const Libssh2LoginSpec spec_;
  const SteadyTime deadline_;
  std::shared_ptr<Libssh2Link> link_;
  std::unique_ptr<Libssh2Session> session_;
  bool offers_ = false;  // keys
  std::unique_ptr<Clock::Alarm> deadline_alarm_;
  std::unique_ptr<Clock::Alarm> first_word_alarm_;
  std::unique_ptr<Wish::Ear> given_up_;
};

}  // namespace

Task<absl::StatusOr<Libssh2LoggedIn>> Libssh2Login(Libssh2LoginDeps deps, Libssh2LoginSpec spec,
                                                   SshTries* tried) {
  absl::Status first;
  for (int tries = 1;; ++tries) {
    auto login = std::make_unique<Login>(deps, spec);
    absl::StatusOr<Libssh2LoggedIn> in = co_await login->Run();
    if (in.ok()) co_return in;
    login->CountIn(*tried);
    if (first.ok()) first = in.status();
    if (tries == kPinTries || !IsPinned(spec.target.spec) || IsWithdrawn(spec.wish) ||
        ReasonOf(in.status()) != Reason::k_HOST_KEY_CHANGED) {
      co_return first;
    }
    spec.refused_key_types.push_back(MetadataOf(in.status())[std::string(kShownKeyType)]);
  }
}

}  // namespace hermes
