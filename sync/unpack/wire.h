#pragma once

// What hermesd and hermes-unpack say to each other. hermesd writes one Request and then the raw
// stream into the program's stdin; the program answers with records on its stdout: a Hello first,
// then per accepted file a File and its Data, Odd and Lie in between, one End last. The program
// reads what a hostile place sent, so whoever reads its records takes them as hostile, too: see
// sync/record_checker.h. Little-endian, length first. Pure.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace hermes::sync::unpack {

inline constexpr size_t kMaxDataBytes = 64 << 10;    // of one Data record
inline constexpr size_t kMaxNameBytes = 4096;        // of a name in a record; a longer one is cut
inline constexpr size_t kMaxRequestBytes = 1 << 28;  // beyond: the program refuses to start
inline constexpr uint32_t kNoIndex = UINT32_MAX;

struct Wanted {
  std::string name;        // the member's exact bytes
  uint64_t max_bytes = 0;  // a longer file is skipped
};

struct Request {
  uint64_t max_total_bytes = 0;  // of all bodies and extended headers together
  uint32_t max_members = 0;
  bool salvage = false;  // go on after a lie about one member
  std::vector<Wanted> wanted;
};

// What an honest tree may hold and cannot be landed: that member is skipped, the rest counts.
#define HERMES_ODDITIES(X)                                     \
  X(kDirectory, "a directory")                                 \
  X(kBelowDirectory, "it lies in what has become a directory") \
  X(kSymlink, "a symbolic link")                               \
  X(kHardLink, "a hard link to no file of this transfer")      \
  X(kDevice, "a device")                                       \
  X(kFifo, "a fifo")                                           \
  X(kSparse, "a sparse file")                                  \
  X(kUnknownType, "of an unknown type")                        \
  X(kTooBig, "bigger than allowed")                            \
  X(kSpecialBits, "its setuid, setgid or sticky bit is dropped")

// What no honest place sends.
#define HERMES_LIES(X)                                               \
  X(kBrokenHeader, "a damaged header in the middle of the stream")   \
  X(kBadNumber, "a number that is none, negative or beyond 64 bits") \
  X(kTwoSizes, "two different sizes for one member")                 \
  X(kTwoNames, "two names for one member")                           \
  X(kHiddenName, "a NUL byte inside a name")                         \
  X(kBadMeta, "a malformed extended header")                         \
  X(kMetaTooBig, "an extended header beyond its limit")              \
  X(kTooMany, "more members than allowed")                           \
  X(kTooMuch, "more bytes than allowed")                             \
  X(kTrailing, "something behind the end of the archive")            \
  X(kPayload, "content on something that has none")                  \
  X(kUnrequested, "a member that nobody asked for")                  \
  X(kRepeated, "a member that came before")                          \
  X(kParserBroken, "the confined parser crashed or broke its own rules")

#define HERMES_ENUMERATOR(name, text) name,
enum class Oddity : uint8_t { HERMES_ODDITIES(HERMES_ENUMERATOR) kCount };
enum class LieKind : uint8_t { HERMES_LIES(HERMES_ENUMERATOR) kCount };
#undef HERMES_ENUMERATOR

std::string_view Text(Oddity oddity);
std::string_view Text(LieKind lie);
// A limit that an honest place may reach, too, with a tree that is simply too large.
bool IsLimit(LieKind lie);

// What Confine() reached; bits of Hello::layers.
inline constexpr uint32_t kNoNewPrivileges = 1;
inline constexpr uint32_t kNotDumpable = 2;
inline constexpr uint32_t kLimits = 4;
inline constexpr uint32_t kLandlock = 8;
inline constexpr uint32_t kSeccomp = 16;

struct Hello {
  uint32_t layers = 0;
  uint32_t landlock_abi = 0;  // 0: the kernel has none
};
struct File {  // `size` bytes follow as Data
  uint32_t index = 0;
  uint64_t size = 0;
  bool executable = false;
};
struct Data {
  std::string_view bytes;  // never empty; into the parsed buffer
};
struct Copy {  // a hard link: `index` has the content of `from`, which came before
  uint32_t index = 0;
  uint32_t from = 0;
};
struct Odd {
  uint32_t index = kNoIndex;  // kNoIndex: below a wanted name
  Oddity why = Oddity::kDirectory;
  std::string name;  // any bytes
};
struct Lie {
  LieKind what = LieKind::kBrokenHeader;
  std::string name;  // any bytes; empty: not about one member
};
struct End {
  enum class How : uint8_t {
    kComplete,    // the archive's own end was seen, or a lie ended it
    kCut,         // the stream ended before the archive did
    kNotArchive,  // it does not begin as an archive: some program's words, probably
    kCount,
  };
  How how = How::kCut;
};
using Record = std::variant<Hello, File, Data, Copy, Odd, Lie, End>;

void Encode(std::string& out, const Request& request);
void Encode(std::string& out, const Record& record);

// How many bytes a request has in all, by its first kRequestPrefix bytes.
inline constexpr size_t kRequestPrefix = 4;
size_t RequestBytes(std::string_view prefix);
// The whole of it, prefix included; nullopt: malformed.
std::optional<Request> DecodeRequest(std::string_view bytes);

enum class Parse { kMore, kRecord, kBad };
// Takes one record from the front of `stream`. kRecord sets both; kBad is final.
Parse ParseRecord(std::string_view stream, Record* record, size_t* consumed);

}  // namespace hermes::sync::unpack
