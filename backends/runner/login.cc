#include "backends/runner/login.h"

#include <unistd.h>

#include <utility>

#include "backends/engine/script.h"
#include "backends/runner/sys.h"

namespace hermes::runner {
namespace {

constexpr int64_t kSharedUs = 5'000'000;
constexpr uint64_t kLimitMs = 10'000;  // then the shell is killed and the clean environment serves

shell::State CleanState(const Place& place) {
  shell::State state;
  for (const auto& [name, value] : place.clean_env) state.env[name] = value;
  state.cwd = place.home;
  return state;
}

Launch LoginShell(const Place& place, const std::string& path, const std::string& nonce) {
  bool bash = place.shell == shell::Kind::kBash;
  Launch launch{
      .program = place.shell_path,
      .argv = {bash ? "bash" : "sh", "-l", "-c", shell::LoginCaptureText(place.shell, path, nonce)},
      .env = {},
      .search = "",
      .cwd = IsDirectory(place.home) ? place.home : "/",
      .open_files = place.open_files,
      .deadline_ms = kLimitMs,
      .grace_ms = 0};
  for (const auto& [name, value] : place.clean_env) launch.AddVariable(name, value);
  return launch;
}

}  // namespace

class Login::Run final : Supervised::Owner {
 public:
  explicit Run(Login& login)
      : path(login.place_.run_directory + "/" + RandomHex(16)),
        nonce(RandomHex(16)),
        login_(login),
        supervised_(login.loop_, login.supervisors_, *this) {}

  bool Start() { return supervised_.Start(LoginShell(login_.place_, path, nonce)); }
  bool alive() const { return supervised_.alive(); }

  const std::string path;
  const std::string nonce;
  bool succeeded = false;

 private:
  void OnNotice(const Notice& notice) override {
    if (notice.kind == Notice::kEnded) succeeded = notice.cause == frames::Cause::kNatural;
    if (notice.kind == Notice::kEnded || notice.kind == Notice::kFailed) Report();
  }
  void OnSupervisorDied() override { Report(); }
  void Report() {
    if (!reported_) login_.Finish(*this);
    reported_ = true;
  }

  Login& login_;
  Supervised supervised_;
  bool reported_ = false;
};

Login::Login(Loop& loop, Supervisors& supervisors, const Place& place, Waiter& waiter)
    : loop_(loop), supervisors_(supervisors), place_(place), waiter_(waiter) {}

Login::~Login() = default;

Shared<shell::State> Login::Get() {
  if (!under_way_ && state_ && NowUs() - taken_us_ < kSharedUs) return state_;
  if (!under_way_) Start();
  return under_way_ ? Shared<shell::State>() : state_;
}

void Login::Start() {
  std::erase_if(runs_, [](const std::unique_ptr<Run>& run) { return !run->alive(); });
  runs_.push_back(std::make_unique<Run>(*this));
  under_way_ = runs_.back()->Start();
  if (under_way_) return;
  state_ = Shared<shell::State>(CleanState(place_));
  taken_us_ = NowUs();
}

void Login::Finish(const Run& run) {
  under_way_ = false;
  taken_us_ = NowUs();
  shell::State state = CleanState(place_);
  if (run.succeeded) {
    auto text = ReadSmallFile(run.path, shell::kMaxStateBytes);
    std::string why;
    auto captured = shell::ParseCapture(place_.shell, text.value_or(""), run.nonce, &why);
    if (captured) state = std::move(*captured);
  }
  unlink(run.path.c_str());
  state_ = Shared<shell::State>(std::move(state));
  waiter_.OnLogin();
}

}  // namespace hermes::runner
