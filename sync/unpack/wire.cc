#include "sync/unpack/wire.h"

#include <cstring>
#include <utility>

namespace hermes::sync::unpack {
namespace {

constexpr size_t kPrefix = 4;  // the length of what follows
constexpr size_t kMaxRecordBytes = kMaxDataBytes + 1;
constexpr size_t kMaxWantedNameBytes = UINT16_MAX;

template <typename T>
void Put(std::string& out, T value) {
  for (size_t i = 0; i < sizeof value; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

// Reads from the front; once something is missing or out of range it stays failed.
class Reader {
 public:
  explicit Reader(std::string_view rest) : rest_(rest) {}

  template <typename T>
  T Get() {
    T value = 0;
    std::string_view bytes = Bytes(sizeof value);
    for (size_t i = 0; i < bytes.size(); ++i) {
      value |= static_cast<T>(static_cast<T>(static_cast<uint8_t>(bytes[i])) << (8 * i));
    }
    return value;
  }
  std::string_view Bytes(size_t count) {
    if (count > rest_.size()) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    std::string_view bytes = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return bytes;
  }
  bool Bool() { return Below<uint8_t>(2) != 0; }
  template <typename T>
  T Below(T bound) {
    T value = Get<T>();
    ok_ = ok_ && value < bound;
    return ok_ ? value : T{0};
  }
  std::string Name() {
    ok_ = ok_ && rest_.size() <= kMaxNameBytes;
    return std::string(Rest());
  }
  std::string_view Rest() { return std::exchange(rest_, {}); }
  bool done() const { return ok_ && rest_.empty(); }
  bool ok() const { return ok_; }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

// The type bytes; the payload behind them is what Decode reads.
enum class Type : uint8_t { kHello = 1, kFile, kData, kCopy, kOdd, kLie, kEnd };

void PutType(std::string& out, Type type) { Put(out, static_cast<uint8_t>(type)); }

struct Encoder {
  std::string& out;
  void operator()(const Hello& hello) const {
    PutType(out, Type::kHello);
    Put(out, hello.layers);
    Put(out, hello.landlock_abi);
  }
  void operator()(const File& file) const {
    PutType(out, Type::kFile);
    Put(out, file.index);
    Put(out, file.size);
    Put(out, static_cast<uint8_t>(file.executable));
  }
  void operator()(const Data& data) const {
    PutType(out, Type::kData);
    out += data.bytes;
  }
  void operator()(const Copy& copy) const {
    PutType(out, Type::kCopy);
    Put(out, copy.index);
    Put(out, copy.from);
  }
  void operator()(const Odd& odd) const {
    PutType(out, Type::kOdd);
    Put(out, odd.index);
    Put(out, static_cast<uint8_t>(odd.why));
    out += std::string_view(odd.name).substr(0, kMaxNameBytes);
  }
  void operator()(const Lie& lie) const {
    PutType(out, Type::kLie);
    Put(out, static_cast<uint8_t>(lie.what));
    out += std::string_view(lie.name).substr(0, kMaxNameBytes);
  }
  void operator()(const End& end) const {
    PutType(out, Type::kEnd);
    Put(out, static_cast<uint8_t>(end.how));
  }
};

template <typename Enum>
Enum ReadEnum(Reader& reader) {
  return static_cast<Enum>(reader.Below(static_cast<uint8_t>(Enum::kCount)));
}

std::optional<Record> Decode(std::string_view payload) {
  Reader reader(payload);
  Record record;
  switch (static_cast<Type>(reader.Get<uint8_t>())) {
    case Type::kHello:
      record = Hello{reader.Get<uint32_t>(), reader.Get<uint32_t>()};
      break;
    case Type::kFile:
      record = File{reader.Get<uint32_t>(), reader.Get<uint64_t>(), reader.Bool()};
      break;
    case Type::kData:
      record = Data{reader.Rest()};
      if (std::get<Data>(record).bytes.empty()) return std::nullopt;
      break;
    case Type::kCopy:
      record = Copy{reader.Get<uint32_t>(), reader.Get<uint32_t>()};
      break;
    case Type::kOdd:
      record = Odd{reader.Get<uint32_t>(), ReadEnum<Oddity>(reader), reader.Name()};
      break;
    case Type::kLie:
      record = Lie{ReadEnum<LieKind>(reader), reader.Name()};
      break;
    case Type::kEnd:
      record = End{ReadEnum<End::How>(reader)};
      break;
    default:
      return std::nullopt;
  }
  if (!reader.done()) return std::nullopt;
  return record;
}

// Puts the length of what was appended behind `start` into the kPrefix bytes kept free there.
void SetLength(std::string& out, size_t start) {
  auto length = static_cast<uint32_t>(out.size() - start - kPrefix);
  for (size_t i = 0; i < kPrefix; ++i) out[start + i] = static_cast<char>(length >> (8 * i));
}

}  // namespace

#define HERMES_TEXT(name, text) text,
std::string_view Text(Oddity oddity) {
  static constexpr std::string_view kTexts[] = {HERMES_ODDITIES(HERMES_TEXT)};
  return kTexts[static_cast<size_t>(oddity)];
}

std::string_view Text(LieKind lie) {
  static constexpr std::string_view kTexts[] = {HERMES_LIES(HERMES_TEXT)};
  return kTexts[static_cast<size_t>(lie)];
}
#undef HERMES_TEXT

bool IsLimit(LieKind lie) {
  return lie == LieKind::kTooMany || lie == LieKind::kTooMuch || lie == LieKind::kMetaTooBig;
}

void Encode(std::string& out, const Record& record) {
  const size_t start = out.size();
  out.append(kPrefix, '\0');
  std::visit(Encoder{out}, record);
  SetLength(out, start);
}

void Encode(std::string& out, const Request& request) {
  const size_t start = out.size();
  out.append(kPrefix, '\0');
  Put(out, request.max_total_bytes);
  Put(out, request.max_members);
  Put(out, static_cast<uint8_t>(request.salvage));
  for (const Wanted& wanted : request.wanted) {
    std::string_view name = std::string_view(wanted.name).substr(0, kMaxWantedNameBytes);
    Put(out, wanted.max_bytes);
    Put(out, static_cast<uint16_t>(name.size()));
    out += name;
  }
  SetLength(out, start);
}

size_t RequestBytes(std::string_view prefix) {
  return kRequestPrefix + Reader(prefix).Get<uint32_t>();
}

std::optional<Request> DecodeRequest(std::string_view bytes) {
  Reader reader(bytes);
  Request request;
  reader.Get<uint32_t>();
  request.max_total_bytes = reader.Get<uint64_t>();
  request.max_members = reader.Get<uint32_t>();
  request.salvage = reader.Bool();
  while (reader.ok() && !reader.done()) {
    Wanted wanted;
    wanted.max_bytes = reader.Get<uint64_t>();
    wanted.name = reader.Bytes(reader.Get<uint16_t>());
    request.wanted.push_back(std::move(wanted));
  }
  if (!reader.ok()) return std::nullopt;
  return request;
}

Parse ParseRecord(std::string_view stream, Record* record, size_t* consumed) {
  if (stream.size() < kPrefix) return Parse::kMore;
  const size_t length = Reader(stream).Get<uint32_t>();
  if (length == 0 || length > kMaxRecordBytes) return Parse::kBad;
  if (stream.size() < kPrefix + length) return Parse::kMore;
  std::optional<Record> decoded = Decode(stream.substr(kPrefix, length));
  if (!decoded) return Parse::kBad;
  *record = *std::move(decoded);
  *consumed = kPrefix + length;
  return Parse::kRecord;
}

}  // namespace hermes::sync::unpack
