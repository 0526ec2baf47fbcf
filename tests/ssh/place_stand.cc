#include "tests/ssh/place_stand.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <utility>

namespace hermes {
namespace {

namespace fs = std::filesystem;

// Where accounts put files, of this machine and of a server's own mounts.
const char* const kPublicFolders[] = {"/var/tmp", "/tmp", "/dev/shm"};

// The program that it was started as, if that is ours: it lies in a folder of ours. One read, for
// it may become another program meanwhile.
std::string RunnerPath(pid_t pid) {
  std::string path = ReadWholeFile("/proc/" + std::to_string(pid) + "/cmdline");
  path.resize(std::min(path.size(), path.find('\0')));
  const size_t ours = path.find("/hermesd");
  return ours != std::string::npos && path.find("/bin/", ours) != std::string::npos ? path : "";
}

}  // namespace

void PlaceStand::SetUp() {
  if (const std::string why = SshStand::Unsupported(); !why.empty()) GTEST_SKIP() << why;
}

void PlaceStand::TearDown() {
  world_.reset();
  EXPECT_TRUE(Eventually([this] { return Clients().empty(); })) << "an ssh is left";
  if (has_server()) {
    EXPECT_TRUE(Eventually([this] { return server().SessionPids().empty(); }))
        << "a session of sshd is left: " << server().Log();
  }
  proxy_.reset();
  if (has_account()) {
    const auto others = [this] {
      std::vector<std::string> names;
      for (const pid_t pid : account().Processes()) {
        ProcessFacts facts;
        if (ReadProcess(pid, &facts) && RunnerPath(pid).empty()) names.push_back(facts.name);
      }
      return names;
    };
    EXPECT_TRUE(Eventually([&] { return others().empty(); }))
        << "left over there: " << testing::PrintToString(others());
    account().KillProcesses();
  }
  EndServer();
}

void PlaceStand::Serve(std::vector<std::string> lines, OpenSshOptions options) {
  if (!has_account()) MakeAccount();
  options.lines.insert(options.lines.end(), lines.begin(), lines.end());
  ServeOpenSsh(std::move(options));
}

DelayProxy& PlaceStand::PutProxy(std::chrono::microseconds rtt) {
  proxy_ =
      std::make_unique<DelayProxy>(DelayProxyOptions{.target_port = server().port(), .rtt = rtt});
  return *proxy_;
}

contract::World& PlaceStand::world() {
  if (world_ != nullptr) return *world_;
  const std::string config = dir().path() + "/config";
  std::ofstream(config) << "UserKnownHostsFile none\nGlobalKnownHostsFile none\n"
                        << "KexAlgorithms curve25519-sha256\n";  // costs far less time
  place_.backend = [this](Loop& loop, Clock& clock, const std::string& dir) {
    return MakeHastyBackend(loop, clock, dir, place_limit_);
  };
  place_.where = [this, config](SandboxSpec& spec) {
    Fill(spec, transport_, proxy_ != nullptr ? proxy_->port() : 0);
    if (transport_ == SshTransportChoice::kOpenSsh) spec.ssh.config_file = config;
  };
  world_ = std::make_unique<contract::World>(place_, dir().path());
  return *world_;
}

contract::TestSession& PlaceStand::Open(const std::string& engine) {
  place_.engine = engine;
  return world().Open({}, std::chrono::minutes(10));
}

absl::Status PlaceStand::TryOpen(const std::string& engine) {
  place_.engine = engine;
  contract::TestSession session;
  SessionSpec spec;
  spec.session_id = "s-" + world().random.Hex(4);
  return world().TryOpen(session, std::move(spec), std::chrono::minutes(10), "");
}

void PlaceStand::ExpectEcho(contract::TestSession& session) {
  const contract::RunPtr run = world().Run(session, std::string("echo \"it is $((40 + 2))\""));
  EXPECT_EQ(run->out, "it is 42\n") << run->Told();
  EXPECT_EQ(run->outcome->state, CommandState::kExited) << run->Told();
  EXPECT_EQ(run->outcome->value, 0) << run->Told();
}

void PlaceStand::ExpectBothWork() {
  for (const char* engine : {"runner", "plain"}) {
    SCOPED_TRACE(engine);
    ExpectEcho(Open(engine));
  }
}

struct PlaceStand::Crowd {
  CrowdWatcher watcher;
  size_t left = 0;
  size_t heard = 0;
};

Task<void> PlaceStand::RunOne(Engine* engine, Together* one, Crowd* crowd) {
  absl::StatusOr<std::unique_ptr<Channel>> channel = co_await engine->Start(one->spec);
  one->status = channel.status();
  if (!channel.ok()) co_return;
  for (;;) {
    absl::StatusOr<ChannelEvent> event = co_await (*channel)->Read();
    one->status = event.status();
    if (!event.ok()) co_return;
    if (const DataEvent* data = std::get_if<DataEvent>(&*event)) {
      if (one->out.empty()) ++crowd->heard;
      one->out += data->data;
      if (crowd->watcher.heard) crowd->watcher.heard(crowd->heard);
    }
    if (const EndedEvent* ended = std::get_if<EndedEvent>(&*event)) one->outcome = ended->outcome;
    if (std::holds_alternative<DrainedEvent>(*event)) break;
  }
  (*channel)->Forget();
}

std::vector<std::unique_ptr<Together>> PlaceStand::RunTogether(contract::TestSession& session,
                                                               std::vector<std::string> scripts,
                                                               CrowdWatcher watcher) {
  std::vector<std::unique_ptr<Together>> all;
  Crowd crowd{.watcher = std::move(watcher), .left = scripts.size()};
  for (std::string& script : scripts) {
    all.push_back(std::make_unique<Together>());
    Together* one = all.back().get();
    one->spec.run_id = world().random.Uuid();
    one->spec.script = std::move(script);
    one->spec.state_mode = StateMode::kReadOnly;
    asio::co_spawn(world().loop.executor(), RunOne(session.engine.get(), one, &crowd),
                   [this, &crowd, one](std::exception_ptr) {
                     one->done = true;
                     --crowd.left;
                     if (crowd.watcher.ended) crowd.watcher.ended(crowd.left);
                     world().Poke();
                   });
  }
  if (!world().Until([&crowd] { return crowd.left == 0; }, kLongPatience)) {
    GiveUp(std::to_string(crowd.left) + " commands have not ended, " + std::to_string(crowd.heard) +
           " have said something");
  }
  return all;
}

void PlaceStand::MakeGate() {
  const std::string path = account().home() + "/gate";
  if (mkfifo(path.c_str(), 0600) != 0) GiveUp("make " + path);
  if (geteuid() == 0 && chown(path.c_str(), account().uid(), account().gid()) != 0) {
    GiveUp("give " + path + " away");
  }
  gate_.reset(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!gate_.valid()) GiveUp("open " + path);
}

void PlaceStand::LetThrough(size_t commands) {
  const std::string lines(commands, '\n');
  if (write(gate_.get(), lines.data(), lines.size()) != static_cast<ssize_t>(lines.size())) {
    GiveUp("open the gate");
  }
}

Ran PlaceStand::Inside(const std::vector<std::string>& argv) const {
  if (geteuid() != 0) return RunProgram({.argv = argv});
  std::vector<std::string> words = {"nsenter", "-m", "-t", std::to_string(server().pid()), "--"};
  words.insert(words.end(), argv.begin(), argv.end());
  return RunProgram({.argv = words});
}

std::vector<std::string> PlaceStand::Files() const {
  std::vector<std::string> words = {"find", account().home(), "/run", "/home", "/opt", "/srv"};
  words.insert(words.end(), std::begin(kPublicFolders), std::end(kPublicFolders));
  for (const char* word : {"-uid", "", "-printf", "%p %m %y\\n"}) words.push_back(word);
  words[words.size() - 3] = std::to_string(account().uid());
  std::vector<std::string> lines = SplitLines(Inside(words).out);
  const std::set<std::string> once(lines.begin(), lines.end());
  return {once.begin(), once.end()};
}

std::vector<std::string> PlaceStand::RunnerPaths() const {
  std::set<std::string> paths;
  for (const pid_t pid : account().Processes()) {
    if (std::string path = RunnerPath(pid); !path.empty()) paths.insert(std::move(path));
  }
  return {paths.begin(), paths.end()};
}

int PlaceStand::Logins() const {
  int logins = 0;
  for (const std::string& line : SplitLines(server().Log())) {
    if (line.find("Accepted publickey") != std::string::npos) ++logins;
  }
  return logins;
}

std::vector<ProcessFacts> PlaceStand::Clients() const {
  std::vector<ProcessFacts> clients;
  for (const ProcessFacts& process : DescendantsOf(getpid())) {
    if (process.name == "ssh") clients.push_back(process);
  }
  return clients;
}

}  // namespace hermes
