#include "backends/runner/runner.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace hermes::runner {
namespace {
constexpr size_t kMaxStrangers = 32;  // peers that have not said HELLO; the oldest is closed
}  // namespace

Runner::Runner(Place place, int64_t idle_us)
    : place_(std::move(place)),
      sessions_(place_.state_directory()),
      warm_(loop_, supervisors_, sessions_, place_),
      listener_(loop_, *this, place_.socket_path()),
      login_(loop_, supervisors_, place_, *this),
      closer_(loop_, *this),
      children_(loop_, *this),
      idle_(idle_us),
      idle_timer_(loop_, *this),
      lease_timer_(loop_, *this),
      sweep_timer_(loop_, *this),
      sweep_(getpid()) {}

Runner::~Runner() = default;

void Runner::Run() {
  sigset_t watched;
  sigemptyset(&watched);
  sigaddset(&watched, SIGCHLD);
  sigprocmask(SIG_BLOCK, &watched, nullptr);
  children_.Open(Fd(signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK)), EPOLLIN);
  login_.Get();  // whoever starts a runner opens a session next, and says so a round trip later
  CheckIdle();
  loop_.Run(*this);
}

void Runner::OnPeer(Fd socket) {
  auto stranger = [](const std::unique_ptr<Link>& link) { return !link->greeted; };
  if (static_cast<size_t>(std::count_if(links_.begin(), links_.end(), stranger)) >= kMaxStrangers)
    (*std::find_if(links_.begin(), links_.end(), stranger))->Close();
  links_.emplace_back(new Link(loop_, *this, std::move(socket)));
}

void Runner::OnLinkClosed(Link& link) {
  if (&link != link_) return;
  link_ = nullptr;
  for (auto& [number, command] : commands_) command->SetLink(nullptr);
}

void Runner::OnReady(Source& source, uint32_t) {
  signalfd_siginfo info[16];
  while (read(source.fd(), info, sizeof info) == sizeof info) continue;
  if (!supervisors_.Reap()) return;
  sweep_.Begin(0, supervisors_.Pids());
  StepSweep();
}

void Runner::OnTimer(Timer& timer) {
  if (&timer == &sweep_timer_) return StepSweep();
  if (&timer == &lease_timer_) return CheckLeases();
  if (listener_.Retire()) loop_.Stop();
}

void Runner::OnOrphans(Command& command) { sweep_for_.push_back(command.run_id()); }

// Whatever is below us and below no living supervisor belonged to one that died.
void Runner::StepSweep() {
  sweep_.Step(supervisors_.Pids());
  if (sweep_.active()) return sweep_timer_.ArmAt(sweep_.next_us());
  std::vector<std::string> done;
  done.swap(sweep_for_);
  frames::TreeReport report = sweep_.report();
  sweep_.Restart();
  for (const std::string& run_id : done)
    if (Command* command = FindRun(run_id)) command->OrphansGone(report);
}

void Runner::OnBatchEnd() {
  StartFollowers();
  closer_.OnBatchEnd();
  if (link_ != nullptr) link_->Flush();
  for (auto& link : links_)
    if (link.get() != link_) link->Flush();
  std::erase_if(links_, [](const std::unique_ptr<Link>& link) { return link->closed(); });
  DropForgotten();
  warm_.OnBatchEnd(link_ != nullptr);
  CheckIdle();
}

void Runner::StartFollowers() {
  std::erase_if(waiting_, [this](const std::string& run_id) {
    Command* command = FindRun(run_id);
    if (command == nullptr || !command->waits()) return true;
    Command* first = FindRun(command->first());
    if (first != nullptr && !first->ended()) return false;
    command->FirstEnded(first != nullptr && first->succeeded());
    return true;
  });
}

void Runner::DropForgotten() {
  std::vector<std::string> run_ids;
  run_ids.swap(droppable_);
  for (const std::string& run_id : run_ids) {
    Command* command = FindRun(run_id);
    if (command == nullptr) continue;
    uint32_t number = command->number();
    std::erase(command->session().commands, number);
    run_ids_.Remember(run_id);
    runs_.erase(run_id);
    commands_.erase(number);
  }
}

void Runner::CheckIdle() {
  bool needed = !sessions_.empty() || !commands_.empty() || !links_.empty();
  int64_t end_us = idle_.Observe(needed, NowUs());
  if (end_us == 0) return idle_timer_.Cancel();
  if (!idle_timer_.armed()) idle_timer_.ArmAt(end_us);
}

Command* Runner::FindCommand(uint32_t number) {
  auto found = commands_.find(number);
  return found == commands_.end() ? nullptr : found->second.get();
}

Command* Runner::FindRun(std::string_view run_id) {
  auto found = runs_.find(run_id);
  return found == runs_.end() ? nullptr : FindCommand(found->second);
}

}  // namespace hermes::runner
