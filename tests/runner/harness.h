#pragma once

// A real hermes-runner in a directory of its own, and a blocking client that speaks frames to it.
// The program lies beside the test binary. Whatever is still alive at the end of a test is killed
// by pid: the runner, whose death ends every tree.

#include <gtest/gtest.h>
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
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "backends/engine/frames.h"

namespace hermes::test {

using frames::Type;
using Clock = std::chrono::steady_clock;

// Far beyond what anything here takes, even on a loaded machine.
inline constexpr std::chrono::seconds kPatience{30};

inline std::string RunnerProgram() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "hermes-runner";
}

// Runs a program to its end; its exit status, -1 for a signal. With `home`, that is its HOME: no
// test may depend on, or disturb, what the profile of the account does.
inline int RunProgram(std::vector<std::string> argv, const std::string& home = "") {
  std::vector<std::string> env;
  for (char** at = environ; *at != nullptr; ++at)
    if (home.empty() || std::string_view(*at).substr(0, 5) != "HOME=") env.emplace_back(*at);
  if (!home.empty()) env.push_back("HOME=" + home);
  std::vector<char*> env_pointers;
  for (auto& entry : env) env_pointers.push_back(entry.data());
  env_pointers.push_back(nullptr);
  std::vector<char*> pointers;
  for (auto& arg : argv) pointers.push_back(arg.data());
  pointers.push_back(nullptr);
  pid_t pid = 0;
  if (posix_spawn(&pid, argv[0].c_str(), nullptr, nullptr, pointers.data(), env_pointers.data()) !=
      0)
    return -1;
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

inline void WaitForEnd(pid_t pid) {
  int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return;
  pollfd end{.fd = fd, .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&end, 1, 30'000), 1) << "process " << pid << " does not end";
  close(fd);
}

inline bool IsAlive(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(stat, line);
  size_t close = line.rfind(") ");
  return close != std::string::npos && line[close + 2] != 'Z' && line[close + 2] != 'X';
}

// A shell that was started ahead and has no command yet: the text is to come through a pipe.
inline bool IsWaitingShell(pid_t pid) {
  std::error_code none;
  auto text = std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/fd/8", none);
  return text.string().starts_with("pipe:");
}

// Living processes of commands that have `cookie` in their environment.
inline std::vector<pid_t> WithCookie(const std::string& cookie) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0 || !IsAlive(pid) || IsWaitingShell(pid)) continue;
    std::ifstream environment(entry.path() / "environ");
    std::stringstream text;
    text << environment.rdbuf();
    if (text.str().find(cookie) != std::string::npos) found.push_back(pid);
  }
  return found;
}

inline std::string NewRunId() {
  static int count = 0;
  return "00000000-0000-4000-8000-" + std::to_string(100000000000 + ++count);
}

struct Message {
  Type type{};
  uint32_t command = 0;
  std::string payload;
};

// What came of one command.
struct Result {
  std::string out;
  std::string err;
  bool started = false;
  bool attached_again = false;
  uint32_t pid = 0;
  std::optional<frames::Exit> exit;
  std::optional<frames::TreeReport> killed;
  std::string refused;
  uint64_t stdin_accepted = 0;
  bool stdin_closed = false;
  bool drained = false;
  uint64_t out_at = 0;  // the offset where out begins
  uint64_t err_at = 0;
};

