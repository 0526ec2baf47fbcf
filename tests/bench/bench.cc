// hermes_bench: the speed and size targets, measured over the real programs on this machine and
// printed as a table. The ratio within one run is the target; absolute figures carry the machine's
// noise, which is printed beside them. With --smoke every row runs briefly and only sanity is
// checked: what CI does. Exit code 1: a row did not work.

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/measure.h"
#include "tests/e2e/daemon_process.h"

extern char** environ;

namespace hermes {
namespace {

// A plain child with its stdout in a pipe: what the daemon is compared with.
pid_t SpawnShell(const std::string& script, int* out) {
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) std::abort();
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, pipe[1], 1);
  std::string words[] = {"bash", "-c", script};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  pid_t pid = 0;
  if (::posix_spawnp(&pid, "bash", &actions, nullptr, argv, environ) != 0) std::abort();
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(pipe[1]);
  *out = pipe[0];
  return pid;
}

double RawTrueMs() {
  auto begin = Clock::now();
  int out = -1;
  pid_t pid = SpawnShell("true", &out);
  ::waitpid(pid, nullptr, 0);
  ::close(out);
  return Ms(Clock::now() - begin);
}

double RawFirstByteMs() {
  auto begin = Clock::now();
  int out = -1;
  pid_t pid = SpawnShell("echo x; sleep 2", &out);
  char byte = 0;
  if (::read(out, &byte, 1) != 1) std::abort();
  double ms = Ms(Clock::now() - begin);
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  ::close(out);
  return ms;
}

bool BenchTrue(const DaemonProcess& daemon, Scale scale, Table& table) {
  auto stub = v1::ExecService::NewStub(daemon.Connect());
  std::vector<double> raw;
  std::vector<double> ours;
  bool ok = true;
  for (int i = 0; i < scale.Of(400, 20); ++i) {  // in turn, so that drift hits both
    raw.push_back(RawTrueMs());
    Followed seen = Follow(*stub, Shell("b", "true"));
    ok = ok && seen.ok;
    ours.push_back(seen.ms);
  }
  double extra = Percentile(ours, 0.5) - Percentile(raw, 0.5);
  table.Row("Execute true, p50 minus raw posix_spawn p50",
            Text("%.2f - %.2f = %.2f ms (p99 %.1f / %.1f)", Percentile(ours, 0.5),
                 Percentile(raw, 0.5), extra, Percentile(ours, 0.99), Percentile(raw, 0.99)),
            "<= 1.5 ms", extra <= 1.5);
  return ok;
}

bool BenchFirstByte(const DaemonProcess& daemon, Scale scale, Table& table) {
  auto stub = v1::ExecService::NewStub(daemon.Connect());
  std::vector<double> raw;
  std::vector<double> ours;
  for (int i = 0; i < scale.Of(100, 5); ++i) {
    raw.push_back(RawFirstByteMs());
    v1::ExecuteRequest request = Shell("b", "echo x; sleep 2");
    request.set_on_disconnect(v1::CANCEL);
    ours.push_back(Follow(*stub, request, true).first_byte_ms);
  }
  double ratio = Percentile(ours, 0.5) / Percentile(raw, 0.5);
  table.Row(
      "first byte of echo x; sleep 2",
      Text("%.2f ms, raw pipe %.2f ms: %.1f x", Percentile(ours, 0.5), Percentile(raw, 0.5), ratio),
      "<= 3 x, <= 5 ms", ratio <= 3 && Percentile(ours, 0.5) <= 5);
  return Percentile(ours, 0.5) > 0;
}

// `cat` of as many bytes through a Unix socket to a reader: MB/s.
double SocketCat(uint64_t bytes) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) std::abort();
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, pair[1], 1);
  std::string script = "head -c " + std::to_string(bytes) + " /dev/zero | cat";
  std::string words[] = {"bash", "-c", script};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  pid_t pid = 0;
  auto begin = Clock::now();
  if (::posix_spawnp(&pid, "bash", &actions, nullptr, argv, environ) != 0) std::abort();
  ::close(pair[1]);
  std::vector<char> buffer(64 << 10);
  while (::read(pair[0], buffer.data(), buffer.size()) > 0) {
  }
  double ms = Ms(Clock::now() - begin);
  ::waitpid(pid, nullptr, 0);
  ::close(pair[0]);
  return static_cast<double>(bytes) / 1e3 / ms;
}

