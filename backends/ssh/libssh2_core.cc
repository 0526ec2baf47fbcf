#include "backends/ssh/libssh2_core.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "backends/ssh/ssh_connection.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

using Phase = Libssh2Channel::Phase;

constexpr size_t kReadSize = 64 << 10;  // bytes per call of the library
// With more than this under way, what the host's kernel confirms tells that data moves; with less
// it tells only that there is a kernel.
constexpr size_t kBacklog = 128 << 10;  // bytes

absl::Status Broken(const std::string& what) { return Error(Reason::k_BACKEND_UNREACHABLE, what); }

}  // namespace

size_t ByteFifo::Take(std::span<char> into) {
  const size_t count = std::min(into.size(), size());
  std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(taken_), count, into.begin());
  taken_ += count;
  if (taken_ == bytes_.size()) {
    bytes_ = {};
    taken_ = 0;
  } else if (taken_ > bytes_.size() / 2) {
    bytes_.erase(0, taken_);
    taken_ = 0;
  }
  return count;
}

Libssh2Core::Libssh2Core(Loop& loop, Clock& clock, std::shared_ptr<Libssh2Link> link,
                         std::unique_ptr<Libssh2Session> session)
    : loop_(loop),
      clock_(clock),
      link_(std::move(link)),
      session_(std::move(session)),
      last_sign_(clock.Now()),
      looked_(last_sign_) {}

void Libssh2Core::Start() {
  link_->WhenSent([self = weak_from_this()] {
    if (auto core = self.lock()) core->WakeWriters();
  });
  WatchInput();
  SetAlarm();
}

void Libssh2Core::WakeWriters() {
  for (const Channel& channel : channels_) channel->writable.NotifyAll();
}

void Libssh2Core::Break(absl::Status why) {
  if (!why_.ok()) return;
  why_ = std::move(why);
  link_->WhenSent(nullptr);
  link_->Kill(why_);
  alarm_.reset();
  opening_.reset();
  std::list<Channel> channels = std::move(channels_);
  channels_.clear();
  for (const Channel& channel : channels) {
    channel->handle = nullptr;  // the session frees it
    Finish(*channel, why_);
  }
}

void Libssh2Core::Leave() {
  if (!alive()) return;
  session_->Disconnect();
  link_->Flush();
  Break(Broken("the connection was closed"));
}

bool Libssh2Core::Went(Step step) {
  if (step == Step::kBroken) Break(Broken(session_->Why()));
  return alive();
}

Libssh2Core::Channel Libssh2Core::StartChannel(std::string command) {
  auto channel = std::make_shared<Libssh2Channel>(loop_);
  channel->command = std::move(command);
  if (!alive()) {
    Finish(*channel, why_);
    return channel;
  }
  channels_.push_back(channel);
  Drive();
  return channel;
}

void Libssh2Core::Abandon(Channel channel) {
  channel->abandoned = true;
  channel->readable.NotifyAll();
  channel->writable.NotifyAll();
  channel->out = {};
  channel->err = {};
  if (alive()) Drive();
}

void Libssh2Core::Finish(Libssh2Channel& channel, absl::Status status) {
  channel.phase = Phase::kGone;
  if (channel.status.ok()) channel.status = std::move(status);
  channel.readable.NotifyAll();
  channel.writable.NotifyAll();
}

// --- what comes in

void Libssh2Core::WatchInput() {
  link_->WhenReadable([self = shared_from_this()] { self->OnInput(); });
}

void Libssh2Core::OnInput() {
  if (!alive()) return;
  if (channels_.empty()) {  // nothing that would make the library read
    auto ping = std::make_shared<Libssh2Channel>(loop_);
    ping->ping = true;
    channels_.push_back(std::move(ping));
  }
  Drive();
  if (alive()) WatchInput();
}

// One call of the library may take in packets of every channel, so all are looked at again as long
// as something comes in. What the turn's allowance leaves is there at the next.
void Libssh2Core::Drive() {
  link_->BeginReading();
  uint64_t before = 0;
  do {
    before = link_->received();
    DriveOpening();
    std::vector<Channel> channels(channels_.begin(), channels_.end());
    for (const Channel& channel : channels) DriveChannel(*channel);
    if (!alive()) return;
  } while (link_->received() != before);
  link_->EndReading();
  ForgetGone();
  link_->Flush();
  if (!link_->error().ok()) Break(link_->error());
}