class Client {
 public:
  explicit Client(const std::string& directory) {
    socket_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    directory.copy(address.sun_path, sizeof address.sun_path - 3);
    std::string("/s").copy(address.sun_path + directory.size(), 2);
    connected_ = connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~Client() { Close(); }
  Client(const Client&) = delete;

  bool connected() const { return connected_; }
  void Close() {
    if (socket_ >= 0) close(socket_);
    socket_ = -1;
  }

  void SendRaw(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t n = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  void Send(Type type, uint32_t command, const std::function<void(frames::Writer&)>& fill) {
    std::string bytes;
    frames::Writer writer(bytes);
    writer.Begin(type, command);
    fill(writer);
    writer.End();
    SendRaw(bytes);
  }
  void Send(Type type, uint32_t command) {
    Send(type, command, [](frames::Writer&) {});
  }

  // nullopt: the link ended, or nothing came for kPatience.
  std::optional<Message> Next(std::chrono::milliseconds patience = kPatience) {
    for (;;) {
      frames::Frame frame;
      size_t consumed = 0;
      auto rest = std::string_view(input_).substr(at_);
      if (frames::ParseFrame(rest, &frame, &consumed) == frames::Parse::kFrame) {
        at_ += consumed;
        return Message{frame.type, frame.command, std::string(frame.payload)};
      }
      input_.erase(0, at_);
      at_ = 0;
      pollfd ready{.fd = socket_, .events = POLLIN, .revents = 0};
      if (poll(&ready, 1, static_cast<int>(patience.count())) != 1) return std::nullopt;
      char chunk[1 << 16];
      ssize_t n = recv(socket_, chunk, sizeof chunk, 0);
      if (n <= 0) return std::nullopt;
      input_.append(chunk, static_cast<size_t>(n));
    }
  }

  std::optional<frames::Welcome> Hello() {
    Send(Type::kHello, 0, [](frames::Writer& w) {
      w.U16(frames::kOldestVersion);
      w.U16(frames::kVersion);
      w.Str("test");
    });
    auto message = Next();
    if (!message || message->type != Type::kWelcome) return std::nullopt;
    return frames::Decode<frames::Welcome>(message->payload);
  }

  // The frame that answers tag 0x70000000 and above; what concerns commands is recorded meanwhile.
  std::optional<Message> Answer(Type type, uint32_t tag) {
    while (auto message = Next()) {
      if (message->command == tag && (message->type == type || message->type == Type::kRefused))
        return message;
      Record(*message);
    }
    return std::nullopt;
  }

  std::optional<frames::Opened> Open(const frames::Open& open) {
    std::string bytes;
    frames::Encode(bytes, ++tag_, open);
    SendRaw(bytes);
    auto answer = Answer(Type::kOpened, tag_);
    if (!answer) return std::nullopt;
    if (answer->type == Type::kRefused) last_refusal = frames::Reader(answer->payload).Str();
    return frames::Decode<frames::Opened>(answer->payload);
  }

  std::optional<frames::TreeReport> CloseSession(const std::string& session, uint32_t grace_ms) {
    Send(Type::kClose, ++tag_, [&](frames::Writer& w) {
      w.Str(session);
      w.U32(grace_ms);
    });
    auto answer = Answer(Type::kClosed, tag_);
    return answer ? frames::Decode<frames::TreeReport>(answer->payload) : std::nullopt;
  }

  uint32_t Start(const frames::Start& start) {
    uint32_t number = ++next_command;
    StartAs(number, start);
    return number;
  }
  void StartAs(uint32_t number, const frames::Start& start) {
    results[number] = {};
    std::string bytes;
    frames::Encode(bytes, number, start);
    SendRaw(bytes);
  }

  // Reads until `done` holds for the command; false when it never does.
  bool Until(uint32_t command, const std::function<bool(const Result&)>& done) {
    while (!done(results[command])) {
      auto message = Next();
      if (!message) return false;
      Record(*message);
    }
    return true;
  }
  bool UntilExit(uint32_t command) {
    return Until(command, [](const Result& r) { return r.exit || !r.refused.empty(); });
  }
  bool UntilDrained(uint32_t command) {
    return Until(command, [](const Result& r) { return r.drained || !r.refused.empty(); });
  }
  const Result& Finish(const frames::Start& start) {
    uint32_t command = Start(start);
    EXPECT_TRUE(UntilDrained(command));
    Send(Type::kForget, command);
    return results[command];
  }

  void Kill(uint32_t command, uint32_t grace_ms, frames::Cause cause = frames::Cause::kCancelled) {
    Send(Type::kKill, command, [&](frames::Writer& w) {
      w.U32(grace_ms);
      w.U8(static_cast<uint8_t>(cause));
    });
  }
  void Attach(uint32_t command, uint64_t out, uint64_t err) {
    results[command] = {};
    results[command].out_at = out;
    results[command].err_at = err;
    Send(Type::kAttach, command, [&](frames::Writer& w) {
      w.U64(out);
      w.U64(err);
    });
  }
  void Ack(uint32_t command, uint64_t out, uint64_t err) {
    Send(Type::kAck, command, [&](frames::Writer& w) {
      w.U64(out);
      w.U64(err);
    });
  }
  void Stdin(uint32_t command, uint64_t offset, std::string_view bytes) {
    std::string frame;
    frames::EncodeData(frame, command, Type::kStdin, offset, bytes);
    SendRaw(frame);
  }
  void StdinEof(uint32_t command, uint64_t offset) {
    Send(Type::kStdinEof, command, [&](frames::Writer& w) { w.U64(offset); });
  }
  std::vector<frames::Listed> List() {
    Send(Type::kList, 0);
    std::vector<frames::Listed> all;
    while (auto message = Next()) {
      if (message->type == Type::kListEnd) break;
      if (message->type == Type::kListed)
        all.push_back(*frames::Decode<frames::Listed>(message->payload));
      else
        Record(*message);
    }
    return all;
  }

  void Record(const Message& message) {
    Result& result = results[message.command];
    frames::Reader payload(message.payload);
    switch (message.type) {
      case Type::kStarted:
        result.started = true;
        result.pid = payload.U32();
        result.attached_again = payload.U8() != 0;
        break;
      case Type::kOut:
        Append(message, payload, result.out_at, result.out);
        break;
      case Type::kErr:
        Append(message, payload, result.err_at, result.err);
        break;
      case Type::kExit:
        EXPECT_FALSE(result.exit) << "two ends";
        result.exit = frames::Decode<frames::Exit>(message.payload);
        ASSERT_TRUE(result.exit);
        break;
      case Type::kDrained:
        EXPECT_TRUE(result.exit) << "drained before its end";
        result.drained = true;
        break;
      case Type::kKilled:
        result.killed = frames::Decode<frames::TreeReport>(message.payload);
        break;
      case Type::kStdinAck:
        result.stdin_accepted = payload.U64();
        result.stdin_closed = payload.U8() != 0;
        break;
      case Type::kRefused:
        result.refused = payload.Str();
        break;
      default:
        break;
    }
  }

  std::map<uint32_t, Result> results;
  uint32_t next_command = 0;
  bool acknowledges = true;  // every data frame, at once
  std::string last_refusal;

 private:
  void Append(const Message& message, frames::Reader& payload, uint64_t at, std::string& text) {
    uint64_t offset = payload.U64();
    EXPECT_EQ(offset, at + text.size()) << "output out of order";
    std::string_view bytes = payload.Rest();
    EXPECT_LE(bytes.size(), frames::kMaxDataBytes);
    text += bytes;
    const Result& result = results[message.command];
    if (acknowledges)
      Ack(message.command, result.out_at + result.out.size(), result.err_at + result.err.size());
  }

  int socket_ = -1;
  bool connected_ = false;
  std::string input_;
  size_t at_ = 0;
  uint32_t tag_ = 0x70000000;
};

class RunnerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hermes-runner-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory = name;
    home = directory + "/home";
    std::filesystem::create_directory(home);
    Begin();
  }
  // Starts the runner and connects to it.
  virtual void Begin() {
    ASSERT_EQ(RunProgram(ServeWords(), home), 0);
    Connect();
  }
  void TearDown() override {
    client.reset();
    KillRunner();
    std::error_code dying_writers;
    std::filesystem::remove_all(directory, dying_writers);
  }

