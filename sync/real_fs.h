#pragma once

// RealFs: the file system of this machine. Handles are its descriptors. Thread-safe, without state.

#include "sync/fs.h"

namespace hermes::sync {

class RealFs : public Fs {
 public:
  int OpenDir(int dir, const std::string& path) override;
  int OpenFile(const At& at, Access access) override;
  void Close(int handle) override;
  int Stat(int handle, FileStat* stat) override;
  int StatAt(const At& at, FileStat* stat) override;
  int List(int dir, std::vector<std::string>* names) override;
  int64_t Read(int handle, uint64_t offset, char* bytes, uint64_t size) override;
  int FreeBytes(int handle, uint64_t* bytes) override;
  int TryLock(int handle) override;
  int Write(int handle, uint64_t offset, std::string_view bytes) override;
  int Chmod(int handle, uint32_t mode) override;
  int MakeDir(const At& at, uint32_t mode) override;
  int RemoveDir(const At& at) override;
  int Unlink(const At& at) override;
  int Rename(const At& from, const At& to, Move move) override;
  int Link(const At& from, const At& to) override;
  int Sync(int handle) override;
  int SyncAll(int handle) override;
};

// What OpenDir does on a kernel without openat2: part by part, never through a link, never onto
// another device. It can't see a mount of the same file system.
int OpenDirByWalking(int dir, const std::string& path);

}  // namespace hermes::sync
