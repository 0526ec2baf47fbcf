#include "tests/hosts/delay_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/hosts/processes.h"

namespace hermes {
namespace {

using Steady = std::chrono::steady_clock;
using Time = Steady::time_point;

constexpr size_t kReadBytes = 64 << 10;
// What one direction of a connection holds; beyond it the sender is not read. Without a bandwidth
// it must carry a fast stream over a long round trip, with one it is a sender's buffer.
constexpr size_t kHeldBytes = 32 << 20;
constexpr size_t kHeldShapedBytes = 256 << 10;
constexpr int kBacklog = 512;

// One direction of one connection.
struct Flow {
  struct Piece {
    Time due;
    std::string bytes;
    size_t sent = 0;
  };
  std::string waiting;    // for its turn on the link
  std::deque<Piece> way;  // under way, in the order of `due`
  size_t held = 0;        // bytes in both
  uint64_t* delivered = nullptr;
  bool blocked = false;  // the receiver takes no more now
  bool ended = false;    // the sender will send no more
  Time end_due;
  bool closed = false;  // and the receiver was told
};

struct Connection {
  int client = -1;
  int server = -1;
  Time open_at;
  bool connecting = false;
  bool broken = false;
  Flow up, down;
};

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

void NoDelay(int fd) {
  int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void Reset(int fd) {
  if (fd < 0) return;
  linger hard{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
  ::close(fd);
}

}  // namespace

class DelayProxy::Impl {
 public:
  explicit Impl(DelayProxyOptions options);
  ~Impl();

  template <typename Change>
  void Tell(Change change) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      change();
      ++changes_;
    }
    uint64_t one = 1;
    if (::write(wake_, &one, sizeof(one)) < 0) GiveUp("wake the proxy");
  }
  template <typename T>
  T Get(const T& value) const {
    std::lock_guard<std::mutex> lock(mutex_);
    return value;
  }
  int open() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<int>(connections_.size());
  }
  void CutAll();

  int port = 0;
  bool stopped = false;
  bool refusing = false;
  int accepted = 0;
  int cuts = 0;
  int cuts_left = 0;
  uint64_t cut_every = 0;
  uint64_t cut_in = 0;
  uint64_t up_bytes = 0;
  uint64_t down_bytes = 0;

 private:
  // The shared link of one direction.
  struct Link {
    Time free_at;
    size_t turn = 0;
  };
  struct Watch {
    Connection* connection;
    bool client;
  };

  void Loop();
  void Move(Time now);
  void OpenServer(Connection* c, Time now);
  void Accept(Time now);
  void Read(int from, Flow* flow, Connection* c, Time now);
  void Shape(Link* link, Flow Connection::* direction, Time now);
  void Deliver(int to, Flow* flow, Connection* c, Time now);
  void Finish(int to, Flow* flow, Time now);
  void RemoveBroken();
  void WakeAt(Time when) { next_ = std::min(next_, when); }
  void WatchAll(std::vector<pollfd>* fds, std::vector<Watch>* watches);
  void Ready(const pollfd& fd, const Watch& watch, Time now);
  size_t HeldLimit() const { return options_.bytes_per_second ? kHeldShapedBytes : kHeldBytes; }

  const DelayProxyOptions options_;
  const Steady::duration half_;
  mutable std::mutex mutex_;
  std::list<Connection> connections_;
  Link up_link_, down_link_;
  Time next_;
  int listener_ = -1;
  int wake_ = -1;
  bool quit_ = false;
  uint64_t changes_ = 0;  // by Tell: what the loop saw before it waited may be gone
  std::vector<char> buffer_ = std::vector<char>(kReadBytes);
  std::thread thread_;
};

DelayProxy::Impl::Impl(DelayProxyOptions options) : options_(options), half_(options.rtt / 2) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(listener_, kBacklog) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    GiveUp("listen for the proxy");
  port = ntohs(address.sin_port);
  wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  thread_ = std::thread([this] { Loop(); });
}

DelayProxy::Impl::~Impl() {
  Tell([this] { quit_ = true; });
  thread_.join();
  CutAll();
  ::close(listener_);
  ::close(wake_);
}

void DelayProxy::Impl::CutAll() {
  for (Connection& c : connections_) c.broken = true;
  RemoveBroken();
}

void DelayProxy::Impl::RemoveBroken() {
  connections_.remove_if([](const Connection& c) {
    bool done = c.up.closed && c.down.closed;
    if (c.broken) {
      Reset(c.client);
      Reset(c.server);
    } else if (done) {
      ::close(c.client);
      ::close(c.server);
    }
    return c.broken || done;
  });
}

