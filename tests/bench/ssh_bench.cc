// hermes_ssh_bench: commands on another host, beside the plain `ssh` over ControlMaster in the same
// run, with network delay made by a proxy. A real sshd on this machine with an account of its own;
// needs root. The ratio within one run is the target. With --smoke every row runs briefly. Exit
// code 1: a row did not work; 77: not possible here.

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/measure.h"
#include "tests/hosts/delay_proxy.h"
#include "tests/hosts/processes.h"
#include "tests/hosts/ssh_client.h"

namespace hermes {
namespace {

constexpr uint64_t kManyBytes = 200ull << 20;

class Bench {
 public:
  explicit Bench(Scale scale)
      : scale_(scale),
        account_(TestAccount::Make()),
        newcomers_(Newcomers(scale)),
        server_(OpenSshServer::Start(Serving())) {
    daemon_.Start();
    stub_ = v1::ExecService::NewStub(daemon_.Connect());
    sessions_ = v1::SessionService::NewStub(daemon_.Connect());
  }

  bool Run() {
    for (int rtt : {0, 20, 100}) AtRtt(rtt);
    Idle("plain", v1::RUNNER_NEVER);
    Idle("runner", v1::RUNNER_REQUIRE);
    return ok_;
  }

 private:
  struct Place {
    int port = 0;  // of a proxy, or the server's
    v1::SshPlace::Transport transport = v1::SshPlace::OPENSSH;
    std::string key = {};  // another copy makes another connection
    v1::RunnerPolicy runner = v1::RUNNER_REQUIRE;
    const TestAccount* account = nullptr;  // another one than account_
  };
  static std::vector<std::unique_ptr<TestAccount>> Newcomers(const Scale& scale) {
    std::vector<std::unique_ptr<TestAccount>> accounts;
    for (int i = 0; i < scale.Of(9, 3); ++i) accounts.push_back(TestAccount::Make());
    return accounts;
  }
  OpenSshOptions Serving() const {
    OpenSshOptions options = client_.Serving(*account_);
    for (const auto& account : newcomers_)
      options.logins.push_back({account->name(), {client_.key().public_line}});
    return options;
  }
  // A session; returns how long its creation took.
  double Create(const std::string& name, const Place& where) {
    v1::CreateSessionRequest request;
    request.set_session_id(name);
    request.set_backend("ssh");
    request.set_wait_ready(true);
    request.set_runner(where.runner);
    v1::SshPlace& place = *request.mutable_ssh();
    place.set_host(server_->host());
    place.set_port(static_cast<uint32_t>(where.port));
    place.set_user((where.account == nullptr ? *account_ : *where.account).name());
    place.set_key_file(where.key.empty() ? client_.key().private_path : where.key);
    place.set_host_key("accept-new");
    place.set_transport(where.transport);
    grpc::ClientContext context;
    v1::Session session;
    const auto begin = Clock::now();
    const grpc::Status status = sessions_->CreateSession(&context, request, &session);
    const double ms = Ms(Clock::now() - begin);
    if (!status.ok() || session.state() != v1::Session::READY) {
      std::printf("session %s: %s %s\n", name.c_str(), status.error_message().c_str(),
                  session.ShortDebugString().c_str());
      ok_ = false;
    }
    return ms;
  }

  std::vector<double> Repeat(const std::string& session, const std::string& script, int count,
                             bool first_byte = false) {
    std::vector<double> times;
    for (int i = 0; i < count; ++i) {
      v1::ExecuteRequest request = Shell(session, script);
      if (first_byte) request.set_on_disconnect(v1::CANCEL);
      const Followed seen = Follow(*stub_, request, first_byte);
      ok_ = ok_ && (seen.ok || first_byte);
      times.push_back(first_byte ? seen.first_byte_ms : seen.ms);
    }
    return times;
  }

