// hermes_files_bench: files to and from another host, beside rsync -az and tar over plain `ssh`
// with ControlMaster in the same run, with network delay made by a proxy. A real sshd on this
// machine with an account of its own; needs root. The ratio within one run is the target. With
// --smoke the trees are small. Exit code 1: a row did not work; 77: not possible here.

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "hermes/v1/sync.grpc.pb.h"
#include "tests/bench/measure.h"
#include "tests/fakes/temp_dir.h"
#include "tests/hosts/delay_proxy.h"
#include "tests/hosts/processes.h"
#include "tests/hosts/ssh_client.h"

namespace hermes {
namespace {

namespace fs = std::filesystem;

constexpr int kFiles = 581;       // what the predecessor's users have: 3.4 MB
constexpr size_t kBytes = 5'780;  // of each
constexpr int kManyFiles = 10'000;
constexpr int kTimes = 10;      // so many times the files
constexpr int kMaxGrowth = 15;  // may take so many times as long; a quadratic step would take 100
constexpr int kChanged = 20;

// Text that compresses by half, as sources do.
std::string Words(std::mt19937& random, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += "x" + std::to_string(random()) + " = value ;\n";
  text.resize(bytes);
  return text;
}

class Tree {
 public:
  Tree(const std::string& root, int files, bool own_folders) : root_(root) {
    for (int i = 0; i < files; ++i) {
      const std::string folder = "/d" + std::to_string(own_folders ? i : i / 10);
      names_.push_back(folder + "/f" + std::to_string(i));
      fs::create_directories(root_ + folder);
      Write(i);
    }
  }
  void Write(int i) {
    std::ofstream(root_ + names_[static_cast<size_t>(i)], std::ios::trunc)
        << Words(random_, kBytes);
  }
  const std::string& root() const { return root_; }
  const std::string& name(int i) const { return names_[static_cast<size_t>(i)]; }

 private:
  const std::string root_;
  std::vector<std::string> names_;
  std::mt19937 random_{7};
};

struct Synced {
  bool ok = false;
  double ms = 0;
  v1::SyncJob job;
};

class Bench {
 public:
  explicit Bench(Scale scale)
      : scale_(scale),
        account_(TestAccount::Make()),
        server_(OpenSshServer::Start(client_.Serving(*account_))) {
    Start();
  }

  bool Run() {
    for (int rtt : {0, 50}) AtRtt(rtt);
    return ok_;
  }

 private:
  void Start() {
    daemon_.Start();
    channel_ = daemon_.Connect();
    execs_ = v1::ExecService::NewStub(channel_);
    sessions_ = v1::SessionService::NewStub(channel_);
    syncs_ = v1::SyncService::NewStub(channel_);
  }

  void Create(const std::string& name, int port, const std::string& host_root) {
    v1::CreateSessionRequest request;
    request.set_session_id(name);
    request.set_backend("ssh");
    request.set_wait_ready(true);
    request.set_runner(v1::RUNNER_REQUIRE);
    v1::SshPlace& place = *request.mutable_ssh();
    place.set_host(server_->host());
    place.set_port(static_cast<uint32_t>(port));
    place.set_user(account_->name());
    place.set_key_file(client_.key().private_path);
    place.set_host_key("accept-new");
    if (!host_root.empty()) {
      v1::Mount& mount = *request.add_mounts();
      mount.set_host_root(host_root);
      mount.set_remote_root("~/" + name);
    }
    grpc::ClientContext context;
    v1::Session session;
    const grpc::Status status = sessions_->CreateSession(&context, request, &session);
    if (!status.ok() || session.state() != v1::Session::READY) {
      std::printf("session %s: %s %s\n", name.c_str(), status.error_message().c_str(),
                  session.ShortDebugString().c_str());
      ok_ = false;
    }
  }

