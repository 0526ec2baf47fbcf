// Text that shells will run: whatever a state or a command holds, it appears only inside quoted
// words, so that our own words are the only ones a shell acts on.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "backends/engine/script.h"
#include "daemon/runtime/check.h"

namespace hermes::shell {
namespace {

// Takes the single-quoted word at the front of `text`, as Quote writes it.
std::string TakeQuoted(std::string_view* text) {
  size_t end = 0;
  while (end < text->size()) {
    if ((*text)[end] == '\'') {
      end = text->find('\'', end + 1);
      CHECK(end != std::string_view::npos);
      ++end;
    } else if (text->substr(end).starts_with("\\'")) {
      end += 2;
    } else {
      break;
    }
  }
  std::optional<std::string> value = Unquote(text->substr(0, end));
  CHECK(value.has_value());
  CHECK(Quote(*value) == text->substr(0, end));
  text->remove_prefix(end);
  return *value;
}

bool Take(std::string_view prefix, std::string_view* text) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// A prelude is lines that are ours to the letter, and lines of one of our words and one quoted one.
void CheckPrelude(std::string_view text) {
  constexpr auto kLines = std::to_array<std::string_view>(
      {"\\builtin shopt -q extglob || HERMES_RUN_e=1\n", "\\builtin shopt -s extglob\n",
       "case ${HERMES_RUN_e-} in 1) \\builtin shopt -u extglob; \\builtin unset HERMES_RUN_e;; "
       "esac\n",
       "sudo() { command sudo -A \"$@\"; }\n"});
  while (!text.empty()) {
    if (std::any_of(kLines.begin(), kLines.end(),
                    [&text](std::string_view line) { return Take(line, &text); }))
      continue;
    if (Take("\\builtin eval ", &text)) {
      CHECK(TakeQuoted(&text).starts_with("function "));
    } else if (Take("\\builtin declare -fx -- ", &text)) {
      TakeQuoted(&text);
    } else {
      CHECK(Take("\\builtin alias -- ", &text));
      CHECK(TakeQuoted(&text).find('=') != std::string::npos);
    }
    CHECK(Take("\n", &text));
  }
}

// A command text is one or two assignments of one quoted word each; what runs holds every foreign
// part as one quoted word too, so taking those out must leave the same text for every input.
std::string WithoutQuoted(std::string_view text) {
  std::string rest;
  while (!text.empty()) {
    if (text[0] == '\'') {
      TakeQuoted(&text);
      rest += "Q";
    } else {
      rest += text[0];
      text.remove_prefix(1);
    }
  }
  return rest;
}

std::string Skeleton(Kind kind, const Command& command) {
  std::string text = CommandText(kind, command);
  std::string_view rest = text;
  if (kind == Kind::kBash) {
    CHECK(Take("BASH_EXECUTION_STRING=", &rest));
    CHECK(TakeQuoted(&rest) == command.script);
    CHECK(Take("\n", &rest));
  }
  CHECK(Take("HERMES_RUN_t=", &rest));
  std::string run = TakeQuoted(&rest);
  CHECK(rest == "\n");
  return WithoutQuoted(run);
}

// What both look like when nothing hostile is in them.
struct Plain {
  explicit Plain(Kind kind) : login(WithoutQuoted(LoginCaptureText(kind, "/p", "n"))) {
    Command plain;
    plain.script = "true";
    plain.cwd = "/";
    plain.env = {{"A", "1"}};
    plain.capture_path = "/p";
    plain.nonce = "n";
    command = Skeleton(kind, plain);
  }
  std::string login;
  std::string command;
};

void CheckCommand(Kind kind, std::string_view text) {
  static const Plain kBash(Kind::kBash);
  static const Plain kSh(Kind::kSh);
  const Plain& plain = kind == Kind::kBash ? kBash : kSh;
  std::string script(text.substr(0, text.find('\0')));
  Command hostile;
  hostile.script = script;
  hostile.cwd = script.empty() ? "/" : std::string_view(script);
  hostile.env = {{"A", script}, {script + " ", "1"}};
  hostile.capture_path = hostile.cwd;
  hostile.nonce = script;
  CHECK(Skeleton(kind, hostile) == plain.command);
  CHECK(WithoutQuoted(LoginCaptureText(kind, hostile.cwd, script)) == plain.login);
}

// Any text as a state: fields end at NUL, the first character of each says what it is.
State StateOf(std::string_view text) {
  State state;
  while (!text.empty()) {
    std::string_view field = text.substr(0, text.find('\0'));
    text.remove_prefix(std::min(text.size(), field.size() + 1));
    if (field.empty()) continue;
    size_t split = std::min(field.find('='), field.size());
    std::string name(field.substr(1, split == 0 ? 0 : split - 1));
    std::string value(field.substr(std::min(field.size(), split + 1)));
    if (field[0] == 'a') state.aliases[name] = value;
    if (field[0] == 'f') state.functions[name] = {value, false};
    if (field[0] == 'x') state.functions[name] = {name + " () \n{ " + value, true};
  }
  return state;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.find('\0') == std::string_view::npos) CHECK(Unquote(Quote(text)) == text);
  if (std::optional<std::string> word = Unquote(text)) CHECK(Unquote(Quote(*word)) == *word);
  for (Kind kind : {Kind::kBash, Kind::kSh}) {
    CheckCommand(kind, text);
    CheckPrelude(Prelude(kind, StateOf(text), size % 2 == 0));
    if (std::optional<State> stored = Decode(text)) CheckPrelude(Prelude(kind, *stored, true));
  }
  return 0;
}

}  // namespace hermes::shell