void DelayProxy::Impl::Loop() {
  ::prctl(PR_SET_TIMERSLACK, 1);  // nanosecond: delays are measured by tests
  std::vector<pollfd> fds;
  std::vector<Watch> watches;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!quit_) {
    Time now = Steady::now();
    next_ = Time::max();
    if (!stopped) Move(now);
    WatchAll(&fds, &watches);
    timespec wait{};
    if (next_ != Time::max()) {
      auto left = std::max(Steady::duration(0), next_ - Steady::now());
      auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
      wait = {ns / 1'000'000'000, ns % 1'000'000'000};
    }
    const uint64_t seen = changes_;
    lock.unlock();
    ::ppoll(fds.data(), fds.size(), next_ == Time::max() ? nullptr : &wait, nullptr);
    lock.lock();
    uint64_t count;
    if (fds[0].revents != 0 && ::read(wake_, &count, sizeof(count)) > 0) continue;
    if (stopped || seen != changes_) continue;  // look again
    now = Steady::now();
    if (fds.size() > 1 && fds[1].revents != 0) Accept(now);
    for (size_t i = 0; i < watches.size(); ++i)
      if (fds[i + 2].revents != 0) Ready(fds[i + 2], watches[i], now);
  }
}

void DelayProxy::Impl::WatchAll(std::vector<pollfd>* fds, std::vector<Watch>* watches) {
  fds->assign({{wake_, POLLIN, 0}});
  watches->clear();
  if (stopped) return;
  fds->push_back({listener_, POLLIN, 0});
  auto add = [&](Connection& c, bool client, const Flow& in, const Flow& out) {
    short events = 0;
    if (!in.ended && in.held < HeldLimit()) events |= POLLIN;
    if (out.blocked) events |= POLLOUT;
    if (!client && c.connecting) events = POLLOUT;
    int fd = client ? c.client : c.server;
    if (fd < 0 || events == 0) return;  // not watched at all: a hang-up would wake us for ever
    fds->push_back({fd, events, 0});
    watches->push_back({&c, client});
  };
  for (Connection& c : connections_) {
    add(c, true, c.up, c.down);
    add(c, false, c.down, c.up);
  }
}

void DelayProxy::Impl::Ready(const pollfd& fd, const Watch& watch, Time now) {
  Connection& c = *watch.connection;
  if (c.broken) return;
  if (!watch.client && c.connecting) {
    int error = 0;
    socklen_t size = sizeof(error);
    ::getsockopt(c.server, SOL_SOCKET, SO_ERROR, &error, &size);
    c.connecting = false;
    c.broken = error != 0;
    return;
  }
  Flow& in = watch.client ? c.up : c.down;
  Flow& out = watch.client ? c.down : c.up;
  if ((fd.revents & POLLOUT) != 0) out.blocked = false;
  if ((fd.events & POLLIN) != 0 && (fd.revents & ~POLLOUT) != 0) Read(fd.fd, &in, &c, now);
}

void DelayProxy::Impl::Accept(Time now) {
  int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  if (refusing) return Reset(fd);
  NoDelay(fd);
  ++accepted;
  Connection& c = connections_.emplace_back();
  c.client = fd;
  c.open_at = now + half_ * 3;
  c.up.delivered = &up_bytes;
  c.down.delivered = &down_bytes;
}

