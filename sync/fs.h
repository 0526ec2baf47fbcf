#pragma once

// Fs: everything that landing asks of a file system, so that tests can stop, fail, race or lose
// power between any two calls. Names are a held directory plus one leaf; nothing here ever follows
// a link, waits for a fifo or leaves the directory it was given. Calls return 0 (or a handle, or a
// count) and, on failure, a negative errno. Blocking; worker threads. One object may serve several
// threads if its implementation says so.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hermes::sync {

struct FileStat {
  enum class Type { kFile, kDirectory, kOther };  // a link is kOther
  Type type = Type::kOther;
  uint32_t mode = 0;  // 07777
  uint64_t links = 0;
  uint64_t dev = 0;
  uint64_t ino = 0;  // 0: of no file
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  bool ours = false;  // belongs to the account that asks

  bool SameFile(const FileStat& other) const {
    return ino != 0 && dev == other.dev && ino == other.ino;
  }
  // False: somebody wrote to it since. A rename does not count as a write.
  bool SameBytes(const FileStat& other) const {
    return SameFile(other) && size == other.size && mtime_ns == other.mtime_ns;
  }
};

class Fs {
 public:
  struct At {
    int dir = -1;
    std::string leaf;
  };
  enum class Access { kRead, kCreate, kUpdate };  // kCreate: must be new, 0600
  enum class Move { kReplace, kNoReplace, kExchange };

  virtual ~Fs() = default;

  // A directory below a held one, "" for itself. -ELOOP or -ENOTDIR: a part of the path is a link
  // or no directory; -EXDEV: another file system lies in the way.
  virtual int OpenDir(int dir, const std::string& path) = 0;
  // -ELOOP: it is a link. Whoever reads checks Stat() for a regular file first.
  virtual int OpenFile(const At& at, Access access) = 0;
  virtual void Close(int handle) = 0;
  virtual int Stat(int handle, FileStat* stat) = 0;
  virtual int StatAt(const At& at, FileStat* stat) = 0;
  virtual int List(int dir, std::vector<std::string>* names) = 0;  // without "." and ".."
  virtual int64_t Read(int handle, uint64_t offset, char* bytes, uint64_t size) = 0;
  virtual int FreeBytes(int handle, uint64_t* bytes) = 0;  // UINT64_MAX: it does not say
  // Takes an advisory lock on this handle, or -EWOULDBLOCK. Ends with the handle.
  virtual int TryLock(int handle) = 0;

  // The outside effects.
  virtual int Write(int handle, uint64_t offset, std::string_view bytes) = 0;  // all of it
  virtual int Chmod(int handle, uint32_t mode) = 0;
  virtual int MakeDir(const At& at, uint32_t mode) = 0;  // the umask takes bits away
  virtual int RemoveDir(const At& at) = 0;
  virtual int Unlink(const At& at) = 0;
  // -EINVAL: this file system does not know the kind of move.
  virtual int Rename(const At& from, const At& to, Move move) = 0;
  virtual int Link(const At& from, const At& to) = 0;
  virtual int Sync(int handle) = 0;     // this file, or the names of this directory
  virtual int SyncAll(int handle) = 0;  // the file system it lies on
};

// The one owner of a handle. Move-only; the Fs outlives it.
class Handle {
 public:
  Handle() = default;
  Handle(Fs& fs, int handle) : fs_(&fs), handle_(handle) {}  // a negative one owns nothing
  ~Handle() { Reset(); }
  Handle(Handle&& other) noexcept : fs_(other.fs_), handle_(std::exchange(other.handle_, -1)) {}
  Handle& operator=(Handle&& other) noexcept {
    Reset();
    fs_ = other.fs_;
    handle_ = std::exchange(other.handle_, -1);
    return *this;
  }

  int get() const { return handle_; }
  bool valid() const { return handle_ >= 0; }
  void Reset() {
    if (valid()) fs_->Close(handle_);
    handle_ = -1;
  }

 private:
  Fs* fs_ = nullptr;
  int handle_ = -1;  // or the negative errno of the call that should have made it
};

}  // namespace hermes::sync
