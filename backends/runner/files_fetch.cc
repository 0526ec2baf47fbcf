#include "backends/runner/files_fetch.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

namespace hermes::runner {
namespace {

constexpr size_t kBlock = 512;
constexpr size_t kNameBytes = 100;                 // of a header's own field
constexpr uint64_t kMostBytes = (1ULL << 33) - 1;  // eleven octal digits; a bigger file is left out

struct Header {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100],
      magic[8], owner[32], group[32], major[8], minor[8], prefix[155], filler[12];
};
static_assert(sizeof(Header) == kBlock);

// Octal with leading zeros and a NUL behind.
void Octal(char* field, size_t bytes, uint64_t value) {
  for (size_t at = bytes - 1; at-- > 0; value >>= 3) field[at] = static_cast<char>('0' + value % 8);
}

void PutHeader(std::string_view name, char type, uint64_t size, const struct stat& facts,
               FilesAnswer& answer) {
  Header header = {};
  memcpy(header.name, name.data(), std::min(name.size(), kNameBytes));
  Octal(header.mode, sizeof header.mode, (facts.st_mode & S_IXUSR) != 0 ? 0755 : 0644);
  Octal(header.uid, sizeof header.uid, 0);
  Octal(header.gid, sizeof header.gid, 0);
  Octal(header.size, sizeof header.size, size);
  Octal(
      header.mtime, sizeof header.mtime,
      std::min<uint64_t>(static_cast<uint64_t>(std::max<int64_t>(facts.st_mtime, 0)), kMostBytes));
  header.type = type;
  memcpy(header.magic, "ustar  ", sizeof header.magic);  // as GNU tar marks its own
  memset(header.checksum, ' ', sizeof header.checksum);
  uint64_t sum = 0;
  const char* bytes = reinterpret_cast<const char*>(&header);
  for (size_t i = 0; i < kBlock; ++i) sum += static_cast<uint8_t>(bytes[i]);
  Octal(header.checksum, sizeof header.checksum - 1, sum);
  answer.Put(std::string_view(bytes, kBlock));
}

void Fill(uint64_t bytes, FilesAnswer& answer) {
  for (std::string zeros(kBlock, '\0'); bytes != 0;) {
    size_t piece = std::min<uint64_t>(bytes, kBlock);
    answer.Put(std::string_view(zeros).substr(0, piece));
    bytes -= piece;
  }
}

void PutFile(int fd, uint64_t size, FilesAnswer& answer) {
  std::string piece(std::min<uint64_t>(kPieceBytes, size), '\0');
  uint64_t left = size;
  while (left != 0) {
    ssize_t n = read(fd, piece.data(), std::min<uint64_t>(piece.size(), left));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    answer.Put(std::string_view(piece).substr(0, static_cast<size_t>(n)));
    left -= static_cast<uint64_t>(n);
  }
  Fill(left + (kBlock - size % kBlock) % kBlock, answer);
}

}  // namespace

void AnswerFetch(FilesTree& tree, const Scope& scope, const std::vector<std::string>& names,
                 FilesAnswer& answer) {
  for (const std::string& name : names) {
    struct stat facts;
    Fd file = tree.OpenFile(name, &facts);
    if (!file.valid() || scope.ignore.Ignores(name)) continue;
    uint64_t size = static_cast<uint64_t>(facts.st_size);
    if (size > std::min(scope.max_file_bytes, kMostBytes)) continue;
    if (name.size() > kNameBytes) {
      std::string text = name + std::string(1, '\0');
      PutHeader("././@LongLink", 'L', text.size(), facts, answer);
      answer.Put(text);
      Fill((kBlock - text.size() % kBlock) % kBlock, answer);
    }
    PutHeader(name, '0', size, facts, answer);
    PutFile(file.get(), size, answer);
  }
  Fill(2 * kBlock, answer);
}

}  // namespace hermes::runner
