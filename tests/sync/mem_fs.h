#pragma once

// MemFs: a file system in memory that can lose power. What was not synced is then kept or dropped
// call by call, by the seed: a write may be kept without the rename that followed it, a rename
// without the write before it. One thread.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sync/fs.h"

namespace hermes::sync {

class MemFs : public Fs {
 public:
  MemFs();

  int root() const { return kRootHandle; }
  // All handles die but the root's.
  void LosePower(uint64_t seed);

  int OpenDir(int dir, const std::string& path) override;
  int OpenFile(const At& at, Access access) override;
  void Close(int handle) override { handles_.erase(handle); }
  int Stat(int handle, FileStat* stat) override;
  int StatAt(const At& at, FileStat* stat) override;
  int List(int dir, std::vector<std::string>* names) override;
  int64_t Read(int handle, uint64_t offset, char* bytes, uint64_t size) override;
  int FreeBytes(int handle, uint64_t* bytes) override;
  int TryLock(int handle) override { return 0; }
  int Write(int handle, uint64_t offset, std::string_view bytes) override;
  int Chmod(int handle, uint32_t mode) override;
  int MakeDir(const At& at, uint32_t mode) override;
  int RemoveDir(const At& at) override;
  int Unlink(const At& at) override;
  int Rename(const At& from, const At& to, Move move) override;
  int Link(const At& from, const At& to) override;
  int Sync(int handle) override;
  int SyncAll(int handle) override;

 private:
  static constexpr int kRootHandle = 1000;

  struct Inode {
    bool is_dir = false;
    uint32_t mode = 0;
    std::string data;
    int64_t mtime_ns = 0;
    std::map<std::string, uint64_t> names;
  };
  using World = std::map<uint64_t, Inode>;
  struct Op {
    enum class Kind { kMake, kRemove, kRename, kLink, kWrite, kChmod };
    Kind kind;
    uint64_t dir = 0;
    std::string name = {};
    uint64_t to_dir = 0;
    std::string to_name = {};
    uint64_t ino = 0;
    Inode made = {};
    uint64_t offset = 0;
    std::string bytes = {};
    uint32_t mode = 0;
    Move move = Move::kReplace;
    int64_t time_ns = 0;
  };

  static int Apply(World& world, const Op& op);
  static int Move_(World& world, const Op& op);
  int Do(Op op);
  void Reach(uint64_t ino, World* reached);
  bool Concerns(const Op& op, uint64_t ino) const;
  int Open(uint64_t ino);
  uint64_t InoOf(int handle) const;
  uint64_t Find(const At& at) const;
  void Describe(uint64_t ino, FileStat* stat) const;

  World now_;
  World disk_;
  std::vector<Op> pending_;
  std::map<int, uint64_t> handles_;
  int next_handle_ = kRootHandle + 1;
  uint64_t next_ino_ = 2;
  int64_t time_ns_ = 1;
};

}  // namespace hermes::sync