void Libssh2Core::DriveChannel(Libssh2Channel& channel) {
  if (alive() && channel.phase == Phase::kStarting) DriveStarting(channel);
  if (alive() && channel.phase == Phase::kRunning) DriveRunning(channel);
  if (alive() && channel.phase == Phase::kClosing) DriveClosing(channel);
}

void Libssh2Core::ForgetGone() {
  std::erase_if(channels_, [](const Channel& channel) { return channel->phase == Phase::kGone; });
}

void Libssh2Core::DriveOpening() {
  while (alive() && DriveOneOpening()) {
  }
}

// True when one is through and the next may begin.
bool Libssh2Core::DriveOneOpening() {
  if (opening_ == nullptr) {
    for (const Channel& channel : channels_) {
      if (channel->phase != Phase::kQueued) continue;
      if (channel->abandoned) {
        Finish(*channel, absl::OkStatus());
        continue;
      }
      opening_ = channel;
      break;
    }
    if (opening_ == nullptr) return false;
    opening_->phase = Phase::kOpening;
  }
  const Step step = session_->Open(opening_->ping, &opening_->handle);
  if (step == Step::kAgain || !Went(step)) return false;
  Channel channel = std::exchange(opening_, nullptr);
  if (step == Step::kRefused) {
    const std::string why = session_->Why();
    Finish(*channel, why.find("unknown channel type") == std::string::npos
                         ? SlotBusy(why)
                         : Error(Reason::k_CAPABILITY_MISSING, "the host opens no sessions"));
  } else if (channel->ping || channel->abandoned) {
    StartClosing(*channel);
  } else {
    channel->phase = Phase::kStarting;
    channel->ungranted = kWindow - kFirstWindow;
  }
  return true;
}

void Libssh2Core::DriveStarting(Libssh2Channel& channel) {
  if (channel.abandoned) return StartClosing(channel);
  Grant(channel);
  if (!alive()) return;
  const Step step = session_->Exec(channel.handle, channel.command);
  if (step == Step::kAgain || !Went(step)) return;
  channel.command = {};
  if (step == Step::kRefused) {
    channel.status =
        Error(Reason::k_CAPABILITY_MISSING, "the host refuses to run a program over SSH");
    StartClosing(channel);
  } else {
    channel.phase = Phase::kRunning;
  }
  channel.readable.NotifyAll();
}

void Libssh2Core::DriveRunning(Libssh2Channel& channel) {
  if (channel.abandoned) return StartClosing(channel);
  ReadAll(channel, true);
  if (!alive()) return;
  if (!channel.at_eof && session_->AtEof(channel.handle)) {
    channel.at_eof = true;
    channel.readable.NotifyAll();
  }
  if (channel.at_eof && session_->ClosedByHost(channel.handle)) {
    channel.ended = true;
    channel.end = session_->ProgramEnd(channel.handle);
    channel.readable.NotifyAll();
    channel.writable.NotifyAll();
    return StartClosing(channel);
  }
  Grant(channel);
  if (alive()) SendEof(channel);
  if (alive() && channel.writable.has_waiters() && session_->SendWindow(channel.handle) > 0) {
    channel.writable.NotifyAll();
  }
}

// With no room for output the read of nothing still takes in the packets of others.
void Libssh2Core::ReadAll(Libssh2Channel& channel, bool keep) {
  static thread_local std::array<char, kReadSize> buffer;
  for (bool of_stderr : {false, true}) {
    for (;;) {
      Libssh2Session::Read read = session_->ReadSome(channel.handle, of_stderr, buffer);
      if (!Went(read.step)) return;
      if (read.bytes == 0) break;
      if (!keep) continue;
      (of_stderr ? channel.err : channel.out).Append({buffer.data(), read.bytes});
      channel.readable.NotifyAll();
    }
  }
}

// --- what goes out

void Libssh2Core::Consumed(Libssh2Channel& channel, size_t bytes) {
  channel.ungranted += bytes;
  // Drive, not just Grant: there may be output that waits in the library for room.
  if (alive() && channel.phase == Phase::kRunning && channel.ungranted >= kWindowStep) {
    Grant(channel);
    if (alive()) Drive();
  }
}

