#include "sync/unpack/tar_reader.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace hermes::sync::unpack {
namespace {

struct Field {
  size_t offset;
  size_t size;
};
constexpr Field kName{0, 100};
constexpr Field kMode{100, 8};
constexpr Field kSize{124, 12};
constexpr Field kChecksum{148, 8};
constexpr Field kLink{157, 100};
constexpr Field kMagic{257, 8};
constexpr Field kPrefix{345, 155};
constexpr size_t kTypeOffset = 156;
// The old GNU sparse map: entries of two numbers, behind them the flag that another block follows.
struct MapPlace {
  size_t offset;
  size_t entries;
  size_t flag() const { return offset + entries * kMapEntry; }
  static constexpr size_t kMapNumber = 12;
  static constexpr size_t kMapEntry = 2 * kMapNumber;
};
constexpr MapPlace kMapInHeader{386, 4};
constexpr MapPlace kMapInBlock{0, 21};
constexpr std::string_view kPosixMagic("ustar\00000", 8);
constexpr std::string_view kGnuMagic("ustar  \0", 8);
constexpr uint64_t kOwnerExecutes = 0100;
constexpr uint64_t kSpecialBits = 07000;

std::string_view Bytes(std::string_view block, Field field) {
  return block.substr(field.offset, field.size);
}

std::string_view TextOf(std::string_view bytes) { return bytes.substr(0, bytes.find('\0')); }

bool AllZero(std::string_view bytes) { return bytes.find_first_not_of('\0') == bytes.npos; }

// Base-256: the first bit set, the rest a big-endian number. Negative ones are no sizes.
std::optional<uint64_t> ParseBinary(std::string_view field) {
  if ((field[0] & 0x40) != 0) return std::nullopt;
  uint64_t value = static_cast<uint64_t>(field[0] & 0x3f);
  for (char c : field.substr(1)) {
    if (value > (std::numeric_limits<int64_t>::max() >> 8)) return std::nullopt;
    value = value << 8 | static_cast<uint8_t>(c);
  }
  return value;
}

// Octal digits between blanks; an empty field is 0, as busybox writes it.
std::optional<uint64_t> ParseNumber(std::string_view field) {
  if ((field[0] & 0x80) != 0) return ParseBinary(field);
  size_t at = field.find_first_not_of(' ');
  uint64_t value = 0;
  for (; at < field.size() && field[at] >= '0' && field[at] <= '7'; ++at) {
    value = value << 3 | static_cast<uint64_t>(field[at] - '0');
  }
  for (; at < field.size(); ++at) {
    if (field[at] != ' ' && field[at] != '\0') return std::nullopt;
  }
  return value;
}

std::optional<uint64_t> ParseDecimal(std::string_view text) {
  if (text.empty() || text.size() > 18) return std::nullopt;
  uint64_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return value;
}

bool IsHeader(std::string_view block) {
  std::string_view magic = Bytes(block, kMagic);
  if (magic != kPosixMagic && magic != kGnuMagic) return false;
  uint64_t sum = 0;
  for (size_t i = 0; i < block.size(); ++i) {
    const bool blank = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.size;
    sum += blank ? ' ' : static_cast<uint8_t>(block[i]);
  }
  return ParseNumber(Bytes(block, kChecksum)) == sum;
}

std::string HeaderName(std::string_view block) {
  std::string name(TextOf(Bytes(block, kName)));
  std::string_view prefix = TextOf(Bytes(block, kPrefix));
  // GNU keeps other things where POSIX has the prefix.
  if (Bytes(block, kMagic) != kPosixMagic || prefix.empty()) return name;
  return std::string(prefix) + "/" + name;
}

Member::Kind KindOf(char type) {
  using Kind = Member::Kind;
  switch (type) {
    case '\0':
    case '0':
    case '7':
      return Kind::kRegular;
    case '1':
      return Kind::kHardLink;
    case '2':
      return Kind::kSymlink;
    case '3':
    case '4':
      return Kind::kDevice;
    case '5':
      return Kind::kDirectory;
    case '6':
      return Kind::kFifo;
    case 'S':
      return Kind::kSparse;
    default:
      return Kind::kUnknown;
  }
}

bool HasContent(Member::Kind kind) {
  return kind == Member::Kind::kRegular || kind == Member::Kind::kSparse ||
         kind == Member::Kind::kUnknown;
}

// Some readers look for further blocks behind an empty entry, some do not.
bool MapIsAmbiguous(std::string_view block, MapPlace map) {
  if (block[map.flag()] == '\0') return false;
  for (size_t at = map.offset; at < map.flag(); at += MapPlace::kMapNumber) {
    if (block[at] == '\0') return true;
  }
  return false;
}

uint64_t PaddingOf(uint64_t size) { return (kBlockBytes - size % kBlockBytes) % kBlockBytes; }

}  // namespace

