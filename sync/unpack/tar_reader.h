#pragma once

// TarReader: a strict reader of the tar forms that GNU tar, busybox, toybox, bsdtar and Python
// write (ustar, GNU long names, pax), fed as the bytes come. It believes nothing: what general
// readers pass over in silence (no end marker, a second archive, two names or sizes, NUL bytes in
// names, payload on links) ends the reading. It keeps at most one header and its extended headers
// in memory. It opens nothing and knows no wanted list: the Handler decides. Pure.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sync/unpack/wire.h"

namespace hermes::sync::unpack {

inline constexpr size_t kBlockBytes = 512;
inline constexpr size_t kMaxMetaBytes = 64 << 10;  // one extended header; beyond: kMetaTooBig
inline constexpr size_t kMaxTailBytes = 1 << 20;   // zeros behind the end; beyond: kTrailing
inline constexpr size_t kMaxMetaPerMember = 4;     // beyond, on average: kTooMany

struct Member {
  enum class Kind : uint8_t {
    kRegular,
    kHardLink,
    kSymlink,
    kDevice,
    kDirectory,
    kFifo,
    kSparse,
    kUnknown
  };
  Kind kind = Kind::kRegular;
  std::string name;         // as it counts
  std::string header_name;  // what the plain header alone says; differs where that is too short
  std::string link;         // target of a link
  uint64_t size = 0;        // of the body that follows
  bool executable = false;
  bool special_bits = false;  // setuid, setgid or sticky
};

class TarReader {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    // A header was read; its body of `size` bytes follows through OnBody. False: read no further.
    virtual bool OnMember(const Member& member) = 0;
    virtual void OnBody(std::string_view bytes) = 0;
    // Final. `name` is the member's, as far as it is known.
    virtual void OnLie(LieKind what, std::string_view name) = 0;
  };

  // `handler` outlives this.
  TarReader(Handler& handler, uint64_t max_total_bytes, uint32_t max_members);

  // False: the reading is over, more bytes make no difference.
  bool Feed(std::string_view bytes);
  // After the last byte. Says nothing new where OnLie was called or OnMember returned false.
  End::How Finish() const;

 private:
  enum class State : uint8_t {
    kHeader,
    kMeta,       // body of an extended header
    kSparseMap,  // further blocks of an old GNU sparse header
    kBody,
    kPadding,
    kEndMark,  // one zero block was seen, a second one must follow
    kTail,
    kNotArchive,
    kStopped,
  };
  // What the extended headers before a header say of it.
  struct Meta {
    std::optional<std::string> name;
    std::optional<std::string> link;
    std::optional<std::string> sparse_name;
    std::optional<uint64_t> size;
    bool sparse = false;
    bool pax = false;  // there was one
  };

  // Each takes what it can from the front of `bytes` and says how much that was.
  size_t Consume(std::string_view bytes);
  size_t ConsumeBlock(std::string_view bytes);
  size_t ConsumeMeta(std::string_view bytes);
  size_t ConsumeBody(std::string_view bytes);
  size_t ConsumePadding(std::string_view bytes);
  size_t ConsumeTail(std::string_view bytes);

  void TakeHeader();
  void TakeMeta();
  void TakeSparseMap();
  void TakePax(bool global);
  void TakePaxRecord(bool global, std::string_view key, std::string_view value);
  void TakeLongText(std::optional<std::string>* text);
  void BeginMeta(char type, uint64_t size);
  void BeginMember(char type, uint64_t size);
  void EndBody();
  bool Charge(uint64_t bytes);
  void Lied(LieKind what, std::string_view name = {});
  Member DescribeMember(char type, uint64_t size);

  Handler& handler_;
  const uint64_t max_total_;
  const uint32_t max_members_;
  State state_ = State::kHeader;
  std::string block_;      // being filled up to kBlockBytes
  std::string meta_text_;  // being filled up to the extended header's size
  char meta_type_ = 0;
  Meta meta_;
  uint64_t left_ = 0;     // of the extended header, body or padding
  uint64_t padding_ = 0;  // behind them
  bool any_header_ = false;
  uint64_t total_ = 0;
  uint64_t members_ = 0;
  uint64_t metas_ = 0;
  uint64_t tail_ = 0;
};

}  // namespace hermes::sync::unpack
