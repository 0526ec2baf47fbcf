#include "backends/engine/shell_state.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "backends/engine/frames.h"

namespace hermes::shell {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kOurPrefix = "HERMES_RUN_";
constexpr std::string_view kFunctionPrefix = "BASH_FUNC_";
constexpr std::string_view kMagic = "hermes-state-1\n";

// What every shell sets for itself: carrying it over would overrule the next shell.
constexpr auto kBookkeeping = std::to_array<std::string_view>({
    "BASH",
    "BASHOPTS",
    "BASHPID",
    "BASH_ARGV0",
    "BASH_COMMAND",
    "BASH_EXECUTION_STRING",
    "BASH_LINENO",
    "BASH_SUBSHELL",
    "BASH_VERSION",
    "BASH_XTRACEFD",
    "COMP_WORDBREAKS",
    "DIRSTACK",
    "EPOCHREALTIME",
    "EPOCHSECONDS",
    "EUID",
    "FUNCNAME",
    "GROUPS",
    "HISTCMD",
    "LINENO",
    "PIPESTATUS",
    "PPID",
    "PWD",
    "RANDOM",
    "SECONDS",
    "SHELLOPTS",
    "SHLVL",
    "SRANDOM",
    "UID",
    "_",
});

bool IsBookkeeping(std::string_view name) {
  return std::find(kBookkeeping.begin(), kBookkeeping.end(), name) != kBookkeeping.end() ||
         name.starts_with(kOurPrefix) || name.starts_with(kFunctionPrefix);
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

int HexValue(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void AppendUtf8(uint32_t c, std::string* out) {
  auto byte = [out](uint32_t b) { out->push_back(static_cast<char>(b)); };
  if (c < 0x80) {
    byte(c);
  } else if (c < 0x800) {
    byte(0xc0 | c >> 6);
    byte(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    byte(0xe0 | c >> 12);
    byte(0x80 | (c >> 6 & 0x3f));
    byte(0x80 | (c & 0x3f));
  } else {
    byte(0xf0 | c >> 18);
    byte(0x80 | (c >> 12 & 0x3f));
    byte(0x80 | (c >> 6 & 0x3f));
    byte(0x80 | (c & 0x3f));
  }
}

// Takes one shell word off the front of a text. With `out` it is unquoted on the way and whatever
// a shell would expand or end the word at is an error; without, only its end is found (unquoted
// newline or end of text), which also steps over an array's "( ... )".
class WordReader {
 public:
  WordReader(std::string_view text, std::string* out) : text_(text), out_(out) {}

  bool Run() {
    while (pos_ < text_.size()) {
      char c = text_[pos_];
      if (c == '\n' && !out_) return true;
      if (!Step(c)) return false;
    }
    return true;
  }
  size_t pos() const { return pos_; }

 private:
  bool Step(char c) {
    ++pos_;
    if (c == '\'') return SingleQuoted();
    if (c == '"') return DoubleQuoted();
    if (c == '\\') return Escaped();
    if (c == '$' && Peek() == '\'') return ++pos_, AnsiQuoted();
    if (out_ && kEndsOrExpands.find(c) != std::string_view::npos) return false;
    Put(c);
    return true;
  }

  bool SingleQuoted() {
    size_t end = text_.find('\'', pos_);
    if (end == std::string_view::npos) return false;
    if (out_) out_->append(text_.data() + pos_, end - pos_);
    pos_ = end + 1;
    return true;
  }

  bool DoubleQuoted() {
    while (pos_ < text_.size()) {
      char c = text_[pos_++];
      if (c == '"') return true;
      if (c == '$' || c == '`') return false;
      if (c == '\\') {
        if (pos_ == text_.size()) return false;
        char next = text_[pos_++];
        if (next == '\n') continue;
        if (std::string_view("$`\"\\").find(next) == std::string_view::npos) Put('\\');
        c = next;
      }
      Put(c);
    }
    return false;
  }

  bool Escaped() {
    if (pos_ == text_.size()) return false;
    char c = text_[pos_++];
    if (c != '\n') Put(c);
    return true;
  }

  bool AnsiQuoted() {
    while (pos_ < text_.size()) {
      char c = text_[pos_++];
      if (c == '\'') return true;
      if (c != '\\') {
        Put(c);
      } else if (!AnsiEscape()) {
        return false;
      }
    }
    return false;
  }

  bool AnsiEscape() {
    if (pos_ == text_.size()) return false;
    char c = text_[pos_++];
    static constexpr std::string_view kLetters = "abeEfnrtv\\'\"?";
    static constexpr std::string_view kMeanings = "\a\b\033\033\f\n\r\t\v\\'\"?";
    if (size_t i = kLetters.find(c); i != std::string_view::npos) return Put(kMeanings[i]), true;
    if (c >= '0' && c <= '7') return --pos_, Number(8, 3, false);
    if (c == 'x') return Number(16, 2, false);
    if (c == 'u') return Number(16, 4, true);
    if (c == 'U') return Number(16, 8, true);
    if (c == 'c') return Control();
    Put('\\');
    Put(c);
    return true;
  }

  bool Number(uint32_t base, int max_digits, bool unicode) {
    uint32_t value = 0;
    int digits = 0;
    for (; digits < max_digits && pos_ < text_.size(); ++digits, ++pos_) {
      int digit = HexValue(text_[pos_]);
      if (digit < 0 || digit >= static_cast<int>(base)) break;
      value = value * base + static_cast<uint32_t>(digit);
    }
    if (digits == 0 || value == 0 || value > 0x10ffff) return false;
    if (!unicode) {
      if ((value & 0xff) == 0) return false;
      Put(static_cast<char>(value & 0xff));
    } else if (out_) {
      AppendUtf8(value, out_);
    }
    return true;
  }

  bool Control() {
    if (pos_ == text_.size()) return false;
    char c = static_cast<char>(text_[pos_++] & 0x1f);
    if (c == 0) return false;
    Put(c);
    return true;
  }

  char Peek() const { return pos_ < text_.size() ? text_[pos_] : '\0'; }
  void Put(char c) {
    if (out_) out_->push_back(c);
  }

  static constexpr std::string_view kEndsOrExpands = "\0\t\n ;&|<>()$`*?[~#{}!"sv;
  std::string_view text_;
  std::string* out_;
  size_t pos_ = 0;
};

std::string_view TakeLine(std::string_view* text) {
  size_t end = std::min(text->find('\n'), text->size());
  std::string_view line = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return line;
}

bool TakePrefix(std::string_view prefix, std::string_view* text) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// One line of a listing, "declare -ix NAME=word", "export NAME=word" or the like; the word may go
// on over newlines that are quoted.
struct Listing {
  std::string_view flags;
  std::string_view name;
  std::optional<std::string_view> word;  // as printed; nullopt: no value
};

std::optional<Listing> TakeListing(std::string_view verb, std::string_view* text) {
  Listing listing;
  if (!TakePrefix(verb, text) || !TakePrefix(" ", text)) return std::nullopt;
  while (TakePrefix("-", text)) {
    size_t end = text->find_first_of(" \n");
    if (end == std::string_view::npos || (*text)[end] != ' ') return std::nullopt;
    listing.flags = text->substr(0, end);
    text->remove_prefix(end + 1);
    if (listing.flags == "-") {  // "--": what follows is a name, whatever it begins with
      listing.flags = {};
      break;
    }
  }
  size_t end = std::min(text->find_first_of("=\n"), text->size());
  listing.name = text->substr(0, end);
  text->remove_prefix(end);
  if (TakePrefix("=", text)) {
    WordReader word(*text, nullptr);
    if (!word.Run()) return std::nullopt;
    listing.word = text->substr(0, word.pos());
    text->remove_prefix(word.pos());
  }
  if (listing.name.empty() || !TakePrefix("\n", text)) return std::nullopt;
  return listing;
}

bool ParseVariables(std::string_view text, std::map<std::string, std::string>* env) {
  while (!text.empty()) {
    bool declared = text.starts_with("declare ");
    std::optional<Listing> listing = TakeListing(declared ? "declare" : "export", &text);
    if (!listing) return false;
    // Arrays and references are not part of any environment; read-only ones are not kept.
    if (listing->flags.find_first_of("aAnr") != std::string_view::npos) continue;
    if (!listing->word || !IsIdentifier(listing->name) || IsBookkeeping(listing->name)) continue;
    std::optional<std::string> value = Unquote(*listing->word);
    if (!value && !listing->word->empty()) return false;
    if (!value) value.emplace();
    if (listing->name.size() + 1 + value->size() > kMaxVariableBytes) continue;
    (*env)[std::string(listing->name)] = *std::move(value);
  }
  return true;
}

// Takes from `env` what dash or ash list as read-only (their export listing does not tell).
bool DropReadOnly(std::string_view text, std::map<std::string, std::string>* env) {
  while (!text.empty()) {
    std::optional<Listing> listing = TakeListing("readonly", &text);
    if (!listing) return false;
    env->erase(std::string(listing->name));
  }
  return true;
}

bool ParseAliases(std::string_view text, std::map<std::string, std::string>* aliases) {
  while (!text.empty()) {
    std::optional<Listing> listing = TakeListing("alias", &text);
    if (!listing || !listing->word) return false;
    std::optional<std::string> value = Unquote(*listing->word);
    if (!value) return false;
    (*aliases)[std::string(listing->name)] = *std::move(value);
  }
  return true;
}

struct FunctionName {
  std::string_view name;
  std::string_view line;  // "declare -fx name"
  std::string_view flags;
};

bool ParseFunctionNames(std::string_view text, std::vector<FunctionName>* names) {
  while (!text.empty()) {
    FunctionName entry;
    entry.line = TakeLine(&text);
    std::string_view rest = entry.line;
    if (!TakePrefix("declare -f", &rest)) return false;
    size_t space = rest.find(' ');
    if (space == std::string_view::npos || space + 1 == rest.size()) return false;
    entry.flags = rest.substr(0, space);
    entry.name = rest.substr(space + 1);
    names->push_back(entry);
  }
  return true;
}

// The name in a function's first line ("name () " or "function name () "), else empty.
std::string_view HeaderName(std::string_view line) {
  static constexpr std::string_view kTail = " () ";
  if (!line.ends_with(kTail)) return {};
  line.remove_suffix(kTail.size());
  TakePrefix("function ", &line);
  return line;
}

// The listing of all bodies has no separators, and a string or a here-document inside a body may
// hold a line that looks like the beginning of another function. So every line that could be one
// for a listed name is looked for: exactly those of the list, in its order, or the text is
// ambiguous and nothing of it is believed.
bool SplitFunctions(std::string_view text, const std::vector<FunctionName>& names,
                    std::vector<std::string_view>* bodies) {
  std::set<std::string_view> known;
  for (const FunctionName& entry : names) known.insert(entry.name);
  std::vector<size_t> starts;
  for (size_t pos = 0; pos < text.size();) {
    size_t end = std::min(text.find('\n', pos), text.size());
    std::string_view name = HeaderName(text.substr(pos, end - pos));
    if (!name.empty() && known.contains(name)) {
      if (starts.size() == names.size() || names[starts.size()].name != name) return false;
      starts.push_back(pos);
    }
    pos = end + 1;
  }
  if (starts.size() != names.size() || (starts.empty() ? !text.empty() : starts[0] != 0))
    return false;
  for (size_t i = 0; i < starts.size(); ++i) {
    size_t end = i + 1 < starts.size() ? starts[i + 1] : text.size();
    bodies->push_back(text.substr(starts[i], end - starts[i]));
  }
  return true;
}

bool ParseFunctions(std::string_view list, std::string_view text,
                    std::map<std::string, Function>* functions) {
  std::vector<FunctionName> names;
  std::vector<std::string_view> bodies;
  if (!ParseFunctionNames(list, &names) || !SplitFunctions(text, names, &bodies)) return false;
  for (size_t i = 0; i < names.size(); ++i) {
    const FunctionName& entry = names[i];
    std::string_view body = bodies[i];
    if (body.ends_with('\n')) body.remove_suffix(1);
    if (!entry.flags
             .empty()) {  // a function with attributes is followed by the line that sets them
      if (!body.ends_with(entry.line)) return false;
      body.remove_suffix(entry.line.size());
      if (!body.ends_with('\n')) return false;
      body.remove_suffix(1);
    }
    if (entry.flags.find('r') != std::string_view::npos) continue;
    if (IsReservedFunction(entry.name)) continue;
    if (entry.name == "sudo" && body == kAskpassSudo) continue;
    bool exported = entry.flags.find('x') != std::string_view::npos;
    (*functions)[std::string(entry.name)] = Function{std::string(body), exported};
  }
  return true;
}

bool Fail(std::string* why, std::string_view reason) {
  *why = std::string(reason);
  return false;
}

// Cuts "nonce NUL section NUL section NUL ... nonce NUL" into its sections.
bool CutSections(std::string_view captured, std::string_view nonce, size_t count,
                 std::vector<std::string_view>* sections, std::string* why) {
  constexpr std::string_view kNul = "\0"sv;
  if (captured.size() > kMaxStateBytes) return Fail(why, "too large");
  if (captured.empty()) return Fail(why, "nothing captured");
  if (nonce.empty() || !TakePrefix(nonce, &captured) || !TakePrefix(kNul, &captured))
    return Fail(why, "no header");
  for (size_t end; (end = captured.find('\0')) != std::string_view::npos;) {
    sections->push_back(captured.substr(0, end));
    captured.remove_prefix(end + 1);
    if (sections->size() > count + 1) return Fail(why, "malformed capture");
  }
  if (sections->size() != count + 1 || !captured.empty() || sections->back() != nonce)
    return Fail(why, "no trailer");
  sections->pop_back();
  return true;
}

bool ParseSections(Kind kind, const std::vector<std::string_view>& sections, State* state,
                   std::string* why) {
  if (!ParseVariables(sections[0], &state->env)) return Fail(why, "malformed variables");
  if (kind == Kind::kSh) {
    if (!DropReadOnly(sections[1], &state->env)) return Fail(why, "malformed variables");
  } else {
    if (!ParseFunctions(sections[1], sections[2], &state->functions))
      return Fail(why, "ambiguous function text");
    if (!ParseAliases(sections[3], &state->aliases)) return Fail(why, "malformed aliases");
  }
  std::string_view cwd = sections.back();
  if (!cwd.starts_with('/') || !cwd.ends_with('\n')) return Fail(why, "malformed directory");
  cwd.remove_suffix(1);
  state->cwd = std::string(cwd);
  return true;
}

template <typename Value>
bool MergeMap(const std::map<std::string, Value>& base, const std::map<std::string, Value>& after,
              const std::set<std::string>* not_kept, std::map<std::string, Value>* session) {
  auto passed_over = [not_kept](const std::string& name) {
    return not_kept && not_kept->contains(name);
  };
  bool changed = false;
  for (const auto& [name, value] : after) {
    auto was = base.find(name);
    if (passed_over(name) || (was != base.end() && was->second == value)) continue;
    auto [now, added] = session->try_emplace(name, value);
    if (!added && now->second == value) continue;
    now->second = value;
    changed = true;
  }
  for (const auto& [name, value] : base) {
    if (after.contains(name) || passed_over(name)) continue;
    changed |= session->erase(name) > 0;
  }
  return changed;
}

void PutMap(const std::map<std::string, std::string>& map, frames::Writer* writer) {
  writer->U32(static_cast<uint32_t>(map.size()));
  for (const auto& [name, value] : map) {
    writer->Str(name);
    writer->Str(value);
  }
}

// Reads `count` entries whose names rise strictly, as Encode writes them.
template <typename Value, typename ReadValue>
bool GetMap(frames::Reader* reader, std::map<std::string, Value>* map, ReadValue read_value) {
  uint32_t count = reader->U32();
  for (uint32_t i = 0; i < count && reader->ok(); ++i) {
    std::string name(reader->Str());
    Value value = read_value();
    if (!map->empty() && map->rbegin()->first >= name) return false;
    map->emplace_hint(map->end(), std::move(name), std::move(value));
  }
  return reader->ok();
}

}  // namespace

bool IsIdentifier(std::string_view name) {
  return !name.empty() && !IsDigit(name[0]) &&
         std::all_of(name.begin(), name.end(), [](char c) { return IsLetter(c) || IsDigit(c); });
}

std::optional<std::string> Unquote(std::string_view word) {
  std::string value;
  if (word.empty() || !WordReader(word, &value).Run()) return std::nullopt;
  return value;
}

std::string Quote(std::string_view text) {
  std::string quoted;
  quoted.reserve(text.size() + 2);
  quoted.push_back('\'');
  while (true) {
    size_t end = text.find('\'');
    if (end == std::string_view::npos) break;
    quoted.append(text.substr(0, end));
    quoted.append("'\\''");
    text.remove_prefix(end + 1);
  }
  quoted.append(text);
  quoted.push_back('\'');
  return quoted;
}

std::optional<State> ParseCapture(Kind kind, std::string_view captured, std::string_view nonce,
                                  std::string* why) {
  State state;
  std::vector<std::string_view> sections;
  size_t count = kind == Kind::kBash ? 5 : 3;
  if (!CutSections(captured, nonce, count, &sections, why)) return std::nullopt;
  if (!ParseSections(kind, sections, &state, why)) return std::nullopt;
  return state;
}

bool Merge(const State& base, const State& after, const std::set<std::string>& not_kept,
           bool commit_cwd, State* session) {
  bool changed = MergeMap(base.env, after.env, &not_kept, &session->env);
  changed |= MergeMap(base.functions, after.functions, nullptr, &session->functions);
  changed |= MergeMap(base.aliases, after.aliases, nullptr, &session->aliases);
  if (commit_cwd && after.cwd != base.cwd && after.cwd != session->cwd) {
    session->cwd = after.cwd;
    changed = true;
  }
  return changed;
}

std::string Encode(const State& state) {
  std::string text(kMagic);
  frames::Writer writer(text);
  PutMap(state.env, &writer);
  writer.U32(static_cast<uint32_t>(state.functions.size()));
  for (const auto& [name, function] : state.functions) {
    writer.Str(name);
    writer.Str(function.body);
    writer.U8(function.exported ? 1 : 0);
  }
  PutMap(state.aliases, &writer);
  writer.Str(state.cwd);
  return text;
}

std::optional<State> Decode(std::string_view text) {
  if (!TakePrefix(kMagic, &text)) return std::nullopt;
  frames::Reader reader(text);
  State state;
  bool flags_ok = true;
  auto read_string = [&reader] { return std::string(reader.Str()); };
  auto read_function = [&reader, &flags_ok] {
    std::string body(reader.Str());
    uint8_t exported = reader.U8();
    flags_ok &= exported <= 1;
    return Function{std::move(body), exported == 1};
  };
  if (!GetMap(&reader, &state.env, read_string) ||
      !GetMap(&reader, &state.functions, read_function) ||
      !GetMap(&reader, &state.aliases, read_string))
    return std::nullopt;
  state.cwd = std::string(reader.Str());
  if (!reader.done() || !flags_ok) return std::nullopt;
  return state;
}

}  // namespace hermes::shell
