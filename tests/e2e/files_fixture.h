#pragma once

// FilesTest: a host directory and a far one, and a real hermesd between them. One thread each for
// what is static.

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "hermes/v1/sync.grpc.pb.h"
#include "tests/e2e/daemon_process.h"
#include "tests/fakes/temp_dir.h"

namespace hermes {

namespace fs = std::filesystem;

inline std::string Slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void Spit(const std::string& path, const std::string& bytes) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

struct Synced {
  grpc::Status status;
  v1::SyncJob job;
  std::vector<v1::SyncEntry> entries;
};

// Tells the first file that is given a name in a directory: a landing has begun.
class FirstRename {
 public:
  explicit FirstRename(const std::string& dir) : fd_(::inotify_init1(IN_CLOEXEC)) {
    EXPECT_GE(::inotify_add_watch(fd_, dir.c_str(), IN_MOVED_TO), 0);
  }
  ~FirstRename() { ::close(fd_); }
  FirstRename(const FirstRename&) = delete;
  FirstRename& operator=(const FirstRename&) = delete;

  bool Await() const {
    pollfd ready{fd_, POLLIN, 0};
    return ::poll(&ready, 1, static_cast<int>(std::chrono::milliseconds(kLimit).count())) == 1;
  }

 private:
  static constexpr auto kLimit = std::chrono::seconds(30);
  const int fd_;
};

class FilesTest : public testing::Test {
 protected:
  FilesTest() : dir_(fs::canonical(temp_.path()).string()) {
    fs::create_directory(Host(""));
    daemon_.Start();
  }

  std::string Host(const std::string& name) const { return dir_ + "/host/" + name; }
  std::string Far(const std::string& name) const { return dir_ + "/far/" + name; }

  v1::CreateSessionRequest Request(const std::string& id) const {
    v1::CreateSessionRequest request;
    request.set_session_id(id);
    request.set_backend("local");
    request.set_wait_ready(true);
    v1::Mount* mount = request.add_mounts();
    mount->set_host_root(dir_ + "/host");
    mount->set_remote_root(dir_ + "/far");
    return request;
  }
  static grpc::Status Create(const DaemonProcess& daemon, const v1::CreateSessionRequest& request) {
    auto stub = v1::SessionService::NewStub(daemon.Connect());
    grpc::ClientContext context;
    v1::Session session;
    return stub->CreateSession(&context, request, &session);
  }
  void Create(const std::string& id = "s") {
    const grpc::Status status = Create(daemon_, Request(id));
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  std::string Out(const std::string& script, const std::string& session = "s") {
    const Seen seen = ExecuteToEnd(daemon_, Shell(session, script));
    EXPECT_EQ(seen.finished, 1) << seen.status.error_message();
    return seen.out;
  }

  using OnPhase = std::function<void(const std::string& phase)>;
  template <typename Stream>
  static Synced ToEnd(Stream stream, const OnPhase& on_phase = nullptr) {
    Synced synced;
    v1::SyncEvent event;
    while (stream->Read(&event)) {
      if (event.has_phase() && on_phase != nullptr) on_phase(event.phase().name());
      for (const v1::SyncEntry& entry : event.entries().entries()) synced.entries.push_back(entry);
      if (event.has_finished()) synced.job = event.finished();
    }
    synced.status = stream->Finish();
    return synced;
  }
  static Synced Push(const DaemonProcess& daemon, bool force = false) {
    auto stub = v1::SyncService::NewStub(daemon.Connect());
    v1::SyncRequest request;
    request.set_session("sessions/s");
    request.set_force(force);
    grpc::ClientContext context;
    return ToEnd(stub->Sync(&context, request));
  }
  static Synced Pull(const DaemonProcess& daemon, const std::string& session = "s",
                     const OnPhase& on_phase = nullptr) {
    auto stub = v1::SyncService::NewStub(daemon.Connect());
    v1::SyncBackRequest request;
    request.set_session("sessions/" + session);
    grpc::ClientContext context;
    return ToEnd(stub->SyncBack(&context, request), on_phase);
  }
  v1::SyncJob Get(const std::string& name) const {
    auto stub = v1::SyncService::NewStub(daemon_.Connect());
    v1::GetSyncRequest request;
    request.set_name(name);
    grpc::ClientContext context;
    v1::SyncJob job;
    const grpc::Status status = stub->GetSync(&context, request, &job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return job;
  }
  static Synced Undo(const DaemonProcess& daemon, const std::string& name) {
    auto stub = v1::SyncService::NewStub(daemon.Connect());
    v1::RevertSyncRequest request;
    request.set_name(name);
    grpc::ClientContext context;
    return ToEnd(stub->RevertSync(&context, request));
  }

  struct Cleaned {
    grpc::Status status;
    std::vector<std::string> phases;
    std::optional<v1::SyncJob> pull;
    bool finished = false;
  };
  Cleaned Cleanup(bool discard = false) {
    Cleaned cleaned;
    auto stub = v1::SessionService::NewStub(daemon_.Connect());
    v1::CleanupRequest request;
    request.set_name("sessions/s");
    request.set_discard(discard);
    grpc::ClientContext context;
    auto stream = stub->Cleanup(&context, request);
    v1::CleanupEvent event;
    while (stream->Read(&event)) {
      if (event.has_phase()) cleaned.phases.push_back(event.phase().name());
      if (event.has_sync()) cleaned.pull = event.sync();
      cleaned.finished = cleaned.finished || event.has_finished();
    }
    cleaned.status = stream->Finish();
    return cleaned;
  }
  bool HasCondition(const std::string& type) const {
    const v1::Session session = daemon_.GetSession("s");
    for (const v1::Condition& condition : session.conditions()) {
      if (condition.type() == type) return true;
    }
    return false;
  }

  TempDir temp_;
  const std::string dir_;
  DaemonProcess daemon_;
};

}  // namespace hermes
