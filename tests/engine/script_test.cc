#include "backends/engine/script.h"

#include <gtest/gtest.h>
#include <ostream>
#include <tuple>

#include "tests/fakes/shell_place.h"

namespace hermes::shell {
namespace {

// Scripts whose whole behaviour must be that of `shell -c script`.
struct Script {
  const char* name;
  const char* text;
};

std::ostream& operator<<(std::ostream& out, const Script& script) { return out << script.name; }

std::string Replaced(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

// What may differ: who reports a syntax error, and how deep a trace says it is.
std::string Normal(std::string text) {
  return Replaced(Replaced(std::move(text), "bash: eval: line", "bash: -c: line"), "+++ ", "+ ");
}

class AsDashC : public testing::TestWithParam<Script> {};

TEST_P(AsDashC, BehavesAsBashDashC) {
  Place place = Bash();
  Ran plain = place.RunPlain(GetParam().text);
  Ran ours = place.Run(GetParam().text);
  EXPECT_EQ(Normal(ours.out), Normal(plain.out));
  EXPECT_EQ(Normal(ours.err), Normal(plain.err));
  EXPECT_EQ(ours.code, plain.code);
  EXPECT_EQ(ours.signal, plain.signal);
}

INSTANTIATE_TEST_SUITE_P(
    All, AsDashC,
    testing::Values(
        Script{"Empty", ""}, Script{"OnlyComment", "# nothing"}, Script{"OnlyNewlines", "\n\n\n"},
        Script{"Names",
               "echo \"$0\" \"$#\" \"$*\" \"$BASH_SUBSHELL\" \"${BASH_SOURCE[*]}\" ${FUNCNAME[*]}"},
        Script{"LastArgument", "echo ${_##*/}"}, Script{"FirstStatus", "echo $?"},
        Script{"LineNumbers", "echo $LINENO\n\necho $LINENO\nnosuch\nf() {\n  nosuch2\n}\nf\n"},
        Script{"ReturnAtTop", "return 3; echo after"}, Script{"BreakAtTop", "break; echo after"},
        Script{"UnclosedQuote", "echo one\necho \"abc"},
        Script{"UnclosedSingleQuote", "echo one\necho 'abc"},
        Script{"UnclosedSubstitution", "echo $(foo"}, Script{"UnclosedBrace", "{ echo a"},
        Script{"SyntaxErrorLater", "echo hi\nfoo )\necho x"},
        Script{"SyntaxErrorFirst", "foo ) bar"}, Script{"UnfinishedIf", "echo hi\nif true; then"},
        Script{"StrayHeredoc", "cat <<E\nabc $LINENO"},
        Script{"Heredoc", "cat <<'E'\n$x\nE\necho b"}, Script{"TrailingBackslash", "echo a\\"},
        Script{"TrailingComment", "echo a # b"}, Script{"UnsetError", "echo ${x?err}; echo next"},
        Script{"ArithmeticError", "echo $((1/0)); echo next"},
        Script{"ArithmeticErrorThenLine", "echo $((1/0))\necho next"},
        Script{"Nounset", "set -u; echo $zz; echo next"},
        Script{"Errexit", "set -e; false; echo no"}, Script{"ErrexitTrue", "set -e; true"},
        Script{"ErrexitInFunction", "set -e; f() { (exit 9); echo no; }; f"},
        Script{"ReadonlyError", "readonly q=1; q=2; echo next"}, Script{"Exit", "exit 37"},
        Script{"ExitInFunction", "f() { exit 6; }; f; echo no"},
        Script{"ExitInSubshell", "(exit 6); echo $?"}, Script{"LastFails", "(exit 5)"},
        Script{"ExecMissing", "exec nosuch; echo no"},
        Script{"Exec", "exec sh -c 'echo x; exit 4'"}, Script{"KillSelf", "kill -KILL $$"},
        Script{"TermSelf", "kill -TERM $$; echo no"},
        Script{"OwnTrap", "trap 'echo own $?' EXIT; (exit 5)"},
        Script{"OwnTrapEarly", "trap 'echo own $?' EXIT; exit 5"},
        Script{"OwnTrapExits", "trap 'exit 9' EXIT; true"},
        Script{"OwnTrapErrexit", "set -e; trap 'echo own $?' EXIT; false"},
        Script{"TrapRemoved", "trap - EXIT; exit 3"}, Script{"ErrTrap", "trap 'echo E' ERR; false"},
        Script{"DebugTrap", "trap 'echo D' DEBUG; : a; : b"},
        Script{"ErrTrace", "set -E; trap 'echo E' ERR; f() { false; }; f; true"},
        Script{"Xtrace", "set -x; echo a; :"}, Script{"XtraceExit", "set -x; echo a; exit 3"},
        Script{"XtraceToStdout", "BASH_XTRACEFD=1; set -x; echo a"},
        Script{"Verbose", "set -v\necho a\necho b"}, Script{"NoExec", "set -n; exit 3"},
        Script{"PosixMode", "set -o posix; export A=1; cd /usr; false"},
        Script{"PosixSyntaxError", "set -o posix\neval 'foo )'; echo x"},
        Script{"AllExport", "set -a; A=1; env | grep -c HERMES; set -o | grep allexport"},
        Script{"Keyword", "set -k; export A=1; true"}, Script{"Histexpand", "echo 'a!b' \"c!d\""},
        Script{"Pipefail", "set -o pipefail; (exit 3) | true"},
        Script{"NoClobber", "set -C; exit 2"}, Script{"Background", "(exit 3) & wait $!"},
        Script{"Coproc", "coproc cat; echo x >&${COPROC[1]}; read -r y <&${COPROC[0]}; echo $y"},
        Script{"ClosedOutputs", "exec 1>&- 2>&-; exit 4"},
        Script{"NoFileSize", "ulimit -f 0; (exit 7)"},
        Script{"NoFileSizeExit", "ulimit -f 0; exit 7"},
        Script{"FunctionsNamedLikeBuiltins",
               "exit() { echo x; }; trap() { echo t; }; eval() { :; }; printf() { echo p; }; "
               "declare() { echo d; }; export() { echo e; }; set() { echo s; }; pwd() { echo w; }; "
               "(builtin exit 5)"},
        Script{"FunctionBuiltin", "builtin() { echo b; }; (exit 5)"},
        Script{"FunctionCommand", "command() { echo c; }; (exit 5)"},
        Script{"AliasInScript", "shopt -s expand_aliases\nalias ll='echo L'\nll"},
        Script{"HostileAliases",
               "shopt -s expand_aliases\nalias builtin='echo B' exit='echo X' '{=echo' case='echo' "
               "printf=false\nfalse"},
        Script{"HostileAliasesExit",
               "shopt -s expand_aliases\nalias builtin='echo B' set='echo X'\n\\exit 3"},
        Script{"Ifs", "IFS=0123456789abcdef/; (exit 15)"},
        Script{"OneCommand", "set -t; echo a; echo b"},
        Script{"Quotes", "echo 'it'\\''s' \"a'b\" $'c\\'d' ''''''"},
        Script{"DescriptorsClean",
               "for f in 3 4 5 6 7 8 9; do { : <&$f; } 2>/dev/null && echo $f; done; true"}),
    [](const auto& info) { return info.param.name; });

class PosixAsDashC : public testing::TestWithParam<std::tuple<const char*, Script>> {};

TEST_P(PosixAsDashC, BehavesAsShDashC) {
  auto [shell, script] = GetParam();
  Place place(Kind::kSh, std::string_view(shell) == "dash"
                             ? std::vector<std::string>{"dash"}
                             : std::vector<std::string>{"busybox", "sh"});
  Ran plain = place.RunPlain(script.text);
  Ran ours = place.Run(script.text);
  EXPECT_EQ(ours.out, plain.out);
  EXPECT_EQ(ours.err.empty(), plain.err.empty()) << ours.err << plain.err;
  EXPECT_EQ(ours.code, plain.code);
  EXPECT_EQ(ours.signal, plain.signal);
}

INSTANTIATE_TEST_SUITE_P(
    All, PosixAsDashC,
    testing::Combine(
        testing::Values("dash", "busybox"),
        testing::Values(Script{"Empty", ""}, Script{"Names", "echo \"$0\" \"$#\" \"$*\""},
                        Script{"Return", "return 3"}, Script{"UnclosedQuote", "echo \"abc"},
                        Script{"SyntaxErrorLater", "echo hi\nfoo )"},
                        Script{"UnsetError", "echo ${x?err}; echo next"},
                        Script{"Heredoc", "cat <<E\nabc"}, Script{"Nounset", "set -u; echo $zz"},
                        Script{"Errexit", "set -e; false; echo no"}, Script{"Exit", "exit 37"},
                        Script{"ExitInFunction", "f() { exit 6; }; f"},
                        Script{"LastFails", "(exit 5)"}, Script{"ExecMissing", "exec nosuch"},
                        Script{"Exec", "exec sh -c 'echo x; exit 4'"},
                        Script{"TermSelf", "kill -TERM $$"},
                        Script{"OwnTrap", "trap 'echo own $?' EXIT; (exit 5)"},
                        Script{"OwnTrapEarly", "trap 'echo own $?' EXIT; exit 5"},
                        Script{"Xtrace", "set -x; :"}, Script{"XtraceExit", "set -x; exit 3"},
                        Script{"AllExport", "set -a; A=1; env | grep -c HERMES"},
                        Script{"NoClobber", "set -C; exit 2"},
                        Script{"ClosedOutputs", "exec 1>&- 2>&-; exit 4"},
                        Script{"NoFileSize", "ulimit -f 0; (exit 7)"},
                        Script{"NoFileSizeExit", "ulimit -f 0; exit 7"},
                        Script{"Functions", "printf() { echo p; }; pwd() { echo w; }; (exit 5)"},
                        Script{"Aliases", "alias printf=false pwd=false set=echo\n(exit 5)"},
                        Script{"DescriptorsClean",
                               "for f in 3 4 5 6 7 8 9; do { eval \": <&$f\"; } 2>/dev/null && "
                               "echo $f; done; true"})),
    [](const auto& info) {
      return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param).name;
    });

TEST(BootTest, IsOneLineSoThatLinesOfTheScriptCountFromOne) {
  EXPECT_EQ(Boot(Kind::kBash).find('\n'), std::string_view::npos);
  EXPECT_EQ(Boot(Kind::kSh).find('\n'), std::string_view::npos);
}

}  // namespace
}  // namespace hermes::shell
