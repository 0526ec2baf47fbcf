// What only a bash session has: functions and aliases, and the many ways to get in their way.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tests/fakes/shell_place.h"

namespace hermes::shell {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Not;
using ::testing::StartsWith;

class BashTest : public testing::Test {
 protected:
  Place place_ = Bash();
};

TEST_F(BashTest, KeepsFunctionsAndAliases) {
  place_.Run("f() { echo \"f $1\"; }; alias ll='echo L'");
  EXPECT_EQ(place_.Run("f 1; ll x").out, "f 1\nL x\n");
  EXPECT_EQ(place_.Run("f 1; ll x").out, "f 1\nL x\n");
  place_.Run("unset -f f; unalias ll");
  EXPECT_THAT(place_.state.functions, IsEmpty());
  EXPECT_THAT(place_.state.aliases, IsEmpty());
}

TEST_F(BashTest, KeepsExportedFunctionsExported) {
  place_.Run("g() { echo g; }; export -f g; h() { echo h; }");
  EXPECT_EQ(place_.Run("bash -c 'g; h' 2>/dev/null").out, "g\n");
  EXPECT_TRUE(place_.state.functions["g"].exported);
  EXPECT_FALSE(place_.state.functions["h"].exported);
}

TEST_F(BashTest, ChangesDirectoryBack) {
  place_.Run("cd /usr");
  place_.Run("cd - >/dev/null");
  EXPECT_EQ(place_.Run("pwd").out, place_.dir() + "\n");
}

// Definitions whose printed form must give the very same function again.
constexpr const char* kNastyFunctions = R"XX(
shopt -s extglob
foo-bar() { echo; }
function a.b { echo; }
function [x { echo; } 2>/dev/null
@x() { :; }
a:b/c() { :; }
ünï() { :; }
function if2 { :; }
function time { :; }
function while { :; }
-x() { :; }
function 1a { :; }
function a=b { :; }
function ! { :; }
function {x { :; }
exec() { echo no; }
exit() { echo no; }
eval() { echo no; }
printf() { echo no; }
sub() ( echo hi )
redir() { echo hi; } >/dev/null 2>&1
tail() { cat; } <<'E'
tail text '
E
forf() for i in 1 2; do echo $i; done
cond() [[ -n $1 && $2 == @(a|b) ]]
arith() (( $1 > 2 ))
iff() if true; then echo; fi
heredocs() { cat <<EOF; cat <<-'E2' | sort
x $y ' "
nobody () 
{ 
EOF
	tab 'q'
	E2
echo 'multi
} line'; }
nest() { inner() { echo; }; function i-2 { echo "$@"; }; inner; }
cs() { case $1 in a|b) echo $(case x in x) echo;; esac);; *) ;; esac; }
eg() { case $1 in @(a|b)) echo yes;; !(c)) echo no;; esac; ls !(x) +([0-9]); }
cop() { coproc C { cat; }; }
bt() { echo `ls 'x' "y\`z\`"`; }
arr() { local -a a=(1 2 "x y"); a[1]=$'\n\t\'\\\001'; echo "${a[@]/#/x}" "${!a}" <(ls) <<<"x $x"; }
pipes() { ! a | b && c || d & { e; } |& f; }
select_() { select x in 1; do break; done; until false; do :; done; for ((i=0;i<3;i++)); do :; done; }
hash_() { echo a#b '# c' "${x##*/}" ${x//\'/\"}; }
ansi() { echo $'it\'s' $"loc" "\$x \`y\`" \' \" \\; }
traced() { :; }; declare -ft traced
long_() { echo 'declare -f x' "
declare -fx fake
}"; }
export -f ansi heredocs
)XX";

TEST_F(BashTest, RestoresNastyFunctionsExactly) {
  Ran first = place_.Run(kNastyFunctions);
  EXPECT_EQ(first.err, "");
  ASSERT_TRUE(first.after) << first.why;
  State state = place_.state;
  EXPECT_GE(state.functions.size(), 38U);
  Ran second = place_.Run(":");
  ASSERT_TRUE(second.after) << second.why;
  for (const auto& [name, function] : state.functions) {
    EXPECT_EQ(second.after->functions[name].body, function.body) << name;
    EXPECT_EQ(second.after->functions[name].exported, function.exported) << name;
  }
  EXPECT_EQ(place_.state, state);
  EXPECT_EQ(place_.Run("shopt extglob | cut -f2").out, "off\n");
}

TEST_F(BashTest, RefusesAFunctionTextThatCouldBeReadTwoWays) {
  Ran ran =
      place_.Run("b() { :; }; a() { cat <<E\nb () \n{ \n    touch pwned\n}\nE\n}; export X=1");
  EXPECT_FALSE(ran.after);
  EXPECT_EQ(ran.why, "ambiguous function text");
  EXPECT_THAT(place_.state.env, Not(Contains(Key("X"))));
  EXPECT_TRUE(place_.Run("c() { cat <<E\nnobody () \n{ \nE\n}").after);
}

TEST_F(BashTest, LeavesOutReadOnlyAndReservedFunctions) {
  Ran ran = place_.Run(
      "r() { :; }; readonly -f r; k() { :; }; builtin() { echo B; }; command() { echo C; }");
  ASSERT_TRUE(ran.after) << ran.why;
  EXPECT_EQ(ran.after->functions.size(), 1U);
  EXPECT_THAT(ran.after->functions, Contains(Key("k")));
}

TEST_F(BashTest, KeepsNastyAliases) {
  Ran ran = place_.Run(
      "alias -- -x='ls' q=\"a'b\" m='a\nb' n=$'\\001' '{=echo brace' é='e $(touch pwned)' "
      "empty='' tr='x '; :");
  ASSERT_TRUE(ran.after) << ran.why;
  EXPECT_EQ(ran.after->aliases.size(), 8U);
  EXPECT_EQ(ran.after->aliases["q"], "a'b");
  EXPECT_EQ(ran.after->aliases["m"], "a\nb");
  State state = place_.state;
  EXPECT_EQ(place_.Run("x=1").err, "");
  EXPECT_EQ(place_.state, state);
}

TEST_F(BashTest, KeepsValuesButNotAttributes) {
  Ran ran = place_.Run(
      "declare -ix I=5; declare -lx L=ABC; declare -ux U=abc; declare -ax AR=(1 'x\ny'); "
      "declare -Ax AA=([k]=v); declare -nx NR=I; declare -rx R=1; export E");
  ASSERT_TRUE(ran.after) << ran.why;
  EXPECT_EQ(ran.after->env["I"], "5");
  EXPECT_EQ(ran.after->env["L"], "abc");
  EXPECT_EQ(ran.after->env["U"], "ABC");
  for (const char* name : {"AR", "AA", "NR", "R", "E"})
    EXPECT_THAT(ran.after->env, Not(Contains(Key(name))));
}

TEST_F(BashTest, CapturesInPosixMode) {
  for (const char* end : {"exit 3", "(exit 3)"}) {
    Ran ran = place_.Run(std::string("set -o posix; export A='x y'; alias a='b c'; "
                                     "declare -ax AR=(1); f() { :; }; ") +
                         end);
    EXPECT_EQ(ran.code, 3);
    ASSERT_TRUE(ran.after) << ran.why;
    EXPECT_EQ(ran.after->env["A"], "x y");
    EXPECT_EQ(ran.after->aliases["a"], "b c");
    EXPECT_THAT(ran.after->functions, Contains(Key("f")));
  }
}

TEST_F(BashTest, CapturesPastUserTrapsAndAliases) {
  for (const char* setup :
       {"trap 'echo D' DEBUG",
        "set -ET; trap 'echo E' ERR; trap 'echo D' DEBUG; trap 'echo R' RETURN",
        "alias builtin='echo B' export=true declare=true pwd='echo /' printf=true set=true",
        ("declare() { :; }; printf() { :; }; pwd() { echo /; }; export() { :; }; "
         "builtin() { echo B; }"),
        "shopt -s extglob nullglob failglob nocaseglob dotglob",
        "set -o pipefail -o errtrace -o functrace"}) {
    for (const char* end : {"\\exit 3", "(\\exit 3)"}) {
      Ran ran = place_.RunOnly("shopt -s expand_aliases; A=1; export A\n" + std::string(setup) +
                               "\n" + end);
      EXPECT_EQ(ran.code, 3) << setup;
      ASSERT_TRUE(ran.after) << setup << ": " << ran.why;
      EXPECT_EQ(ran.after->env["A"], "1");
      EXPECT_EQ(ran.after->cwd, place_.dir());
    }
  }
}

// Lines that differ between any two shells, or hold the script itself.
bool IsVolatile(std::string_view line) {
  for (std::string_view name : {"BASH_EXECUTION_STRING", "BASHPID", "RANDOM", "EPOCH", "PPID",
                                " _=", "PIPESTATUS", "SECONDS", "BASH_ARGC"})
    if (line.find(name) != std::string_view::npos) return true;
  return false;
}

std::string WithoutVolatile(const std::string& text) {
  std::string kept;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (!IsVolatile(line)) kept += line + "\n";
  return kept;
}

TEST_F(BashTest, ShowsTheScriptOnlyOurTrap) {
  const std::string listing = "declare -p; declare -F; alias; shopt -p; set -o";
  std::string ours = place_.Run(listing).out;
  std::string plain = place_.RunPlain("shopt -s expand_aliases; " + listing).out;
  EXPECT_EQ(WithoutVolatile(ours), WithoutVolatile(plain));
  EXPECT_THAT(ours, Not(HasSubstr("HERMES")));
  EXPECT_THAT(place_.Run("trap -p").out, StartsWith("trap -- "));
}

TEST_F(BashTest, SourcesTheStartupFileOnce) {
  WriteFile(place_.dir() + "/env", "echo sourced\n");
  place_.state.env["BASH_ENV"] = place_.dir() + "/env";
  EXPECT_EQ(place_.Run("echo ran").out, "sourced\nran\n");
}

TEST_F(BashTest, KeepsTheUsersOwnSudoFunction) {
  place_.Run("sudo() { echo mine; }");
  EXPECT_EQ(place_.Run("sudo x", {.sudo_askpass = true}).out, "mine\n");
  EXPECT_THAT(place_.state.functions, Contains(Key("sudo")));
}

TEST_F(BashTest, RestoresWhatItCanOfAForgedState) {
  place_.state.functions["a"] = {"b () \n{ \n    :\n}", false};
  place_.state.functions["c"] = {"c () \n{ \n    (", false};
  place_.state.functions["d d"] = {"d d () \n{ \n    :\n}", false};
  place_.state.functions["e"] = {"echo pwned", true};
  place_.state.functions["good"] = {"good () \n{ \n    echo good\n}", true};
  place_.state.aliases["x y"] = "1";
  place_.state.aliases["z;touch pwned"] = "1";
  place_.state.aliases["fine"] = "echo '";
  Ran ran = place_.RunOnly("good; declare -F; alias -p");
  EXPECT_EQ(ran.out, "good\ndeclare -fx good\nalias fine='echo '\\'''\n");
  EXPECT_EQ(ran.err, "");
}

TEST_F(BashTest, CarriesALargeState) {
  for (int i = 0; i < 700; ++i) {
    std::string name = "function_" + std::to_string(i);
    std::string body = name + " () \n{ \n";
    for (int k = 0; k < 10; ++k)
      body += "    echo \"some text $1\" 'and more' " + std::to_string(k) + (k == 9 ? "\n" : ";\n");
    place_.state.functions[name] = {body + "}", false};
  }
  State state = place_.state;
  Ran ran = place_.Run("true");
  ASSERT_TRUE(ran.after) << ran.why;
  EXPECT_EQ(place_.state, state);
  EXPECT_GT(ran.capture.size(), 250000U);
  RecordProperty("capture_bytes", static_cast<int>(ran.capture.size()));
  RecordProperty("microseconds", static_cast<int>(ran.seconds * 1e6));
}

TEST_F(BashTest, CapturesNoMoreThanTheLimit) {
  Ran ran = place_.Run("for i in {1..40}; do printf -v x '%0120000d' 1; export V$i=$x; done");
  EXPECT_FALSE(ran.after);
  EXPECT_EQ(ran.why, "too large");
}

}  // namespace
}  // namespace hermes::shell