  // What starts a runner for `directory`.
  virtual std::vector<std::string> ServeWords() const {
    return {RunnerProgram(), "serve", directory};
  }
  void Connect() {
    uint32_t last = client ? client->next_command : 0;
    client = std::make_unique<Client>(directory);
    client->next_command = last;
    ASSERT_TRUE(Greet());
  }
  bool Greet() {
    auto welcome = client->Hello();
    if (!welcome) return false;
    runner_pid = static_cast<pid_t>(welcome->pid);
    start_token = welcome->start_token;
    return true;
  }
  void KillRunner() {
    if (runner_pid == 0) return;
    kill(runner_pid, SIGKILL);
    WaitForEnd(runner_pid);
    runner_pid = 0;
  }
  void OpenSession(const std::string& session = "s", const std::string& cwd = "/tmp") {
    ASSERT_TRUE(client->Open({.session = session, .cwd = cwd, .env = {}, .resume = 0}));
  }
  static frames::Start Shell(const std::string& script, const std::string& session = "s") {
    frames::Start start;
    start.session = session;
    start.run_id = NewRunId();
    start.script = script;
    return start;
  }
  const Result& Run(const std::string& script) { return client->Finish(Shell(script)); }

  std::string directory;
  std::string home;
  std::unique_ptr<Client> client;
  pid_t runner_pid = 0;
  std::string start_token;
};

}  // namespace hermes::test
