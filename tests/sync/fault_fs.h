#pragma once

// FaultFs: another Fs with a hook before every call. The hook may end the process, edit files
// behind the caller's back, or return a negative errno that the call then fails with.

#include <functional>

#include "sync/fs.h"

namespace hermes::sync {

struct FsCall {
  enum class Kind { kRead, kMove, kExchange, kLink, kRemove, kSync, kOther };
  Kind kind = Kind::kRead;  // all but kRead are outside effects
  bool no_replace = false;  // of kMove
};

class FaultFs : public Fs {
 public:
  explicit FaultFs(Fs& inner) : inner_(inner) {}

  std::function<int(const FsCall&)> before = [](const FsCall&) { return 0; };

  int OpenDir(int dir, const std::string& path) override {
    return Guard({}, [&] { return inner_.OpenDir(dir, path); });
  }
  int OpenFile(const At& at, Access access) override {
    FsCall call;
    if (access == Access::kCreate) call.kind = FsCall::Kind::kOther;
    return Guard(call, [&] { return inner_.OpenFile(at, access); });
  }
  void Close(int handle) override { inner_.Close(handle); }
  int Stat(int handle, FileStat* stat) override {
    return Guard({}, [&] { return inner_.Stat(handle, stat); });
  }
  int StatAt(const At& at, FileStat* stat) override {
    return Guard({}, [&] { return inner_.StatAt(at, stat); });
  }
  int List(int dir, std::vector<std::string>* names) override {
    return Guard({}, [&] { return inner_.List(dir, names); });
  }
  int64_t Read(int handle, uint64_t offset, char* bytes, uint64_t size) override {
    int rc = before({});
    return rc < 0 ? rc : inner_.Read(handle, offset, bytes, size);
  }
  int FreeBytes(int handle, uint64_t* bytes) override {
    return Guard({}, [&] { return inner_.FreeBytes(handle, bytes); });
  }
  int TryLock(int handle) override {
    return Guard({}, [&] { return inner_.TryLock(handle); });
  }
  int Write(int handle, uint64_t offset, std::string_view bytes) override {
    return Effect([&] { return inner_.Write(handle, offset, bytes); });
  }
  int Chmod(int handle, uint32_t mode) override {
    return Effect([&] { return inner_.Chmod(handle, mode); });
  }
  int MakeDir(const At& at, uint32_t mode) override {
    return Effect([&] { return inner_.MakeDir(at, mode); });
  }
  int RemoveDir(const At& at) override {
    return Guard({FsCall::Kind::kRemove}, [&] { return inner_.RemoveDir(at); });
  }
  int Unlink(const At& at) override {
    return Guard({FsCall::Kind::kRemove}, [&] { return inner_.Unlink(at); });
  }
  int Rename(const At& from, const At& to, Move move) override {
    FsCall call{move == Move::kExchange ? FsCall::Kind::kExchange : FsCall::Kind::kMove,
                move == Move::kNoReplace};
    return Guard(call, [&] { return inner_.Rename(from, to, move); });
  }
  int Link(const At& from, const At& to) override {
    return Guard({FsCall::Kind::kLink}, [&] { return inner_.Link(from, to); });
  }
  int Sync(int handle) override {
    return Guard({FsCall::Kind::kSync}, [&] { return DoSync() ? inner_.Sync(handle) : 0; });
  }
  int SyncAll(int handle) override {
    return Guard({FsCall::Kind::kSync}, [&] { return DoSync() ? inner_.SyncAll(handle) : 0; });
  }

  bool skip_syncs = false;  // a killed process needs none

 private:
  bool DoSync() const { return !skip_syncs; }
  template <typename F>
  int Guard(const FsCall& call, F inner) {
    int rc = before(call);
    return rc < 0 ? rc : inner();
  }
  template <typename F>
  int Effect(F inner) {
    return Guard({FsCall::Kind::kOther}, inner);
  }

  Fs& inner_;
};

}  // namespace hermes::sync