TarReader::TarReader(Handler& handler, uint64_t max_total_bytes, uint32_t max_members)
    : handler_(handler), max_total_(max_total_bytes), max_members_(max_members) {}

bool TarReader::Feed(std::string_view bytes) {
  while (!bytes.empty() && state_ < State::kNotArchive) bytes.remove_prefix(Consume(bytes));
  return state_ < State::kNotArchive;
}

End::How TarReader::Finish() const {
  if (state_ == State::kTail || state_ == State::kStopped) return End::How::kComplete;
  const bool words = state_ == State::kHeader && !any_header_ && !block_.empty();
  return words || state_ == State::kNotArchive ? End::How::kNotArchive : End::How::kCut;
}

size_t TarReader::Consume(std::string_view bytes) {
  switch (state_) {
    case State::kMeta:
      return ConsumeMeta(bytes);
    case State::kBody:
      return ConsumeBody(bytes);
    case State::kPadding:
      return ConsumePadding(bytes);
    case State::kTail:
      return ConsumeTail(bytes);
    default:
      return ConsumeBlock(bytes);
  }
}

size_t TarReader::ConsumeBlock(std::string_view bytes) {
  const size_t taken = std::min(bytes.size(), kBlockBytes - block_.size());
  block_ += bytes.substr(0, taken);
  if (block_.size() < kBlockBytes) return taken;
  if (state_ == State::kHeader) {
    TakeHeader();
  } else if (state_ == State::kSparseMap) {
    TakeSparseMap();
  } else if (AllZero(block_)) {
    state_ = State::kTail;
  } else {
    Lied(LieKind::kTrailing);
  }
  block_.clear();
  if (state_ == State::kBody && left_ == 0) EndBody();
  return taken;
}

size_t TarReader::ConsumeMeta(std::string_view bytes) {
  const size_t taken = std::min<uint64_t>(bytes.size(), left_);
  meta_text_ += bytes.substr(0, taken);
  left_ -= taken;
  if (left_ == 0) TakeMeta();
  return taken;
}

size_t TarReader::ConsumeBody(std::string_view bytes) {
  const size_t taken = std::min<uint64_t>(bytes.size(), left_);
  handler_.OnBody(bytes.substr(0, taken));
  left_ -= taken;
  if (left_ == 0) EndBody();
  return taken;
}

size_t TarReader::ConsumePadding(std::string_view bytes) {
  const size_t taken = std::min<uint64_t>(bytes.size(), padding_);
  padding_ -= taken;
  if (padding_ == 0) state_ = State::kHeader;
  return taken;
}

size_t TarReader::ConsumeTail(std::string_view bytes) {
  tail_ += bytes.size();
  if (!AllZero(bytes) || tail_ > kMaxTailBytes) Lied(LieKind::kTrailing);
  return bytes.size();
}

void TarReader::TakeHeader() {
  if (AllZero(block_)) {
    const bool dangling = meta_.pax || meta_.name || meta_.link;
    if (dangling) return Lied(LieKind::kBadMeta);
    state_ = State::kEndMark;
    return;
  }
  if (!IsHeader(block_)) {
    if (any_header_) return Lied(LieKind::kBrokenHeader);
    state_ = State::kNotArchive;
    return;
  }
  any_header_ = true;
  std::optional<uint64_t> size = ParseNumber(Bytes(block_, kSize));
  const char type = block_[kTypeOffset];
  if (!size) return Lied(LieKind::kBadNumber, HeaderName(block_));
  padding_ = PaddingOf(*size);
  left_ = *size;
  if (type == 'x' || type == 'g' || type == 'L' || type == 'K') return BeginMeta(type, *size);
  BeginMember(type, *size);
}

void TarReader::TakeSparseMap() {
  if (!Charge(kBlockBytes)) return;
  if (MapIsAmbiguous(block_, kMapInBlock)) return Lied(LieKind::kBadMeta);
  if (block_[kMapInBlock.flag()] == '\0') state_ = State::kBody;
}

void TarReader::BeginMeta(char type, uint64_t size) {
  if (++metas_ > kMaxMetaPerMember * max_members_) return Lied(LieKind::kTooMany);
  if (size > kMaxMetaBytes) return Lied(LieKind::kMetaTooBig);
  if (!Charge(size)) return;
  meta_type_ = type;
  meta_text_.clear();
  state_ = State::kMeta;
  if (size == 0) TakeMeta();
}

