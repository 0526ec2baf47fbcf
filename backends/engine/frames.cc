#include "backends/engine/frames.h"

#include <algorithm>
#include <concepts>
#include <type_traits>

namespace hermes::frames {
namespace {

inline constexpr size_t kMaxReportedPids =
    16;  // survivors named in a TreeReport; the rest are only counted

// Each struct's layout is written once, in Fields(); Put and Get are the two directions.
class Put {
 public:
  Put(std::string& out, Type type, uint32_t command) : writer_(out) {
    writer_.Begin(type, command);
  }
  ~Put() { writer_.End(); }

  void Field(uint16_t v) { writer_.U16(v); }
  void Field(uint32_t v) { writer_.U32(v); }
  void Field(uint64_t v) { writer_.U64(v); }
  void Field(int32_t v) { writer_.U32(static_cast<uint32_t>(v)); }
  void Field(const std::string& v) { writer_.Str(v); }
  void Field(const Pairs& v) { writer_.PairList(v); }
  void Field(const std::vector<std::string>& v) {
    writer_.U32(static_cast<uint32_t>(v.size()));
    for (const std::string& item : v) writer_.Str(item);
  }
  void Field(const std::vector<uint32_t>& v) {
    size_t count = std::min(v.size(), kMaxReportedPids);
    writer_.U32(static_cast<uint32_t>(count));
    for (size_t i = 0; i < count; ++i) writer_.U32(v[i]);
  }
  // One byte that is at most `max` on the wire.
  template <typename T>
  void Small(T v, int max) {
    writer_.U8(static_cast<uint8_t>(v));
  }

 private:
  Writer writer_;
};

class Get {
 public:
  explicit Get(std::string_view payload) : reader_(payload) {}

  bool done() const { return in_range_ && reader_.done(); }

  void Field(uint16_t& v) { v = reader_.U16(); }
  void Field(uint32_t& v) { v = reader_.U32(); }
  void Field(uint64_t& v) { v = reader_.U64(); }
  void Field(int32_t& v) { v = static_cast<int32_t>(reader_.U32()); }
  void Field(std::string& v) { v = std::string(reader_.Str()); }
  void Field(Pairs& v) { v = reader_.PairList(); }
  void Field(std::vector<std::string>& v) { v = reader_.StrList(); }
  void Field(std::vector<uint32_t>& v) {
    uint32_t count = reader_.U32();
    if (count > kMaxReportedPids) in_range_ = false;
    for (uint32_t i = 0; in_range_ && reader_.ok() && i < count; ++i) v.push_back(reader_.U32());
  }
  template <typename T>
  void Small(T& v, int max) {
    uint8_t raw = reader_.U8();
    if (raw > max) in_range_ = false;
    v = static_cast<T>(raw);
  }

 private:
  Reader reader_;
  bool in_range_ = true;
};

template <typename T, typename U>
concept Is = std::same_as<std::remove_const_t<T>, U>;

template <typename Io, typename... T>
void All(Io& io, T&... fields) {
  (io.Field(fields), ...);
}

template <typename Io, typename... T>
void Flags(Io& io, T&... flags) {
  (io.Small(flags, 1), ...);
}

template <typename Io, Is<Open> T>
void Fields(Io& io, T& v) {
  All(io, v.session, v.cwd, v.env);
  Flags(io, v.resume);
}

template <typename Io, Is<Opened> T>
void Fields(Io& io, T& v) {
  All(io, v.generation, v.cwd);
  io.Small(v.shell, 2);
  Flags(io, v.recovered);
}

template <typename Io, Is<Welcome> T>
void Fields(Io& io, T& v) {
  All(io, v.version, v.start_token, v.pid, v.build, v.arch, v.home);
}

template <typename Io, Is<Start> T>
void Fields(Io& io, T& v) {
  All(io, v.session, v.run_id);
  io.Small(v.form, static_cast<int>(kVersion < kFilesVersion ? Form::kArgv : Form::kFiles));
  All(io, v.script, v.argv, v.cwd, v.env, v.secret_env);
  io.Small(v.stdin_kind, static_cast<int>(StdinKind::kOpen));
  Flags(io, v.pty);
  All(io, v.cols, v.rows, v.term);
  Flags(io, v.merge_stderr);
  All(io, v.deadline_ms, v.grace_ms);
  io.Small(v.state_mode, static_cast<int>(StateMode::kIsolated));
}

template <typename Io, Is<TreeReport> T>
void Fields(Io& io, T& v) {
  All(io, v.signalled, v.survivors);
  Flags(io, v.verified);
  All(io, v.pids);
}

template <typename Io, Is<Exit> T>
void Fields(Io& io, T& v) {
  io.Small(v.cause, static_cast<int>(Cause::kSupervisorDied));
  Flags(io, v.signalled);
  All(io, v.value);
  io.Small(v.stage, static_cast<int>(LaunchStage::kAfter));
  All(io, v.launch_errno, v.out, v.err, v.user_us, v.system_us, v.max_rss_kb);
  Flags(io, v.residual, v.state_committed);
  All(io, v.state_reason, v.generation, v.cwd);
  Flags(io, v.has_tree);
  Fields(io, v.tree);
}

template <typename Io, Is<Listed> T>
void Fields(Io& io, T& v) {
  All(io, v.session, v.run_id, v.pid, v.out, v.err, v.out_first, v.err_first);
  Flags(io, v.exited, v.drained);
}

template <typename T>
void EncodeFrame(std::string& out, Type type, uint32_t command, const T& v) {
  Put put(out, type, command);
  Fields(put, v);
}

}  // namespace

void Encode(std::string& out, uint32_t tag, const Open& open) {
  EncodeFrame(out, Type::kOpen, tag, open);
}

void Encode(std::string& out, uint32_t tag, const Opened& opened) {
  EncodeFrame(out, Type::kOpened, tag, opened);
}

void Encode(std::string& out, const Welcome& welcome) {
  EncodeFrame(out, Type::kWelcome, 0, welcome);
}

void Encode(std::string& out, uint32_t command, const Start& start) {
  EncodeFrame(out, Type::kStart, command, start);
}

void Encode(std::string& out, uint32_t command, const Exit& exit) {
  EncodeFrame(out, Type::kExit, command, exit);
}

void Encode(std::string& out, uint32_t command, const Listed& listed) {
  EncodeFrame(out, Type::kListed, command, listed);
}

void Encode(std::string& out, uint32_t command, Type type, const TreeReport& report) {
  EncodeFrame(out, type, command, report);
}

void EncodeData(std::string& out, uint32_t command, Type type, uint64_t offset,
                std::string_view data) {
  Writer writer(out);
  writer.Begin(type, command);
  writer.U64(offset);
  writer.Raw(data);
  writer.End();
}

template <typename T>
std::optional<T> Decode(std::string_view payload) {
  Get get(payload);
  T value;
  Fields(get, value);
  if (!get.done()) return std::nullopt;
  return value;
}

template std::optional<Open> Decode<Open>(std::string_view);
template std::optional<Opened> Decode<Opened>(std::string_view);
template std::optional<Welcome> Decode<Welcome>(std::string_view);
template std::optional<Start> Decode<Start>(std::string_view);
template std::optional<Exit> Decode<Exit>(std::string_view);
template std::optional<Listed> Decode<Listed>(std::string_view);
template std::optional<TreeReport> Decode<TreeReport>(std::string_view);

}  // namespace hermes::frames
