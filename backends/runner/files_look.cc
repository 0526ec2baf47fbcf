// What a tree holds, and the answer to a look.

#include "backends/runner/files_look.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "backends/runner/sha256.h"

namespace hermes::runner {
namespace {

constexpr std::string_view kSeparator = "-\n";
constexpr size_t kHexDigest = 64;

class Walk {
 public:
  Walk(FilesTree& tree, const Scope& scope, Listing* listing)
      : tree_(tree), scope_(scope), listing_(*listing) {}

  bool Run() {
    struct stat facts;
    if (fstat(tree_.root(), &facts) != 0) return false;
    device_ = facts.st_dev;
    if (scope_.only.empty()) return List(Fd(openat(tree_.root(), ".", kFlags)));
    path_ = scope_.only;
    int above = tree_.Above(path_);
    if (above < 0) return errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
    Entry(above, Leaf(path_).c_str(), DT_UNKNOWN);
    return true;
  }

 private:
  static constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

  bool full() const { return listing_.files.size() + listing_.odd.size() > kMostNames; }
  void Odd(char letter) { listing_.odd[letter + path_]; }

  // False: not all of it could be read.
  bool List(Fd directory) {
    DIR* names = directory.valid() ? fdopendir(directory.get()) : nullptr;
    if (names == nullptr) return false;
    int fd = directory.Release();
    size_t length = path_.size();
    errno = 0;
    while (dirent* entry = full() ? nullptr : readdir(names)) {
      std::string_view name = entry->d_name;
      if (name != "." && name != "..") {
        if (length != 0) path_ += '/';
        path_ += name;
        Entry(fd, entry->d_name, entry->d_type);
        path_.resize(length);
      }
      errno = 0;
    }
    bool complete = errno == 0 && !full();
    closedir(names);
    return complete;
  }

  // path_, which is `name` in `directory`.
  void Entry(int directory, const char* name, int type) {
    if (scope_.ignore.Ignores(path_)) return;
    if (type != DT_REG && type != DT_DIR) {
      struct stat facts;
      if (fstatat(directory, name, &facts, AT_SYMLINK_NOFOLLOW) != 0) return Unread();
      type = IFTODT(facts.st_mode);
    }
    if (!sync::HasPlainName(path_) || sync::CheckPath(path_) != sync::PathFault::kNone)
      return Odd('n');
    if (type == DT_LNK) return Odd('l');
    if (type == DT_REG) return File(directory, name);
    if (type != DT_DIR || !scope_.only.empty()) return Odd('s');
    Fd below(openat(directory, name, kFlags));
    struct stat facts;
    if (!below.valid() || fstat(below.get(), &facts) != 0) return Unread();
    if (facts.st_dev != device_) return Odd('x');
    if (!List(std::move(below))) Odd('u');
  }

  void File(int directory, const char* name) {
    Fd file(openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
    struct stat facts;
    if (!file.valid() || fstat(file.get(), &facts) != 0) return Unread();
    if (!S_ISREG(facts.st_mode)) return Odd('s');
    uint64_t bytes = static_cast<uint64_t>(facts.st_size);
    if (bytes > scope_.max_file_bytes) return Odd('b');
    auto digest = HashFile(file.get(), &bytes);
    if (!digest) return Odd('u');
    bool executable = (facts.st_mode & S_IXUSR) != 0;
    listing_.files[(executable ? '0' : '1') + path_] = Hex(*digest) + Decimal(bytes);
  }

  void Unread() {
    if (errno != ENOENT) Odd(errno == ELOOP ? 'l' : 'u');  // else it has gone meanwhile
  }

  FilesTree& tree_;
  const Scope& scope_;
  Listing& listing_;
  dev_t device_ = 0;
  std::string path_;
};

// The canonical text, into `hash` or else into `answer`; its size.
size_t CanonicalText(const Listing& listing, Sha256* hash, FilesAnswer& answer) {
  size_t bytes = 0;
  auto put = [&](std::string_view text) {
    bytes += text.size();
    hash != nullptr ? hash->Update(text) : (void)answer.Put(text);
  };
  bool executables = true;
  for (const auto& [key, value] : listing.files) {
    if (executables && key[0] != '0') put(kSeparator);
    executables = executables && key[0] == '0';
    put(std::string_view(value).substr(0, kHexDigest));
    put("  ");
    put(std::string_view(key).substr(1));
    put("\n");
  }
  if (executables) put(kSeparator);
  return bytes;
}

}  // namespace

bool ListTree(FilesTree& tree, const Scope& scope, Listing* listing) {
  return Walk(tree, scope, listing).Run();
}

void AnswerLook(const Listing& listing, std::string_view expected, FilesAnswer& answer) {
  Sha256 hash;
  size_t bytes = CanonicalText(listing, &hash, answer);
  std::string digest = Hex(hash.Finish());
  if (digest != expected) {
    answer.Put("d ").Put(digest).Put("\n");
    answer.Put("m ").Put(bytes).Put("\n");
    CanonicalText(listing, nullptr, answer);
    bytes = 0;
    for (const auto& [key, value] : listing.files) bytes += value.size() + 1 - kHexDigest;
    answer.Put("s ").Put(bytes).Put("\n");
    for (const auto& [key, value] : listing.files)
      answer.Put(std::string_view(value).substr(kHexDigest)).Put("\n");
  }
  std::string_view end("\0\0", 2);
  char letter = 0;
  for (const auto& [key, value] : listing.odd) {
    if (letter != 0) answer.Put(end.substr(0, key[0] == letter ? 1 : 2));
    std::string_view rest = key;
    if (key[0] != letter) answer.Put("o ").Put(rest.substr(0, 1)).Put("\n");
    letter = key[0];
    answer.Put(rest.substr(1));
  }
  if (letter != 0) answer.Put(end);
}

}  // namespace hermes::runner
