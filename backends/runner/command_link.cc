// What a Command says to its link and hears from it, apart from its end.

#include <utility>

#include "backends/runner/command.h"
#include "backends/runner/terminal.h"

namespace hermes::runner {

void Command::SetLink(Link* link) {
  link_ = link;
  attached_ = end_sent_ = drained_sent_ = false;
  out_.SetSink(link, &world_.place.run_directory);
  err_.SetSink(link, &world_.place.run_directory);
  if (link == nullptr) {
    out_.Read();
    err_.Read();
  }
}

void Command::Attach(uint64_t out, uint64_t err) {
  attached_ = true;
  end_sent_ = drained_sent_ = false;
  out_.SendFrom(out);
  err_.SendFrom(err);
  if (stdin_.accepted() != 0 || stdin_.closed()) SendStdinAck();
  SendEnd();
}

void Command::SendStarted(bool attached) {
  if (link_ == nullptr || !attached_) return;
  frames::Writer writer(link_->control());
  writer.Begin(frames::Type::kStarted, number_);
  writer.U32(static_cast<uint32_t>(pid_));
  writer.U8(attached ? 1 : 0);
  writer.End();
}

void Command::AttachAgain() {
  attached_ = attached_again_ = true;
  if (pid_ != 0) SendStarted(true);  // else it has not started yet, or never will
  Attach(0, 0);
}

void Command::Renumber(uint32_t number) {
  number_ = number;
  out_.Renumber(number);
  err_.Renumber(number);
}

void Command::Ack(uint64_t out, uint64_t err) {
  out_.Ack(out);
  err_.Ack(err);
  if (shell_gone_) CheckEnd();
}

void Command::OnStdin() {
  // Who sends files goes by how fast they are taken, and hears of their end by the answer.
  if (!files_ || stdin_.accepted() - stdin_acked_ >= frames::kFilesAckBytes) SendStdinAck();
}

void Command::SendStdinAck() {
  if (link_ == nullptr || !attached_) return;
  stdin_acked_ = stdin_.accepted();
  frames::Writer writer(link_->control());
  writer.Begin(frames::Type::kStdinAck, number_);
  writer.U64(stdin_.accepted());
  writer.U8(stdin_.closed() ? 1 : 0);
  writer.End();
}

void Command::Resize(uint16_t cols, uint16_t rows) {
  if (is_terminal_ && !out_.eof()) ResizeTerminal(out_.fd(), cols, rows);
}

void Command::Signal(int signal, frames::Scope scope) {
  if (scope == frames::Scope::kForeground && is_terminal_) {
    if (!out_.eof()) SignalForeground(out_.fd(), signal);
    return;
  }
  if (supervised_ == nullptr) return;
  supervised_->Send({.kind = Order::kSignal,
                     .signal = static_cast<uint8_t>(signal),
                     .scope = scope,
                     .cause = frames::Cause::kNatural,
                     .grace_ms = 0});
}

void Command::Kill(uint32_t grace_ms, frames::Cause cause) {
  kill_pending_ = true;
  if (waits()) return NeverStart(cause);
  if (tree_empty_) return AnswerKill(NothingLeft());
  supervised_->Send({.kind = Order::kKill,
                     .signal = 0,
                     .scope = frames::Scope::kTree,
                     .cause = cause,
                     .grace_ms = grace_ms});
}

void Command::SendKilled(const frames::TreeReport& report) {
  if (link_ != nullptr) frames::Encode(link_->control(), number_, frames::Type::kKilled, report);
}

frames::Listed Command::Describe() const {
  return {.session = session_.id,
          .run_id = run_id_,
          .pid = static_cast<uint32_t>(pid_),
          .out = out_.end(),
          .err = err_.end(),
          .out_first = out_.first(),
          .err_first = err_.first(),
          .exited = ended_ ? uint8_t{1} : uint8_t{0},
          .drained = drained_ ? uint8_t{1} : uint8_t{0}};
}

}  // namespace hermes::runner
