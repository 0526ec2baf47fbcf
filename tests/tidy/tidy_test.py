#!/usr/bin/env python3
"""Each rule is shown to fail on a small tree that breaks it, and to be quiet on one that does not."""

import json
import os
import shutil
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True

import built  # noqa: E402
import includes  # noqa: E402
import source  # noqa: E402
import style  # noqa: E402

GOOD = "#pragma once\n"
COMPILER = "clang++-19"


class TidyTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="tidy-")
        self.addCleanup(self.folder.cleanup)

    def tree(self, files):
        """A tree of just these files; build output stays."""
        for name in os.listdir(self.folder.name):
            path = os.path.join(self.folder.name, name)
            if name != "build":
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        for path, text in files.items():
            full = os.path.join(self.folder.name, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as file:
                file.write(text)
        return source.Tree(self.folder.name)

    def expect(self, rule, files, *hits):
        """`hits`: "path:line word" for every finding, in order."""
        found = sorted(set(rule(self.tree(files))))
        self.assertEqual(len(found), len(hits), "\n".join(map(str, found)))
        for finding, hit in zip(found, hits):
            where, _, word = hit.partition(" ")
            self.assertEqual(f"{finding.path}:{finding.line}", where)
            self.assertIn(word, finding.message)

    def expect_lines(self, rule, path, good, bad):
        """Every line of `bad` is found, none of `good` is."""
        self.expect(rule, {path: "".join(f"{line}\n" for line in good)})
        hits = [f"{path}:{number} " for number in range(1, len(bad) + 1)]
        self.expect(rule, {path: "".join(f"{line}\n" for line in bad)}, *hits)


class ArrowsTest(TidyTest):
    def include(self, path, name):
        return list(includes.check_arrows(self.tree({path: f'#include "{name}"\n'})))

    def test_every_layer_may_look_down(self):
        for path, name in (
                ("daemon/runtime/a.cc", "daemon/runtime/loop.h"),
                ("sync/a.cc", "daemon/runtime/loop.h"),
                ("backends/engine/a.cc", "backends/backend.h"),
                ("backends/engine/a.cc", "sync/remote_tree.h"),
                ("backends/local/a.cc", "backends/engine/script.h"),
                ("backends/modal/a.cc", "backends/http/client.h"),
                ("backends/runner/a.cc", "backends/engine/frames.h"),
                ("backends/runner/a.cc", "sync/name_rules.h"),
                ("daemon/core/a.cc", "backends/backend.h"),
                ("daemon/rpc/a.cc", "daemon/core/session.h"),
                ("daemon/main.cc", "backends/local/local.h"),
                ("client/a.cc", "hermes/v1/exec.pb.h"),
                ("tests/core/a_test.cc", "daemon/core/session.h")):
            self.assertEqual(self.include(path, name), [], f"{path} -> {name}")

    def test_no_layer_may_look_up_or_aside(self):
        for path, name in (
                ("daemon/runtime/a.cc", "daemon/core/session.h"),
                ("daemon/runtime/a.h", "backends/backend.h"),
                ("sync/a.cc", "backends/backend.h"),
                ("backends/backend.h", "backends/engine/frames.h"),
                ("backends/engine/a.cc", "backends/local/local.h"),
                ("backends/local/a.cc", "backends/ssh/ssh.h"),
                ("backends/local/a.cc", "daemon/core/session.h"),
                ("backends/runner/a.cc", "backends/engine/runner_engine.h"),
                ("backends/runner/a.cc", "daemon/runtime/loop.h"),
                ("backends/runner/a.cc", "sync/manifest.h"),
                ("daemon/core/a.cc", "daemon/rpc/server.h"),
                ("daemon/core/a.cc", "backends/local/local.h"),
                ("daemon/core/a.cc", "hermes/v1/exec.pb.h"),
                ("daemon/rpc/a.cc", "client/render.h"),
                ("client/a.cc", "daemon/runtime/status.h"),
                ("daemon/core/a.cc", "tests/fakes/clock.h")):
            self.assertEqual(len(self.include(path, name)), 1, f"{path} -> {name}")

    def test_includes_are_spelled_from_the_root(self):
        self.expect(includes.check_spelling, {
            "sync/a.h": GOOD,
            "sync/b.cc": '#include "a.h"\n#include "../sync/a.h"\n#include <sync/a.h>\n#include "sync/a.h"\n',
        }, "sync/b.cc:1 write sync/a.h", "sync/b.cc:2 relative", "sync/b.cc:3 quotes")


class LibrariesTest(TidyTest):
    def test_a_library_has_one_home(self):
        self.expect(includes.check_libraries, {
            "daemon/core/store.cc": "#include <sqlite3.h>\n",
            "daemon/runtime/log.cc": "#include <spdlog/spdlog.h>\n",
            "daemon/rpc/server.h": "#include <grpcpp/server.h>\n",
            "tests/e2e/a_test.cc": "#include <grpcpp/channel.h>\n",
            "tests/core/store_test.cc": "#include <sqlite3.h>\n",
        })

    def test_a_second_includer_is_found(self):
        self.expect(includes.check_libraries, {
            "daemon/core/store.cc": "#include <sqlite3.h>\n",
            "daemon/core/table.cc": "#include <sqlite3.h>\n",
        }, "daemon/core/store.cc:0 2 files", "daemon/core/table.cc:0 2 files")

    def test_a_foreign_includer_is_found(self):
        self.expect(includes.check_libraries, {
            "backends/local/a.cc": "#include <spdlog/spdlog.h>\n",
            "daemon/core/a.cc": "\n#include <grpcpp/server.h>\n",
            "tests/core/a_test.cc": '#include "hermes/v1/exec.grpc.pb.h"\n',
        }, "backends/local/a.cc:1 spdlog", "daemon/core/a.cc:2 grpcpp", "tests/core/a_test.cc:1 gRPC")

    def test_a_header_that_names_what_it_does_not_include_is_found(self):
        self.expect(includes.check_names, {
            "sync/a.h": "#include <string>\nstd::string a; std::vector<int> b;\n",
            "sync/b.h": '#include "sync/c.h"\nstd::vector<int> b; absl::Status s;\n',
            "sync/c.h": "#include <vector>\n#include <absl/status/statusor.h>\n// std::optional is none here\n",
            "sync/a.cc": "std::optional<int> the_compiler_sees_to_it;\n",
        }, "sync/a.h:2 std::vector")

    def test_a_header_that_nobody_includes_is_dead(self):
        self.expect(includes.check_dead_headers, {
            "sync/used.h": GOOD, "sync/unused.h": GOOD, "sync/a.cc": '#include "sync/used.h"\n',
        }, "sync/unused.h:0 nobody")


class SizesTest(TidyTest):
    def test_a_long_file_is_found(self):
        self.expect(style.check_file_length, {"sync/a.cc": "\n" * 600, "sync/b.cc": "\n" * 601},
                    "sync/b.cc:0 601")

    def test_a_long_function_is_found_wherever_it_stands(self):
        body = "  int x = 0;\n"
        short, long = body * 68, body * 69
        free = "int F(int a) {\n%s}\n"
        method = "namespace n {\nclass C : public B<int()> {\n public:\n  C() : a_{1} {}\n  int M() const {\n%s  }\n};\n}\n"
        test = "TEST(A, B) {\n  if (x) {\n%s  }\n}\n"
        for shape, line in ((free, 1), (method, 5)):
            self.expect(style.check_function_length, {"sync/a.cc": shape % short})
            self.expect(style.check_function_length, {"sync/a.cc": shape % long}, f"sync/a.cc:{line} 71")
        self.expect(style.check_function_length, {"sync/a.cc": test % short}, "sync/a.cc:1 72")

    def test_a_long_class_or_table_is_no_function(self):
        rows = "  int x = F(1);\n" * 90
        table = "  {1, F(2)},\n" * 90
        self.expect(style.check_function_length, {
            "sync/a.cc": f"class C {{\n{rows}}};\n", "sync/b.cc": f"const T k[] = {{\n{table}}};\n",
            "sync/c.cc": f"const auto* k = new T({{\n{table}}});\n", "sync/d.cc": f"namespace a {{\n{rows}}}\n"})

    def test_braces_in_literals_and_comments_do_not_count(self):
        self.expect(style.check_function_length, {
            "sync/a.cc": "void F() {\n  a = '{'; b = \"{{\"; // {\n  c = R\"({)\"; /* { */ n = 1'000;\n}\n" + "\n" * 90
                         + "void G() {}\n"})


class BannedTest(TidyTest):
    def test_tests_do_not_sleep(self):
        self.expect_lines(style.check_banned, "tests/core/a_test.cc",
                          ["co_await clock.SleepFor(1s);", 'Run("sleep (1)");', "// usleep(1)", "no_sleep(1);"],
                          ["std::this_thread::yield();", "usleep(5);", "  sleep(1);", "::sleep (1);"])
        self.expect(style.check_banned, {"tests/e2e/a_test.cc": "std::this_thread::sleep_for(x);\n"})

    def test_only_runtime_reads_clocks(self):
        bad = ["asio::steady_timer t(e);", "auto n = std::chrono::steady_clock::now();",
               "system_clock::now();", "auto t = time(nullptr);"]
        self.expect_lines(style.check_banned, "daemon/core/a.cc", ["clock_.Now();", "time(&x);"], bad)
        self.expect(style.check_banned, {"daemon/runtime/a.cc": "\n".join(bad)})

    def test_tests_of_real_processes_may_measure_but_not_by_the_wall(self):
        self.expect_lines(style.check_banned, "tests/engine/a_test.cc", ["auto t = std::chrono::steady_clock::now();"],
                          ["auto t = std::chrono::system_clock::now();"])

    def test_only_runtime_makes_randomness(self):
        self.expect_lines(style.check_banned, "sync/a.cc", ["random.Next();", "Brand();"],
                          ["int x = rand();", "std::random_device d;", "srand(1);"])

    def test_what_links_grpc_does_not_fork(self):
        self.expect_lines(style.check_banned, "daemon/rpc/a.cc", ["posix_spawn(x);", "// fork()", "pitchfork();"],
                          ["pid = fork();", "::vfork();"])
        self.expect(style.check_banned, {"backends/runner/a.cc": "fork();\n"})

    def test_other_habits(self):
        self.expect_lines(style.check_banned, "sync/a.cc",
                          ["using std::string;", "using namespace std::chrono_literals;", "std::rethrow_exception(e);", "#ifndef NDEBUG"],
                          ["using namespace std;", "#include <asio/experimental/awaitable_operators.hpp>",
                           "absl::Mutex m;", "absl::Notification n;", "throw x;", "#ifndef SYNC_A_H_"])
        self.expect(style.check_banned, {"daemon/rpc/a.cc": "absl::Mutex m;\n"})

    def test_headers_use_pragma_once(self):
        self.expect(style.check_pragma_once, {"sync/a.h": "int x;\n", "sync/b.h": "// b\n#pragma once\n"},
                    "sync/a.h:0 pragma")


class TextTest(TidyTest):
    def test_text_is_clean(self):
        marker = "TO" + "DO"
        self.expect_lines(style.check_text, "sync/a.h", ["x", "a" * 100, "see /usr/bin, ~/work/x, $D/root/x"],
                          ["a" * 101, "\tx", "x;  x ", f"// {marker}: later", '"/ho' + 'me/someone/x"', '"/wo' + 'rk/x"'])
        self.expect(style.check_text, {"sync/a.h": "x"}, "sync/a.h:1 newline")

    def test_raw_strings_may_hold_anything(self):
        self.expect(style.check_text, {"tests/a_test.cc": 'x = R"sh(\n\tx \n)sh";\n\ty\n'}, "tests/a_test.cc:4 tab")

    def test_documents_may_have_long_lines_and_corpora_anything(self):
        self.expect(style.check_text, {"README.md": "a" * 300 + "\n", "proto/a.proto": "a" * 120 + "\n",
                                       "tests/fuzz/corpus/frames/a.txt": "\t "})

    def test_folders_have_a_page_each(self):
        files = {path: "x\n" for path in ("README.md", "daemon/README.md", "daemon/core/README.md",
                                          "daemon/core/a.cc", "sync/README.md", ".ci/run")}
        self.expect(style.check_folders, files)
        self.expect(style.check_folders, {**files, "sync/README.md": "x\n" * 61, "client/a.cc": "", "utils/a.cc": "",
                                          "backends/local/a.cc": ""},
                    "backends/README.md:0 missing", "backends/local/README.md:0 missing",
                    "client/README.md:0 missing", "sync/README.md:0 page", "utils/README.md:0 missing",
                    "utils/a.cc:0 top level")


class BuildTest(TidyTest):
    FILES = {
        "sync/good.h": "#pragma once\n#include <string>\nstd::string F();\n",
        "sync/needs.h": "#pragma once\nstd::string G();\n",
        "sync/twice.h": "struct S {};\n",
        "sync/a.cc": "int x;\n",
        "sync/lost.cc": "int y;\n",
    }

    def build(self):
        root = self.folder.name
        command = f"{COMPILER} -std=c++20 -g1 -Xclang -include-pch -Xclang none.pch -c {root}/sync/a.cc -o a.o"
        entry = {"directory": root, "file": f"{root}/sync/a.cc", "command": command}
        path = os.path.join(root, "build", "compile_commands.json")
        self.tree({"build/compile_commands.json": json.dumps([entry]), "build/build.ninja": "build a.o: sync/a.cc\n"})
        return os.path.dirname(path)

    def test_a_header_compiles_alone_and_twice(self):
        build = self.build()
        self.expect(lambda tree: built.check_headers(tree, build, 2), self.FILES,
                    "sync/needs.h:0 std", "sync/twice.h:0 redefinition")

    def test_success_is_remembered_until_an_included_file_changes(self):
        build = self.build()
        files = {"sync/low.h": "#pragma once\nusing T = int;\n",
                 "sync/high.h": '#pragma once\n#include "sync/low.h"\nT F();\n'}
        check = lambda tree: built.check_headers(tree, build, 2)  # noqa: E731
        self.expect(check, files)
        compiled = []
        real = built.compile_alone
        built.compile_alone = lambda tree, path, flags: compiled.append(path) or real(tree, path, flags)
        self.addCleanup(setattr, built, "compile_alone", real)
        self.expect(check, files)
        self.assertEqual(compiled, [])
        self.expect(check, {**files, "sync/low.h": "#pragma once\n"}, "sync/high.h:0 T")
        self.assertEqual(sorted(compiled), ["sync/high.h", "sync/low.h"])

    def test_a_header_that_its_own_source_includes_first_is_left_to_the_build(self):
        build = self.build()
        broken = "#pragma once\nstd::string F();\n"
        check = lambda tree: built.check_headers(tree, build, 2)  # noqa: E731
        self.expect(check, {"sync/a.h": broken, "sync/a.cc": '#include "sync/a.h"\n'})
        self.expect(check, {"sync/a.h": broken, "sync/a.cc": '#include <string>\n#include "sync/a.h"\n'},
                    "sync/a.h:0 std")

    def test_a_source_of_no_target_is_dead(self):
        build = self.build()
        self.expect(lambda tree: built.check_dead_sources(tree, build), self.FILES, "sync/lost.cc:0 no target")


if __name__ == "__main__":
    unittest.main()