// A grant that the library did not finish (keys are being exchanged) is repeated as it was.
void Libssh2Core::Grant(Libssh2Channel& channel) {
  if (channel.granting == 0 && channel.ungranted < kWindowStep) return;
  if (channel.granting == 0) channel.granting = std::exchange(channel.ungranted, 0);
  const Step step = session_->Widen(channel.handle, channel.granting);
  if (Went(step) && step != Step::kAgain) channel.granting = 0;
}

void Libssh2Core::CloseStdin(Libssh2Channel& channel) {
  channel.eof_wanted = true;
  if (!alive() || channel.phase != Phase::kRunning) return;
  SendEof(channel);
  if (alive()) link_->Flush();
}

void Libssh2Core::SendEof(Libssh2Channel& channel) {
  if (!channel.eof_wanted || channel.eof_sent) return;
  const Step step = session_->SendEof(channel.handle);
  if (Went(step) && step != Step::kAgain) channel.eof_sent = true;
}

absl::StatusOr<size_t> Libssh2Core::Write(Libssh2Channel& channel, std::string_view data) {
  if (!alive()) return why_;
  if (channel.phase != Phase::kRunning || channel.abandoned) {
    return Broken(channel.ended ? "the program has ended" : "the stream was closed");
  }
  if (channel.eof_wanted || channel.half_written) return Broken("stdin is closed");
  if (link_->queued() > kSendQueueHigh) return 0;
  Libssh2Session::Read wrote = session_->WriteSome(channel.handle, data);
  if (!Went(wrote.step)) return why_;
  link_->Flush();
  return wrote.bytes;
}

void Libssh2Core::StartClosing(Libssh2Channel& channel) {
  channel.phase = Phase::kClosing;
  channel.closing_since = clock_.Now();
}

// CLOSE is sent, then the host's is awaited: only then is the slot free over there. The library
// calls it done at the next packet of any kind.
void Libssh2Core::DriveClosing(Libssh2Channel& channel) {
  ReadAll(channel, false);
  if (!alive()) return;
  if (!channel.close_sent) {
    const Step step = session_->Close(channel.handle);
    if (step == Step::kAgain || !Went(step)) return;
    channel.close_sent = true;
    ReadAll(channel, false);
    if (!alive()) return;
  }
  const bool late = clock_.Now() - channel.closing_since > kCloseLimit;
  if (!late && !session_->ClosedByHost(channel.handle)) return;
  session_->Free(std::exchange(channel.handle, nullptr));
  Finish(channel, absl::OkStatus());
}

// --- life

void Libssh2Core::SetAlarm() {
  const SteadyTime now = clock_.Now();
  const auto silent = std::max(now - last_sign_, Duration(0));
  const auto next = (silent / kAliveInterval + 1) * kAliveInterval;
  alarm_ = clock_.At(last_sign_ + next, [self = weak_from_this()] {
    if (auto core = self.lock()) core->CheckAlive();
  });
}

// A confirmation by the host's kernel counts as a sign of life too: on a slow link the answer to a
// ping stands in line behind what we send. Nobody tells its moment: it may be as old as the last
// look.
void Libssh2Core::CheckAlive() {
  if (!alive()) return;
  last_sign_ = std::max(last_sign_, link_->last_received());
  const uint64_t confirmed = link_->Confirmed();
  const bool moving =
      std::exchange(confirmed_, confirmed) != confirmed && link_->accepted() - confirmed > kBacklog;
  if (moving) last_sign_ = std::max(last_sign_, looked_);
  looked_ = clock_.Now();
  const Duration silent = looked_ - last_sign_;
  if (silent >= kAliveLimit) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(silent).count();
    return Break(Broken("the host has not answered for " + std::to_string(seconds) + " s"));
  }
  const bool asking = std::any_of(channels_.begin(), channels_.end(), [](const Channel& channel) {
    return channel->phase < Phase::kRunning;
  });
  if (silent >= kAliveInterval && !moving && !asking) {
    auto ping = std::make_shared<Libssh2Channel>(loop_);
    ping->ping = true;
    channels_.push_back(std::move(ping));
  }
  Drive();
  if (alive()) SetAlarm();
}

}  // namespace hermes
