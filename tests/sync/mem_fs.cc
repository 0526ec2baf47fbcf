#include "tests/sync/mem_fs.h"

#include <algorithm>
#include <cerrno>
#include <random>

#include "daemon/runtime/check.h"

namespace hermes::sync {
namespace {

constexpr uint64_t kRootIno = 1;

}  // namespace

MemFs::MemFs() {
  now_[kRootIno] = Inode{true, 0755, "", 0, {}};
  disk_ = now_;
  handles_[kRootHandle] = kRootIno;
}

int MemFs::Move_(World& world, const Op& op) {
  auto& from = world[op.dir].names;
  auto& to = world[op.to_dir].names;
  auto source = from.find(op.name);
  auto target = to.find(op.to_name);
  if (source == from.end()) return -ENOENT;
  if (op.move == Move::kExchange) {
    if (target == to.end()) return -ENOENT;
    std::swap(source->second, target->second);
    return 0;
  }
  if (target != to.end() && op.move == Move::kNoReplace) return -EEXIST;
  uint64_t ino = source->second;
  from.erase(source);
  to[op.to_name] = ino;
  return 0;
}

int MemFs::Apply(World& world, const Op& op) {
  auto& names = world[op.dir].names;
  switch (op.kind) {
    case Op::Kind::kMake:
      if (names.contains(op.name)) return -EEXIST;
      names[op.name] = op.ino;
      world.try_emplace(op.ino, op.made);
      world[op.ino].is_dir = op.made.is_dir;
      return 0;
    case Op::Kind::kRemove: {
      auto entry = names.find(op.name);
      if (entry == names.end()) return -ENOENT;
      if (!world[entry->second].names.empty()) return -ENOTEMPTY;
      names.erase(entry);
      return 0;
    }
    case Op::Kind::kRename:
      return Move_(world, op);
    case Op::Kind::kLink: {
      auto source = names.find(op.name);
      if (source == names.end()) return -ENOENT;
      return world[op.to_dir].names.emplace(op.to_name, source->second).second ? 0 : -EEXIST;
    }
    case Op::Kind::kWrite: {
      Inode& inode = world[op.ino];
      inode.data.resize(std::max<size_t>(inode.data.size(), op.offset + op.bytes.size()));
      inode.data.replace(op.offset, op.bytes.size(), op.bytes);
      inode.mtime_ns = op.time_ns;
      return 0;
    }
    case Op::Kind::kChmod:
      world[op.ino].mode = op.mode;
      return 0;
  }
  return -EINVAL;
}

int MemFs::Do(Op op) {
  bool data = op.kind == Op::Kind::kWrite || op.kind == Op::Kind::kChmod;
  bool two = op.kind == Op::Kind::kRename || op.kind == Op::Kind::kLink;
  if ((data ? op.ino : op.dir) == 0 || (two && op.to_dir == 0)) return -EBADF;
  op.time_ns = ++time_ns_;
  int rc = Apply(now_, op);
  if (rc == 0) pending_.push_back(std::move(op));
  return rc;
}

void MemFs::Reach(uint64_t ino, World* reached) {
  if (!reached->emplace(ino, disk_[ino]).second) return;
  for (const auto& [name, entry] : disk_[ino].names) Reach(entry, reached);
}

void MemFs::LosePower(uint64_t seed) {
  std::mt19937_64 random(seed);
  for (Op& op : pending_) {
    if (random() % 2 == 0) continue;
    if (op.kind == Op::Kind::kWrite && random() % 2 == 0) {
      op.bytes.resize(random() % (op.bytes.size() + 1));
    }
    Apply(disk_, op);
  }
  pending_.clear();
  World reached;  // as a check of the file system would leave it
  Reach(kRootIno, &reached);
  disk_ = std::move(reached);
  now_ = disk_;
  handles_ = {{kRootHandle, kRootIno}};
}

uint64_t MemFs::InoOf(int handle) const {
  auto found = handles_.find(handle);
  return found == handles_.end() ? 0 : found->second;
}

uint64_t MemFs::Find(const At& at) const {
  auto dir = now_.find(InoOf(at.dir));
  if (dir == now_.end()) return 0;
  auto name = dir->second.names.find(at.leaf);
  return name == dir->second.names.end() ? 0 : name->second;
}

int MemFs::Open(uint64_t ino) {
  handles_[next_handle_] = ino;
  return next_handle_++;
}

int MemFs::OpenDir(int dir, const std::string& path) {
  uint64_t ino = InoOf(dir);
  if (ino == 0) return -EBADF;
  for (size_t begin = 0; begin < path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    const Inode& inode = now_.at(ino);
    auto next = inode.names.find(path.substr(begin, end - begin));
    if (next == inode.names.end()) return -ENOENT;
    ino = next->second;
    if (!now_.at(ino).is_dir) return -ENOTDIR;
    begin = end + 1;
  }
  return Open(ino);
}

int MemFs::OpenFile(const At& at, Access access) {
  uint64_t ino = Find(at);
  if (access == Access::kCreate) {
    if (ino != 0) return -EEXIST;
    ino = next_ino_++;
    Op op{Op::Kind::kMake, InoOf(at.dir), at.leaf};
    op.ino = ino;
    op.made.mode = 0600;
    if (int rc = Do(std::move(op)); rc < 0) return rc;
  }
  return ino == 0 ? -ENOENT : Open(ino);
}

void MemFs::Describe(uint64_t ino, FileStat* stat) const {
  const Inode& inode = now_.at(ino);
  *stat = {};
  stat->type = inode.is_dir ? FileStat::Type::kDirectory : FileStat::Type::kFile;
  stat->mode = inode.mode;
  stat->dev = 1;
  stat->ino = ino;
  stat->size = inode.data.size();
  stat->mtime_ns = inode.mtime_ns;
  stat->ours = true;
  for (const auto& [number, dir] : now_) {
    for (const auto& [name, entry] : dir.names) stat->links += entry == ino ? 1 : 0;
  }
}

int MemFs::Stat(int handle, FileStat* stat) {
  uint64_t ino = InoOf(handle);
  if (ino == 0) return -EBADF;
  Describe(ino, stat);
  return 0;
}

int MemFs::StatAt(const At& at, FileStat* stat) {
  uint64_t ino = Find(at);
  if (ino == 0) return -ENOENT;
  Describe(ino, stat);
  return 0;
}

int MemFs::List(int dir, std::vector<std::string>* names) {
  names->clear();
  for (const auto& [name, ino] : now_.at(InoOf(dir)).names) names->push_back(name);
  return 0;
}

int64_t MemFs::Read(int handle, uint64_t offset, char* bytes, uint64_t size) {
  const std::string& data = now_.at(InoOf(handle)).data;
  if (offset >= data.size()) return 0;
  size = std::min<uint64_t>(size, data.size() - offset);
  std::copy_n(data.data() + offset, size, bytes);
  return static_cast<int64_t>(size);
}

int MemFs::FreeBytes(int handle, uint64_t* bytes) {
  *bytes = UINT64_MAX;
  return 0;
}

int MemFs::Write(int handle, uint64_t offset, std::string_view bytes) {
  Op op{Op::Kind::kWrite};
  op.ino = InoOf(handle);
  op.offset = offset;
  op.bytes = bytes;
  return Do(std::move(op));
}

int MemFs::Chmod(int handle, uint32_t mode) {
  Op op{Op::Kind::kChmod};
  op.ino = InoOf(handle);
  op.mode = mode;
  return Do(std::move(op));
}

int MemFs::MakeDir(const At& at, uint32_t mode) {
  Op op{Op::Kind::kMake, InoOf(at.dir), at.leaf};
  op.ino = next_ino_++;
  op.made.is_dir = true;
  op.made.mode = mode;
  return Do(std::move(op));
}

int MemFs::RemoveDir(const At& at) {
  uint64_t ino = Find(at);
  if (ino == 0) return -ENOENT;
  if (!now_.at(ino).is_dir) return -ENOTDIR;
  if (!now_.at(ino).names.empty()) return -ENOTEMPTY;
  return Do({Op::Kind::kRemove, InoOf(at.dir), at.leaf});
}

int MemFs::Unlink(const At& at) {
  uint64_t ino = Find(at);
  if (ino != 0 && now_.at(ino).is_dir) return -EISDIR;
  return Do({Op::Kind::kRemove, InoOf(at.dir), at.leaf});
}

int MemFs::Rename(const At& from, const At& to, Move move) {
  Op op{Op::Kind::kRename, InoOf(from.dir), from.leaf, InoOf(to.dir), to.leaf};
  op.move = move;
  return Do(std::move(op));
}

int MemFs::Link(const At& from, const At& to) {
  return Do({Op::Kind::kLink, InoOf(from.dir), from.leaf, InoOf(to.dir), to.leaf});
}

bool MemFs::Concerns(const Op& op, uint64_t ino) const {
  if (op.kind == Op::Kind::kWrite || op.kind == Op::Kind::kChmod) return op.ino == ino;
  return now_.at(ino).is_dir && (op.dir == ino || op.to_dir == ino);
}

// A call that stands on earlier ones, say of a name that had to go first, takes those along: no
// file system can keep it without them.
int MemFs::Sync(int handle) {
  uint64_t ino = InoOf(handle);
  if (ino == 0) return -EBADF;
  std::vector<Op> waiting;
  for (Op& op : pending_) {
    if (!Concerns(op, ino)) {
      waiting.push_back(std::move(op));
      continue;
    }
    if (Apply(disk_, op) == 0) continue;
    for (const Op& earlier : waiting) Apply(disk_, earlier);
    waiting.clear();
    Apply(disk_, op);
  }
  pending_ = std::move(waiting);
  return 0;
}

int MemFs::SyncAll(int handle) {
  for (const Op& op : pending_) Apply(disk_, op);
  pending_.clear();
  return 0;
}

}  // namespace hermes::sync
