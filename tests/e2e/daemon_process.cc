#include "tests/e2e/daemon_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include <gtest/gtest.h>

#include "tests/e2e/ready_socket.h"

namespace hermes {
namespace {

constexpr auto kGoneLimit = std::chrono::seconds(30);

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

template <typename F>
void ForEachProcess(F visit) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") == std::string::npos)
      visit(static_cast<pid_t>(std::stol(name)));
  }
}

sockaddr_un Address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  return address;
}

}  // namespace

std::string BinDir() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
}

DaemonProcess::DaemonProcess() {
  std::string name = "/tmp/hermes-e2e-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  dir_ = name;
  home_ = dir_;
}

DaemonProcess::~DaemonProcess() {
  if (pid_ != 0) Kill(SIGKILL);
  if (pid_t runner = RunnerPid(); runner != 0) ::kill(runner, SIGKILL);
  std::error_code dying_writers;  // may put a file there meanwhile: the folder then stays
  std::filesystem::remove_all(dir_, dying_writers);
}

void DaemonProcess::Configure(const std::string& toml, const std::string& runtime_dir) {
  config_ = dir_ + "/hermesd.toml";
  std::ofstream(config_) << "state_dir = \"" << dir_ << "\"\nruntime_dir = \""
                         << (runtime_dir.empty() ? dir_ : runtime_dir) << "\"\n"
                         << toml;
}

void DaemonProcess::Start() {
  ReadySocket notify(dir_ + "/notify");
  std::string program = BinDir() + "/hermesd";
  std::vector<std::string> words = {program, "--dev", "--dir", dir_};
  if (!config_.empty()) words = {program, "--config", config_};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::vector<std::string> env = {"PATH=/usr/bin:/bin", "HOME=" + home_, notify.variable()};
  std::vector<char*> envp;
  for (std::string& word : env) envp.push_back(word.data());
  envp.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  std::string log = dir_ + "/hermesd.log";
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
  ASSERT_EQ(::posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv.data(), envp.data()), 0);
  ::posix_spawn_file_actions_destroy(&actions);
  ASSERT_TRUE(notify.Await()) << ReadFile(log);
}

void DaemonProcess::Kill(int signal) {
  ::kill(pid_, signal);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = 0;
}

int DaemonProcess::Terminate() {
  ::kill(pid_, SIGTERM);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Supervisors are forks of the runner and look alike, but only the runner listens.
pid_t DaemonProcess::RunnerPid() const {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = Address(dir_ + "/runner/s");
  ucred peer{};
  socklen_t size = sizeof(peer);
  const bool there = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
                     ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
  ::close(fd);
  return there ? peer.pid : 0;
}

std::shared_ptr<grpc::Channel> DaemonProcess::Connect() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  return grpc::CreateCustomChannel("unix:" + socket(), grpc::InsecureChannelCredentials(),
                                   arguments);
}

void DaemonProcess::CreateSession(const std::string& id, v1::RunnerPolicy runner) {
  auto stub = v1::SessionService::NewStub(Connect());
  v1::CreateSessionRequest request;
  request.set_session_id(id);
  request.set_backend("local");
  request.set_wait_ready(true);
  request.set_runner(runner);
  grpc::ClientContext context;
  v1::Session session;
  grpc::Status status = stub->CreateSession(&context, request, &session);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(session.state(), v1::Session::READY);
}

v1::Session DaemonProcess::GetSession(const std::string& id) const {
  auto stub = v1::SessionService::NewStub(Connect());
  v1::GetSessionRequest request;
  request.set_name("sessions/" + id);
  grpc::ClientContext context;
  v1::Session session;
  grpc::Status status = stub->GetSession(&context, request, &session);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return session;
}

std::vector<pid_t> ProcessesWithCookie(const std::string& cookie) {
  std::vector<pid_t> found;
  ForEachProcess([&](pid_t pid) {
    std::string environment = '\0' + ReadFile("/proc/" + std::to_string(pid) + "/environ");
    if (environment.find('\0' + cookie + '\0') != std::string::npos) found.push_back(pid);
  });
  return found;
}

bool WaitUntilNoneHas(const std::string& cookie) {
  const auto limit = std::chrono::steady_clock::now() + kGoneLimit;
  for (std::vector<pid_t> left = ProcessesWithCookie(cookie); !left.empty();
       left = ProcessesWithCookie(cookie)) {
    const auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(
        limit - std::chrono::steady_clock::now());
    if (rest.count() <= 0) return false;
    const int fd = static_cast<int>(::syscall(SYS_pidfd_open, left[0], 0));
    if (fd < 0) continue;  // gone by now
    pollfd end{fd, POLLIN, 0};
    ::poll(&end, 1, static_cast<int>(rest.count()));
    ::close(fd);
  }
  return true;
}

std::string NewUuid() {
  thread_local std::mt19937_64 engine(std::random_device{}());
  char text[40];
  uint64_t a = engine();
  uint64_t b = engine();
  std::snprintf(text, sizeof(text), "%08x-%04x-4%03x-8%03x-%012llx", static_cast<unsigned>(a),
                static_cast<unsigned>(a >> 32) & 0xffff, static_cast<unsigned>(a >> 48) & 0xfff,
                static_cast<unsigned>(b >> 52) & 0xfff,
                static_cast<unsigned long long>(b & 0xffffffffffff));
  return text;
}

v1::ExecuteRequest Shell(const std::string& session, const std::string& script,
                         const std::string& request_id) {
  v1::ExecuteRequest request;
  request.set_session("sessions/" + session);
  request.set_shell(script);
  request.set_request_id(request_id.empty() ? NewUuid() : request_id);
  return request;
}

Seen ExecuteToEnd(const DaemonProcess& daemon, const v1::ExecuteRequest& first, int attempts) {
  Seen seen;
  v1::ExecuteRequest request = first;
  for (int attempt = 0; attempt < attempts && seen.finished == 0; ++attempt) {
    auto stub = v1::ExecService::NewStub(daemon.Connect());
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    request.mutable_from()->set_stdout_offset(seen.out.size());
    request.mutable_from()->set_stderr_offset(seen.err.size());
    auto stream = stub->Execute(&context, request);
    v1::CommandEvent event;
    while (stream->Read(&event)) {
      if (event.has_output()) {
        std::string& text = event.output().channel() == v1::STDERR ? seen.err : seen.out;
        EXPECT_EQ(event.output().offset(), text.size()) << "output lost or doubled";
        text += event.output().data();
      }
      if (event.has_gap()) seen.gap = true;
      if (event.has_finished()) {
        ++seen.finished;
        seen.command = event.finished();
      }
    }
    seen.status = stream->Finish();
    bool again = seen.status.ok() || seen.status.error_code() == grpc::StatusCode::UNAVAILABLE;
    if (seen.finished == 0 && !again) break;
  }
  return seen;
}

}  // namespace hermes