void DelayProxy::Impl::OpenServer(Connection* c, Time now) {
  if (c->server >= 0) return;
  if (now < c->open_at) return WakeAt(c->open_at);
  c->server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  NoDelay(c->server);
  sockaddr_in address = Loopback(options_.target_port);
  if (::connect(c->server, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return;
  c->connecting = errno == EINPROGRESS;
  c->broken = !c->connecting;
}

void DelayProxy::Impl::Move(Time now) {
  for (Connection& c : connections_) OpenServer(&c, now);
  if (options_.bytes_per_second != 0) {
    Shape(&up_link_, &Connection::up, now);
    Shape(&down_link_, &Connection::down, now);
  }
  for (Connection& c : connections_) {
    Deliver(c.client, &c.down, &c, now);
    if (c.server >= 0 && !c.connecting) Deliver(c.server, &c.up, &c, now);
  }
  RemoveBroken();
}

void DelayProxy::Impl::Read(int from, Flow* flow, Connection* c, Time now) {
  ssize_t got = ::read(from, buffer_.data(), buffer_.size());
  if (got < 0) {
    c->broken = errno != EAGAIN;
    return;
  }
  if (got == 0) {
    flow->ended = true;
    flow->end_due = now + half_;
    return;
  }
  flow->held += static_cast<size_t>(got);
  if (options_.bytes_per_second != 0)
    flow->waiting.append(buffer_.data(), static_cast<size_t>(got));
  else
    flow->way.push_back({now + half_, std::string(buffer_.data(), static_cast<size_t>(got))});
}

// Puts on the link what its bandwidth allows by now, the connections in turn.
void DelayProxy::Impl::Shape(Link* link, Flow Connection::* direction, Time now) {
  std::vector<Flow*> flows;
  for (Connection& c : connections_)
    if (!(c.*direction).waiting.empty()) flows.push_back(&(c.*direction));
  const uint64_t rate = options_.bytes_per_second;
  const size_t quantum = std::max<size_t>(1500, rate / 1000);
  link->free_at = std::max(link->free_at, now - std::chrono::milliseconds(1));
  while (!flows.empty() && link->free_at <= now) {
    size_t index = ++link->turn % flows.size();
    Flow* flow = flows[index];
    std::string bytes = flow->waiting.substr(0, quantum);
    flow->waiting.erase(0, bytes.size());
    if (flow->waiting.empty()) flows.erase(flows.begin() + static_cast<ptrdiff_t>(index));
    link->free_at += std::chrono::nanoseconds(bytes.size() * 1'000'000'000 / rate);
    Time due = std::max(link->free_at, now) + half_;
    flow->end_due = std::max(flow->end_due, due);
    flow->way.push_back({due, std::move(bytes)});
  }
  if (!flows.empty()) WakeAt(link->free_at);
}

void DelayProxy::Impl::Deliver(int to, Flow* flow, Connection* c, Time now) {
  while (!c->broken && !flow->blocked && !flow->way.empty()) {
    Flow::Piece& piece = flow->way.front();
    if (piece.due > now) return WakeAt(piece.due);
    size_t size = piece.bytes.size() - piece.sent;
    const bool counted = flow == &c->down && cuts_left > 0;
    if (counted) size = std::min<uint64_t>(size, cut_in);
    ssize_t wrote = ::send(to, piece.bytes.data() + piece.sent, size, MSG_NOSIGNAL);
    if (wrote < 0) {
      flow->blocked = errno == EAGAIN;
      c->broken = !flow->blocked;
      return;
    }
    piece.sent += static_cast<size_t>(wrote);
    flow->held -= static_cast<size_t>(wrote);
    *flow->delivered += static_cast<uint64_t>(wrote);
    if (piece.sent == piece.bytes.size()) flow->way.pop_front();
    if (!counted) continue;
    cut_in -= static_cast<uint64_t>(wrote);
    if (cut_in > 0) continue;
    cut_in = cut_every;
    --cuts_left;
    ++cuts;
    for (Connection& other : connections_) other.broken = true;
  }
  if (!c->broken) Finish(to, flow, now);
}

void DelayProxy::Impl::Finish(int to, Flow* flow, Time now) {
  if (!flow->ended || flow->closed || flow->held > 0) return;
  if (flow->end_due > now) return WakeAt(flow->end_due);
  ::shutdown(to, SHUT_WR);
  flow->closed = true;
}

DelayProxy::DelayProxy(DelayProxyOptions options) : impl_(std::make_unique<Impl>(options)) {}
DelayProxy::~DelayProxy() = default;

int DelayProxy::port() const { return impl_->port; }
void DelayProxy::Stop() {
  impl_->Tell([this] { impl_->stopped = true; });
}
void DelayProxy::Resume() {
  impl_->Tell([this] { impl_->stopped = false; });
}
void DelayProxy::Cut() {
  impl_->Tell([this] { impl_->CutAll(); });
}
void DelayProxy::Refuse(bool on) {
  impl_->Tell([this, on] { impl_->refusing = on; });
}
void DelayProxy::CutAfter(uint64_t downstream_bytes, int times) {
  impl_->Tell([=, this] {
    impl_->cut_every = impl_->cut_in = std::max<uint64_t>(1, downstream_bytes);
    impl_->cuts_left = times;
  });
}
int DelayProxy::connections() const { return impl_->Get(impl_->accepted); }
int DelayProxy::open_connections() const { return impl_->open(); }
int DelayProxy::cuts() const { return impl_->Get(impl_->cuts); }
uint64_t DelayProxy::upstream_bytes() const { return impl_->Get(impl_->up_bytes); }
uint64_t DelayProxy::downstream_bytes() const { return impl_->Get(impl_->down_bytes); }

}  // namespace hermes