  // `ssh` over a master connection of its own: what users have without us.
  std::vector<std::string> Master(int port) {
    std::vector<std::string> words = client_.Words(*server_, *account_, port);
    const std::string control = "-oControlPath=" + client_.folder() + "/c" + std::to_string(port);
    words.insert(words.begin() + 1,
                 {control, "-oControlMaster=auto", "-oControlPersist=60", "-oLogLevel=ERROR"});
    std::vector<std::string> first = words;
    first.emplace_back("true");
    ok_ = ok_ && RunProgram({.argv = first}).status == 0;
    return words;
  }
  double Plain(std::vector<std::string> words, const std::string& command, bool output = false) {
    words.push_back(command);
    if (output) words.insert(words.begin(), {"sh", "-c", "exec \"$@\" >/dev/null", "sh"});
    const auto begin = Clock::now();
    ok_ = RunProgram({.argv = words}).status == 0 && ok_;
    return Ms(Clock::now() - begin);
  }

  void AtRtt(int rtt);
  void First(const std::string& name, int rtt, int port);
  void Latency(const std::string& name, int rtt, const std::vector<std::string>& master);
  void States(const std::string& name, int rtt);
  void Shapes(const std::string& name, int rtt);
  void Throughput(const std::string& name, int rtt, const std::vector<std::string>& master,
                  double target);
  void Cancel(const std::string& name, int rtt);
  void Idle(const std::string& engine, v1::RunnerPolicy runner);