  template <typename Reader>
  Synced Finish(Reader reader, Clock::time_point begin) {
    Synced synced;
    v1::SyncEvent event;
    while (reader->Read(&event)) {
      if (event.has_finished()) synced.job = event.finished();
    }
    const grpc::Status status = reader->Finish();
    synced.ms = Ms(Clock::now() - begin);
    synced.ok = status.ok() && synced.job.state() == v1::SyncJob::DONE;
    if (!synced.ok) {
      std::printf("sync: %s %s\n", status.error_message().c_str(),
                  synced.job.ShortDebugString().c_str());
      ok_ = false;
    }
    return synced;
  }
  Synced Push(const std::string& name, bool force = false) {
    v1::SyncRequest request;
    request.set_force(force);
    request.set_session("sessions/" + name);
    grpc::ClientContext context;
    const auto begin = Clock::now();
    return Finish(syncs_->Sync(&context, request), begin);
  }
  Synced Pull(const std::string& name) {
    v1::SyncBackRequest request;
    request.set_session("sessions/" + name);
    grpc::ClientContext context;
    const auto begin = Clock::now();
    return Finish(syncs_->SyncBack(&context, request), begin);
  }
  double Execute(const std::string& name, const std::string& script) {
    const Followed seen = Follow(*execs_, Shell(name, script));
    ok_ = ok_ && seen.ok;
    return seen.ms;
  }

  // What users have without us, over a master connection that is there already.
  void Master(int port) {
    ssh_ = client_.Words(*server_, *account_, port);
    const std::string control = "-oControlPath=" + client_.folder() + "/c" + std::to_string(port);
    ssh_.insert(ssh_.begin() + 1,
                {control, "-oControlMaster=auto", "-oControlPersist=60", "-oLogLevel=ERROR"});
    Ssh("true");
  }
  double Ssh(const std::string& command) {
    std::vector<std::string> words = ssh_;
    words.push_back(command);
    return Program(std::move(words));
  }
  double Program(std::vector<std::string> words) {
    const auto begin = Clock::now();
    const Ran ran = RunProgram({.argv = std::move(words)});
    if (ran.status != 0) std::printf("%s\n", ran.err.c_str());
    ok_ = ok_ && ran.status == 0;
    return Ms(Clock::now() - begin);
  }
  double Rsync(const std::string& from, const std::string& to) {
    std::string shell;
    for (size_t i = 0; i + 1 < ssh_.size(); ++i) shell += (i == 0 ? "" : " ") + ssh_[i];
    return Program({"rsync", "-az", "-e", shell, from, ssh_.back() + ":" + to});
  }
  double Tar(const std::string& root, const std::string& what, const std::string& to) {
    std::string line = "tar -C " + root + " -cf - " + what + " | ";
    for (const std::string& word : ssh_) line += "'" + word + "' ";
    return Program({"sh", "-c", line + "'mkdir -p " + to + " && tar -C " + to + " -xf -'"});
  }
  double TarBack(const std::string& from, const std::string& root) {
    std::string line;
    for (const std::string& word : ssh_) line += "'" + word + "' ";
    return Program(
        {"sh", "-c", line + "'tar -C " + from + " -cf - .' | tar -C " + root + " -xf -"});
  }

  void AtRtt(int rtt);
  void FirstPush(int rtt, Tree* tree);
  void OneChange(int rtt, DelayProxy* proxy, Tree* tree);
  void Fused(int rtt, Tree* tree);
  void PullRows(int rtt, DelayProxy* proxy, Tree* tree);
  void Restart(int rtt);
  void ManyFiles(int port);
  struct Travel {
    double push_ms = 0;
    double clean_ms = 0;
    double check_ms = 0;  // nothing has changed, and every file is looked at
    double pull_ms = 0;
  };
  Travel ThereAndBack(const std::string& name, int port, int files);