void TarReader::BeginMember(char type, uint64_t size) {
  Member member = DescribeMember(type, size);
  std::optional<uint64_t> mode = ParseNumber(Bytes(block_, kMode));
  if (!mode) return Lied(LieKind::kBadNumber, member.name);
  if (meta_.size && *meta_.size != size) return Lied(LieKind::kTwoSizes, member.name);
  if (!HasContent(member.kind) && size != 0) return Lied(LieKind::kPayload, member.name);
  if (++members_ > max_members_) return Lied(LieKind::kTooMany, member.name);
  if (!Charge(size)) return;
  member.executable = (*mode & kOwnerExecutes) != 0;
  member.special_bits = (*mode & kSpecialBits) != 0;
  const bool more_map = type == 'S' && block_[kMapInHeader.flag()] != '\0';
  if (more_map && MapIsAmbiguous(block_, kMapInHeader)) return Lied(LieKind::kBadMeta);
  meta_ = {};
  state_ = more_map ? State::kSparseMap : State::kBody;
  if (!handler_.OnMember(member)) state_ = State::kStopped;
}

Member TarReader::DescribeMember(char type, uint64_t size) {
  Member member;
  member.kind = KindOf(type);
  if (member.kind == Member::Kind::kRegular && meta_.sparse) member.kind = Member::Kind::kSparse;
  member.size = size;
  member.header_name = HeaderName(block_);
  member.name = meta_.sparse_name ? *meta_.sparse_name : meta_.name.value_or(member.header_name);
  member.link = meta_.link ? *meta_.link : TextOf(Bytes(block_, kLink));
  if (member.kind == Member::Kind::kDirectory) {
    while (member.name.ends_with('/')) member.name.pop_back();
  }
  return member;
}

void TarReader::EndBody() { state_ = padding_ == 0 ? State::kHeader : State::kPadding; }

void TarReader::TakeMeta() {
  state_ = padding_ == 0 ? State::kHeader : State::kPadding;
  switch (meta_type_) {
    case 'L':
      return TakeLongText(&meta_.name);
    case 'K':
      return TakeLongText(&meta_.link);
    default:
      return TakePax(meta_type_ == 'g');
  }
}

void TarReader::TakeLongText(std::optional<std::string>* text) {
  if (*text) return Lied(LieKind::kTwoNames, **text);
  if (meta_text_.ends_with('\0')) meta_text_.pop_back();
  if (meta_text_.empty()) return Lied(LieKind::kBadMeta);
  if (meta_text_.find('\0') != std::string::npos) return Lied(LieKind::kHiddenName, meta_text_);
  *text = std::move(meta_text_);
}

// Records of "<length> <key>=<value>\n", where the length counts all of it.
void TarReader::TakePax(bool global) {
  if (!global && meta_.pax) return Lied(LieKind::kBadMeta);
  meta_.pax = meta_.pax || !global;
  std::string_view rest = meta_text_;
  while (!rest.empty() && state_ != State::kStopped) {
    const size_t space = rest.find(' ');
    std::optional<uint64_t> length = ParseDecimal(rest.substr(0, std::min(space, rest.size())));
    if (!length || *length > rest.size() || *length <= space + 1 || rest[*length - 1] != '\n') {
      return Lied(LieKind::kBadMeta);
    }
    std::string_view record = rest.substr(space + 1, *length - space - 2);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) return Lied(LieKind::kBadMeta);
    TakePaxRecord(global, record.substr(0, equals), record.substr(equals + 1));
    rest.remove_prefix(*length);
  }
}

void TarReader::TakePaxRecord(bool global, std::string_view key, std::string_view value) {
  const bool sparse = key.starts_with("GNU.sparse.");
  std::optional<std::string>* text = key == "path"              ? &meta_.name
                                     : key == "linkpath"        ? &meta_.link
                                     : key == "GNU.sparse.name" ? &meta_.sparse_name
                                                                : nullptr;
  if (global && (text != nullptr || sparse || key == "size")) {
    return Lied(LieKind::kTwoNames, value);
  }
  meta_.sparse = meta_.sparse || sparse;
  if (text != nullptr) {
    if (*text) return Lied(LieKind::kTwoNames, value);
    if (value.empty()) return Lied(LieKind::kBadMeta);
    if (value.find('\0') != value.npos) return Lied(LieKind::kHiddenName, value);
    *text = std::string(value);
  } else if (key == "size") {
    std::optional<uint64_t> size = ParseDecimal(value);
    if (!size) return Lied(LieKind::kBadNumber);
    if (meta_.size) return Lied(LieKind::kTwoSizes);
    meta_.size = size;
  }
}

bool TarReader::Charge(uint64_t bytes) {
  if (bytes > max_total_ - total_) {
    Lied(LieKind::kTooMuch);
    return false;
  }
  total_ += bytes;
  return true;
}

void TarReader::Lied(LieKind what, std::string_view name) {
  state_ = State::kStopped;
  handler_.OnLie(what, name);
}

}  // namespace hermes::sync::unpack