bool BenchThroughput(const DaemonProcess& daemon, Scale scale, Table& table) {
  uint64_t bytes = scale.smoke ? 64ull << 20 : 1ull << 30;
  auto stub = v1::ExecService::NewStub(daemon.Connect());
  double raw = SocketCat(bytes);
  std::atomic<bool> done{false};
  uint64_t peak_kb = 0;
  std::thread watcher([&] {
    while (!done) {
      peak_kb = std::max(peak_kb, RssKb(daemon.pid()));
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  });
  v1::ExecuteRequest request = Shell("b", "head -c " + std::to_string(bytes) + " /dev/zero");
  Followed seen = Follow(*stub, request);  // far more than is kept by default
  done = true;
  watcher.join();
  double ours = static_cast<double>(bytes) / 1e3 / seen.ms;
  table.Row("1 GiB of stdout to a client that keeps up",
            Text("%.0f MB/s, cat through a socket %.0f: %.2f x; RSS %.0f MiB", ours, raw,
                 ours / raw, static_cast<double>(peak_kb) / 1024),
            ">= 0.4 x (aim 400 MB/s), RSS <= 64 MiB", ours >= 0.4 * raw && peak_kb <= 64 * 1024);
  return seen.ok && seen.bytes == bytes && !seen.gap;
}

bool BenchManySleeps(const DaemonProcess& daemon, Scale scale, Table& table) {
  int count = scale.Of(1000, 50);
  auto channel = daemon.Connect();
  auto stub = v1::ExecService::NewStub(channel);
  auto begin = Clock::now();
  std::vector<std::string> names(static_cast<size_t>(count));
  std::atomic<int> next{0};
  auto start = [&] {
    for (int i = next++; i < count; i = next++) {
      grpc::ClientContext context;
      v1::Command command;
      if (stub->StartCommand(&context, Shell("b", "sleep 5"), &command).ok())
        names[static_cast<size_t>(i)] = command.name();
    }
  };
  std::vector<std::thread> starters;
  for (int i = 0; i < 16; ++i) starters.emplace_back(start);
  for (std::thread& thread : starters) thread.join();
  int ended = 0;
  for (const std::string& name : names) {
    grpc::ClientContext context;
    v1::WaitCommandRequest request;
    request.set_name(name);
    request.mutable_timeout()->set_seconds(60);
    v1::Command command;
    if (!name.empty() && stub->WaitCommand(&context, request, &command).ok() &&
        command.state() == v1::Command::EXITED)
      ++ended;
  }
  double seconds = Ms(Clock::now() - begin) / 1000;
  double limit = 5 + 0.005 * count;
  table.Row(Text("%d concurrent sleep 5", count), Text("%d ended, makespan %.2f s", ended, seconds),
            Text("all, <= 5 s + 5 ms each = %.2f s", limit), ended == count && seconds <= limit);
  return ended == count;
}

bool BenchCancel(const DaemonProcess& daemon, Scale scale, Table& table) {
  auto stub = v1::ExecService::NewStub(daemon.Connect());
  std::vector<double> times;
  bool verified = true;
  for (int i = 0; i < scale.Of(20, 2); ++i) {
    v1::ExecuteRequest request =
        Shell("b", "for i in $(seq 250); do (sleep 1000 & wait) & done; echo up; wait");
    grpc::ClientContext context;
    auto stream = stub->Execute(&context, request);
    v1::CommandEvent event;
    std::string name;
    while (stream->Read(&event)) {
      if (event.has_started()) name = event.started().name();
      if (event.has_output()) break;
    }
    auto begin = Clock::now();
    grpc::ClientContext cancel_context;
    v1::CancelCommandRequest cancel;
    cancel.set_name(name);
    v1::Command command;
    bool ok = stub->CancelCommand(&cancel_context, cancel, &command).ok();
    times.push_back(Ms(Clock::now() - begin));
    verified = verified && ok && command.exit().tree().verified() &&
               command.exit().tree().survivors() == 0;
    while (stream->Read(&event)) {
    }
    (void)stream->Finish();
  }
  table.Row("cancel of a 500-process tree to verified gone",
            Text("p50 %.0f ms, p99 %.0f ms, %s", Percentile(times, 0.5), Percentile(times, 0.99),
                 verified ? "all verified" : "NOT verified"),
            "<= 1 s p99", verified && Percentile(times, 0.99) <= 1000);
  return verified;
}

bool CreateMany(const DaemonProcess& daemon, const std::string& prefix, int count) {
  auto stub = v1::SessionService::NewStub(daemon.Connect());
  std::atomic<int> next{0};
  std::atomic<bool> ok{true};
  auto create = [&] {
    for (int i = next++; i < count; i = next++) {
      grpc::ClientContext context;
      v1::CreateSessionRequest request;
      request.set_session_id(prefix + std::to_string(i));
      request.set_backend("local");
      request.set_wait_ready(true);
      v1::Session session;
      if (!stub->CreateSession(&context, request, &session).ok()) ok = false;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) threads.emplace_back(create);
  for (std::thread& thread : threads) thread.join();
  return ok;
}

bool BenchIdleSessions(DaemonProcess& daemon, Scale scale, Table& table) {
  int count = scale.Of(10'000, 200);
  uint64_t daemon_before = RssKb(daemon.pid());
  uint64_t runner_before = RssKb(daemon.RunnerPid());
  auto begin = Clock::now();
  bool ok = CreateMany(daemon, "idle", count);
  double seconds = Ms(Clock::now() - begin) / 1000;
  double daemon_kb = static_cast<double>(RssKb(daemon.pid()) - daemon_before) / count;
  double runner_kb = static_cast<double>(RssKb(daemon.RunnerPid()) - runner_before) / count;
  table.Row(
      Text("%d idle local sessions", count),
      Text("daemon %.1f KiB, runner %.1f KiB each; made in %.1f s", daemon_kb, runner_kb, seconds),
      "<= 32 KiB and <= 4 KiB each", ok && daemon_kb <= 32 && runner_kb <= 4);
  daemon.Kill(SIGKILL);
  begin = Clock::now();
  daemon.Start();
  double start_ms = Ms(Clock::now() - begin);
  table.Row(Text("start with %d sessions in the store", count),
            Text("READY after %.0f ms", start_ms), "<= 1 s", start_ms <= 1000);
  return ok;
}

constexpr int kSessions = 200;
constexpr int kChatty = 50;  // of the sessions, the first ones
constexpr int kStuck = 20;   // of the chatty ones

std::string BusySession(int number) { return "busy" + std::to_string(number); }

// What `true` takes in the sessions that have nothing else to do, in turn; and the most that the
// daemon had resident meanwhile.
std::vector<double> QuietTimes(const DaemonProcess& daemon, int count, uint64_t* most_kb) {
  auto stub = v1::ExecService::NewStub(daemon.Connect());
  std::vector<double> times;
  for (int i = 0; i < count; ++i) {
    std::string session = BusySession(kChatty + i % (kSessions - kChatty));
    times.push_back(Follow(*stub, Shell(session, "true")).ms);
    *most_kb = std::max(*most_kb, RssKb(daemon.pid()));
  }
  return times;
}

// More than a reader that never reads has room for on the way to it; then a kilobyte twenty times a
// second, without a fork, in each of the first sessions.
std::vector<std::string> StartChatty(v1::ExecService::Stub& stub) {
  std::vector<std::string> names;
  for (int i = 0; i < kChatty; ++i) {
    grpc::ClientContext context;
    v1::Command command;
    v1::ExecuteRequest request = Shell(
        BusySession(i),
        R"(head -c 4000000 /dev/zero; s=$(seq 270); exec 3<> <(:); while :; do echo "$s"; read -t 0.05 -u 3; done)");
    request.mutable_output()->set_limit_bytes(16 << 20);
    if (stub.StartCommand(&context, request, &command).ok()) names.push_back(command.name());
  }
  return names;
}

// Sessions of which some write all the time, some of these to readers that never read: what the
// others notice.
bool BenchStuckReaders(const DaemonProcess& daemon, Scale scale, Table& table) {
  if (!CreateMany(daemon, "busy", kSessions)) return false;
  auto stub = v1::ExecService::NewStub(daemon.Connect());
  uint64_t most_kb = 0;
  const int count = scale.Of(1000, 40);
  std::vector<double> before = QuietTimes(daemon, count, &most_kb);
  std::vector<std::string> names = StartChatty(*stub);
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::CommandEvent>>> readers;
  for (size_t i = 0; i < kStuck && i < names.size(); ++i) {
    auto own = v1::ExecService::NewStub(daemon.Connect());
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    v1::AttachRequest attach;
    attach.set_name(names[i]);
    readers.push_back(own->Attach(contexts.back().get(), attach));
    v1::CommandEvent event;
    readers.back()->Read(&event);  // one, and then never again
  }
  std::vector<double> during = QuietTimes(daemon, count, &most_kb);
  for (auto& context : contexts) context->TryCancel();
  for (const std::string& name : names) {
    grpc::ClientContext context;
    v1::CancelCommandRequest cancel;
    cancel.set_name(name);
    v1::Command command;
    (void)stub->CancelCommand(&context, cancel, &command);
  }
  double rss_mib = static_cast<double>(most_kb) / 1024;
  double limit_mib = 32 + kChatty + 5 * kStuck;
  double ratio = Percentile(during, 0.99) / Percentile(before, 0.99);
  table.Row("200 sessions, 50 chatty, 20 stuck readers",
            Text("RSS at most %.0f MiB; true p99 %.1f -> %.1f ms: %.1f x", rss_mib,
                 Percentile(before, 0.99), Percentile(during, 0.99), ratio),
            Text("RSS <= %.0f MiB, p99 <= 2 x", limit_mib), rss_mib <= limit_mib && ratio <= 2);
  return names.size() == kChatty;
}

bool BenchSize(Table& table) {
  bool ok = true;
  for (const char* name : {"hermes-runner", "hermes-runner-aarch64"}) {
    std::error_code error;
    uintmax_t size = std::filesystem::file_size(BinDir() + "/" + name, error);
    if (error) continue;
    table.Row(name, Text("%ju bytes", size), "<= 128 kB", size <= 128'000);
    ok = ok && size <= 128'000;
  }
  return ok;
}

int Main(bool smoke) {
  Scale scale{.smoke = smoke};
  Table table;
  DaemonProcess daemon;
  daemon.Start();
  daemon.CreateSession("b");
  double load = 0;
  std::ifstream("/proc/loadavg") >> load;
  std::printf("load average at the start %.2f, %u cores\n", load,
              std::thread::hardware_concurrency());
  table.Row("what", "measured", "target", true);
  bool ok = BenchTrue(daemon, scale, table);
  ok = BenchFirstByte(daemon, scale, table) && ok;
  ok = BenchThroughput(daemon, scale, table) && ok;
  ok = BenchStuckReaders(daemon, scale, table) && ok;
  ok = BenchManySleeps(daemon, scale, table) && ok;
  ok = BenchCancel(daemon, scale, table) && ok;
  ok = BenchIdleSessions(daemon, scale, table) && ok;
  ok = BenchSize(table) && ok;
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace hermes

int main(int argc, char** argv) {
  return hermes::Main(argc > 1 && std::strcmp(argv[1], "--smoke") == 0);
}