  const Scale scale_;
  Table table_;
  bool ok_ = true;
  TempDir dir_;
  SshClient client_;
  std::unique_ptr<TestAccount> account_;
  std::unique_ptr<OpenSshServer> server_;
  DaemonProcess daemon_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::ExecService::Stub> execs_;
  std::unique_ptr<v1::SessionService::Stub> sessions_;
  std::unique_ptr<v1::SyncService::Stub> syncs_;
  std::vector<std::string> ssh_;
  int rounds_ = 0;
};

void Bench::AtRtt(int rtt) {
  DelayProxy proxy({.target_port = server_->port(), .rtt = std::chrono::milliseconds(rtt)});
  Master(proxy.port());
  Tree tree(dir_.path() + "/t" + std::to_string(rtt), kFiles, true);
  Create("warm" + std::to_string(rtt), proxy.port(), "");
  for (int i = 0; i < scale_.Of(5, 1); ++i) {
    ++rounds_;
    Create("s" + std::to_string(rounds_), proxy.port(), tree.root());
    FirstPush(rtt, &tree);
  }
  OneChange(rtt, &proxy, &tree);
  Fused(rtt, &tree);
  PullRows(rtt, &proxy, &tree);
  Restart(rtt);
  if (rtt == 0) ManyFiles(proxy.port());
}

void Bench::FirstPush(int rtt, Tree* tree) {
  const std::string session = "s" + std::to_string(rounds_);
  const Synced ours = Push(session);
  const double rsync = Rsync(tree->root() + "/", "r" + session);
  const double tar = Tar(tree->root(), ".", "t" + session);
  ok_ = ok_ && ours.job.applied() == static_cast<uint32_t>(kFiles);
  table_.Row("first push of 581 files, RTT " + std::to_string(rtt),
             Text("%.0f ms, rsync %.0f: %.2f x, tar %.0f: %.2f x", ours.ms, rsync, ours.ms / rsync,
                  tar, ours.ms / tar),
             rtt == 0 ? "-" : "<= 0.4 x rsync, <= 0.7 x tar, <= 220",
             rtt == 0 || (ours.ms <= 0.4 * rsync && ours.ms <= 0.7 * tar && ours.ms <= 220));
}

void Bench::OneChange(int rtt, DelayProxy* proxy, Tree* tree) {
  const std::string session = "s" + std::to_string(rounds_);
  const std::string at = ", RTT " + std::to_string(rtt);
  std::vector<double> ours, rsync, tar;
  for (int i = 0; i < scale_.Of(15, 2); ++i) {
    tree->Write(i);
    ours.push_back(Push(session).ms);
    rsync.push_back(Rsync(tree->root() + "/", "r" + session));
    tar.push_back(Tar(tree->root(), "." + tree->name(i), "t" + session));
  }
  const double p50 = Percentile(ours, 0.5);
  table_.Row(
      "push of one changed file" + at,
      Text("%.1f ms, rsync %.0f, tar %.0f", p50, Percentile(rsync, 0.5), Percentile(tar, 0.5)),
      Text("<= %d ms", rtt + 20), p50 <= rtt + 20);
  for (int i = 0; i < kChanged; ++i) tree->Write(i);
  const uint64_t before = proxy->upstream_bytes();
  const Synced many = Push(session);
  const uint64_t sent = proxy->upstream_bytes() - before;
  const double most = kChanged * (kBytes * 1.02 + 200);
  table_.Row(Text("bytes up for %d changed files", kChanged) + at,
             Text("%.0f kB of %.0f kB of content, %.0f ms", static_cast<double>(sent) / 1e3,
                  kChanged * static_cast<double>(kBytes) / 1e3, many.ms),
             Text("<= %.1f kB", most / 1e3), static_cast<double>(sent) <= most);
}

void Bench::Fused(int rtt, Tree* tree) {
  const std::string session = "s" + std::to_string(rounds_);
  const std::string at = ", RTT " + std::to_string(rtt);
  std::vector<double> bare, idle, fused;
  for (int i = 0; i < scale_.Of(30, 3); ++i) {  // in turn, so that drift hits all
    bare.push_back(Execute("warm" + std::to_string(rtt), "true"));
    idle.push_back(Execute(session, "true"));
    tree->Write(i);
    fused.push_back(Execute(session, "true"));
  }
  const double none = Percentile(bare, 0.5), clean = Percentile(idle, 0.5),
               changed = Percentile(fused, 0.5);
  table_.Row("Execute true: no mount / nothing changed" + at, Text("%.1f / %.1f ms", none, clean),
             "+<= 1 ms", clean <= none + 1);
  table_.Row("Execute true after one edit" + at, Text("%.1f ms: +%.1f", changed, changed - clean),
             "+<= 5 ms", changed <= clean + 5);
}

void Bench::PullRows(int rtt, DelayProxy* proxy, Tree* tree) {
  const std::string session = "s" + std::to_string(rounds_);
  const std::string at = ", RTT " + std::to_string(rtt);
  std::vector<double> times;
  uint64_t down = 0;
  for (int i = 0; i < scale_.Of(10, 2); ++i) {
    const uint64_t before = proxy->downstream_bytes();
    times.push_back(Pull(session).ms);
    down = proxy->downstream_bytes() - before;
  }
  const double hash = Execute(session, "cd ~/" + session +
                                           " && find . -type f -exec cat {} + | "
                                           "sha256sum >/dev/null") -
                      rtt;
  table_.Row(
      "pull, nothing changed" + at,
      Text("%.0f ms (hashing there %.0f), %lu bytes down", Percentile(times, 0.5), hash, down),
      Text("<= %d ms + hashing, <= 300 bytes", rtt + 10),
      Percentile(times, 0.5) <= rtt + 10 + std::max(hash, 0.0) && down <= 300);
  Execute(session, "for i in $(seq 0 19); do echo changed >> ~/" + session + "/d$i/f$i; done");
  const Synced some = Pull(session);
  ok_ = ok_ && some.job.applied() == 20;
  Execute(session, "cd ~/" + session + " && for f in d*/f*; do echo >> $f; done");
  const Synced all = Pull(session);
  ok_ = ok_ && all.job.applied() == static_cast<uint32_t>(kFiles);
  const std::string back = dir_.path() + "/back" + std::to_string(rtt);
  fs::create_directory(back);
  const double tar = TarBack(session, back);
  table_.Row("pull of 20 / of 581 changed files" + at,
             Text("%.0f / %.0f ms, tar of all %.0f", some.ms, all.ms, tar), "-", true);
  (void)tree;
}

void Bench::Restart(int rtt) {
  const std::string session = "s" + std::to_string(rounds_);
  daemon_.Kill(SIGKILL);
  Start();
  const Synced again = Push(session);
  table_.Row("files sent after kill -9 and restart, RTT " + std::to_string(rtt),
             Text("%u files, %.0f ms with login", again.job.applied(), again.ms), "0",
             again.job.applied() == 0);
}

void Bench::ManyFiles(int port) {
  const int files = scale_.Of(kManyFiles, 1'000);
  const Travel few = ThereAndBack("few", port, files / kTimes);
  const Travel many = ThereAndBack("many", port, files);
  const double peak = static_cast<double>(StatusKb(daemon_.pid(), "VmHWM")) / 1024;
  table_.Row(
      Text("%d files: push / Execute / pull of all", files),
      Text("%.0f / %.1f / %.0f ms, RSS %.0f MiB", many.push_ms, many.clean_ms, many.pull_ms, peak),
      "RSS <= 64 MiB", peak <= 64);
  const auto growth = [&](const std::string& what, double one, double ten) {
    table_.Row(Text("%s of %d files by that of %d", what.c_str(), files, files / kTimes),
               Text("%.0f ms by %.0f: %.1f x", ten, one, ten / one),
               Text("<= %d x: linear", kMaxGrowth), ten <= kMaxGrowth * one);
  };
  growth("push", few.push_ms, many.push_ms);
  growth("pull", few.pull_ms, many.pull_ms);
  growth("look at every file", few.check_ms, many.check_ms);
}

Bench::Travel Bench::ThereAndBack(const std::string& name, int port, int files) {
  Tree tree(dir_.path() + "/" + name, files, false);
  Create(name, port, tree.root());
  Travel travel;
  travel.push_ms = Push(name).ms;
  travel.clean_ms = Execute(name, "true");
  travel.check_ms = Push(name, /*force=*/true).ms;
  Execute(name, "cd ~/" + name + " && for f in d*/f*; do echo >> $f; done");
  const Synced pull = Pull(name);
  travel.pull_ms = pull.ms;
  ok_ = ok_ && pull.job.applied() == static_cast<uint32_t>(files);
  return travel;
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