  const Scale scale_;
  size_t next_newcomer_ = 0;
  Table table_;
  bool ok_ = true;
  SshClient client_;
  std::unique_ptr<TestAccount> account_;
  std::vector<std::unique_ptr<TestAccount>> newcomers_;  // where hermesd has never been
  std::unique_ptr<OpenSshServer> server_;
  DaemonProcess daemon_;
  std::unique_ptr<v1::ExecService::Stub> stub_;
  std::unique_ptr<v1::SessionService::Stub> sessions_;
};

void Bench::First(const std::string& name, int rtt, int port) {
  // What a login and sending a program of that size take without us; it asks for one command, of
  // the three round trips that we may take. Beside those 20 ms, as on a warm connection, and 20 ms
  // for the probe that a fresh host needs. With the same key exchange: ssh's own.
  std::vector<std::string> words = client_.Words(*server_, *account_, port);
  std::erase_if(words, [](const auto& word) { return word.starts_with("-oKexAlgorithms"); });
  words.emplace_back("cat >/dev/null");
  words.insert(words.begin(), {"sh", "-c", "exec \"$@\" <\"$0\"", BinDir() + "/hermes-runner"});
  double ssh = 1e9, first = 1e9;
  for (int i = 0; i < scale_.Of(3, 1); ++i) {
    const auto begin = Clock::now();
    ok_ = RunProgram({.argv = words}).status == 0 && ok_;
    ssh = std::min(ssh, Ms(Clock::now() - begin));
    Place where{port};
    where.account = newcomers_[next_newcomer_++].get();
    first = std::min(first, Create(name + "n" + std::to_string(i), where));
  }
  Create(name, {port});
  const double most = ssh + 2 * rtt + 40;
  table_.Row("session, first on its host, RTT " + std::to_string(rtt),
             Text("%.0f ms, ssh and sending as much %.0f ms", first, ssh),
             Text("<= ssh + 2 RTT + 40 = %.0f ms", most), first <= most);
}

void Bench::AtRtt(int rtt) {
  const std::string at = ", RTT " + std::to_string(rtt);
  DelayProxy proxy({.target_port = server_->port(), .rtt = std::chrono::milliseconds(rtt)});
  const std::vector<std::string> master = Master(proxy.port());
  const std::string open = "o" + std::to_string(rtt), in_process = "l" + std::to_string(rtt);
  First(open, rtt, proxy.port());
  const double again = Create(open + "b", {proxy.port()});
  table_.Row("session on a warm connection" + at, Text("%.0f ms", again),
             Text("<= %d ms", 3 * rtt + 20), again <= 3 * rtt + 20);
  const double light = Create(in_process, {proxy.port(), v1::SshPlace::LIBSSH2});
  table_.Row("session by libssh2, first on its connection" + at, Text("%.0f ms", light), "-", true);
  Latency(open, rtt, master);
  Shapes(open, rtt);
  Cancel(open, rtt);
  if (rtt == 20) States(open, rtt);
  if (rtt == 100) return;
  Throughput(open, rtt, master, 0.7);
  Throughput(in_process, rtt, master, rtt == 0 ? 0.7 : 1.3);
}

void Bench::Latency(const std::string& name, int rtt, const std::vector<std::string>& master) {
  const int count = scale_.Of(rtt == 100 ? 30 : 60, 5);
  std::vector<double> ours, theirs;
  for (int i = 0; i < count; ++i) {  // in turn, so that drift hits both
    ours.push_back(Repeat(name, "true", 1).front());
    theirs.push_back(Plain(master, "true"));
  }
  const double mine = Percentile(ours, 0.5), ssh = Percentile(theirs, 0.5);
  table_.Row(
      "Execute true, p50, RTT " + std::to_string(rtt),
      Text("%.1f ms (p99 %.1f), ssh %.1f: %.2f x", mine, Percentile(ours, 0.99), ssh, mine / ssh),
      Text("<= 0.5 x, <= %d ms", rtt + 4), mine <= 0.5 * ssh && mine <= rtt + 4);
}

void Bench::States(const std::string& name, int rtt) {
  const double tiny = Percentile(Repeat(name, "true", scale_.Of(30, 3)), 0.5);
  Repeat(name, "export FOUR=$(head -c 4000 /dev/zero | tr '\\0' x)", 1);
  const double small = Percentile(Repeat(name, "true", scale_.Of(30, 3)), 0.5);
  Repeat(name,
         "for i in $(seq 350); do eval \"f$i() { echo $(head -c 950 /dev/zero | tr '\\0' y); }\"; "
         "done",
         1);
  std::vector<double> large;
  for (int i = 0; i < scale_.Of(30, 3); ++i) {  // a pause as an agent makes between commands
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    large.push_back(Repeat(name, "true", 1).front());
  }
  table_.Row("true with a 4 kB state, RTT " + std::to_string(rtt),
             Text("+%.1f ms (%.1f)", small - tiny, small), "<= +2 ms", small - tiny <= 2);
  const double heavy = Percentile(large, 0.5);
  table_.Row("true with a 350 kB state, 150 ms apart, RTT " + std::to_string(rtt),
             Text("+%.1f ms (%.1f)", heavy - tiny, heavy), "<= +12 ms", heavy - tiny <= 12);
  Repeat(name, "unset FOUR; for i in $(seq 350); do unset -f f$i; done", 1);
}

void Bench::Shapes(const std::string& name, int rtt) {
  const std::string at = ", RTT " + std::to_string(rtt);
  const double byte = Percentile(Repeat(name, "echo x; sleep 2", scale_.Of(15, 2), true), 0.5);
  table_.Row("first byte of echo x; sleep 2" + at, Text("%.1f ms", byte), Text("<= %d ms", rtt + 5),
             byte <= rtt + 5);
  const double back = Percentile(Repeat(name, "sleep 5 &", scale_.Of(15, 2)), 0.5);
  table_.Row("sleep 5 & returns" + at, Text("%.1f ms", back), Text("<= %d ms", rtt + 15),
             back <= rtt + 15);
  if (rtt != 20) return;
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  const auto begin = Clock::now();
  for (int i = 0; i < 50; ++i) {
    threads.emplace_back([&] { good += Follow(*stub_, Shell(name, "sleep 0.3")).ok ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  const double ms = Ms(Clock::now() - begin);
  ok_ = ok_ && good == 50;
  table_.Row("50 x sleep 0.3 at once" + at, Text("%d ok, %.0f ms", good.load(), ms), "<= 450 ms",
             good == 50 && ms <= 450);
}

void Bench::Throughput(const std::string& name, int rtt, const std::vector<std::string>& master,
                       double target) {
  const uint64_t bytes = scale_.smoke ? kManyBytes / 20 : kManyBytes;
  const std::string script = "head -c " + std::to_string(bytes) + " /dev/zero";
  double ssh = 0, ours = 0;
  for (int i = 0; i < scale_.Of(3, 1); ++i) {  // the best of each: what else runs only slows
    ssh = std::max(ssh, static_cast<double>(bytes) / 1e3 / Plain(master, script, /*output=*/true));
    const Followed seen = Follow(*stub_, Shell(name, script));
    ok_ = ok_ && seen.ok && seen.bytes == bytes && !seen.gap;
    ours = std::max(ours, static_cast<double>(bytes) / 1e3 / seen.ms);
  }
  table_.Row(std::string("200 MB by ") + (name[0] == 'o' ? "openssh" : "libssh2") + ", RTT " +
                 std::to_string(rtt),
             Text("%.0f MB/s, ssh %.0f: %.2f x", ours, ssh, ours / ssh), Text(">= %.1f x", target),
             ours >= target * ssh);
}

void Bench::Cancel(const std::string& name, int rtt) {
  std::vector<double> times;
  bool verified = true;
  for (int i = 0; i < scale_.Of(10, 2); ++i) {
    grpc::ClientContext context;
    auto stream = stub_->Execute(
        &context, Shell(name, "sleep 1000 & setsid sleep 1000 & echo up; sleep 1000"));
    v1::CommandEvent event;
    std::string command_name;
    while (stream->Read(&event)) {
      if (event.has_started()) command_name = event.started().name();
      if (event.has_output()) break;
    }
    grpc::ClientContext cancel_context;
    v1::CancelCommandRequest cancel;
    cancel.set_name(command_name);
    v1::Command command;
    const auto begin = Clock::now();
    const bool ok = stub_->CancelCommand(&cancel_context, cancel, &command).ok();
    times.push_back(Ms(Clock::now() - begin));
    verified = verified && ok && command.exit().tree().verified() &&
               command.exit().tree().survivors() == 0;
    while (stream->Read(&event)) {
    }
    (void)stream->Finish();
  }
  ok_ = ok_ && verified;
  table_.Row("cancel of a tree to verified gone, RTT " + std::to_string(rtt),
             Text("p50 %.0f ms, p99 %.0f ms, %s", Percentile(times, 0.5), Percentile(times, 0.99),
                  verified ? "all verified" : "NOT verified"),
             Text("<= %d ms", rtt + 300), verified && Percentile(times, 0.99) <= rtt + 300);
}

// Each with a connection of its own, as to as many hosts.
void Bench::Idle(const std::string& engine, v1::RunnerPolicy runner) {
  const int first = scale_.Of(20, 1), more = scale_.Of(200, 4);
  uint64_t before = 0;
  for (int i = 0; i < first + more; ++i) {
    if (i == first) before = RssKb(daemon_.pid());
    const std::string name = engine + std::to_string(i), key = client_.folder() + "/" + name;
    std::filesystem::copy_file(client_.key().private_path, key);
    Create(name, {server_->port(), v1::SshPlace::LIBSSH2, key, runner});
  }
  const double each = static_cast<double>(RssKb(daemon_.pid()) - before) / more;
  table_.Row(Text("%d idle libssh2 %s sessions, a connection each", more, engine.c_str()),
             Text("%.0f KiB each in the daemon", each), "<= 200 KiB", each <= 200);
}

}  // namespace
}  // namespace hermes

int main(int argc, char** argv) {
  if (std::string why = hermes::OpenSshServer::Unsupported() + hermes::TestAccount::Unsupported();
      !why.empty()) {
    std::printf("skipped: %s\n", why.c_str());
    return 77;
  }
  hermes::Bench bench({argc > 1 && std::strcmp(argv[1], "--smoke") == 0});
  return bench.Run() ? 0 : 1;
}
