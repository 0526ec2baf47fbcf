#!/usr/bin/env python3
"""tests/run counts what ctest reports, and cannot be green by accident."""

import contextlib
import io
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import stages  # noqa: E402

JUNIT = """<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="x" tests="5">
<testcase name="A.Passes" status="run"><system-out>odd byte: \x01</system-out></testcase>
<testcase name="A.Skips" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/><system-out>[ RUN ] A.Skips
a_test.cc:3: Skipped
no pty here
[  SKIPPED ] A.Skips
</system-out></testcase>
<testcase name="script" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/><system-out>no systemd
</system-out></testcase>
<testcase name="A.Off" status="disabled"><system-out>Disabled</system-out></testcase>
<testcase name="A.Fails" status="fail"><failure message=""/><system-out>boo</system-out></testcase>
</testsuite>
"""

# One entry with many tests in it.
ROW = """<testsuite name="x" tests="1"><testcase name="row" status="{status}">{failure}<system-out>Running main()
[ RUN      ] A.Passes
noise
[       OK ] A.Passes (1 ms)
[ RUN      ] A.Skips
a_test.cc:3: Skipped
no pty here
[  SKIPPED ] A.Skips (0 ms)
[ RUN      ] A.Last
noise
a_test.cc:7: Failure
it is 2
{end}</system-out></testcase></testsuite>
"""


class StagesTest(unittest.TestCase):
    def setUp(self):
        self.run_ = stages.Run(deep=False, filter_by=None)
        self.run_.stage = "test"
        real = dict(stages.STAGES)
        self.addCleanup(lambda: (stages.STAGES.clear(), stages.STAGES.update(real)))

    def outcome(self, *stage_functions, keep_going=False, limit=30):
        """(last line, whole output) of a run of these stages."""
        stages.STAGES.clear()
        names = [f"s{number}" for number in range(len(stage_functions))]
        for name, function in zip(names, stage_functions):
            stages.STAGES[name] = (function, "normal", "a stage of a test")
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            rows = stages.execute(self.run_, names, keep_going)
            stages.report(self.run_, rows, names, limit)
        return output.getvalue().rstrip("\n").split("\n")[-1], output.getvalue()

    def test_junit_is_counted_with_reasons(self):
        with tempfile.NamedTemporaryFile("w", suffix=".xml", encoding="utf-8") as file:
            file.write(JUNIT)
            file.flush()
            self.assertEqual(self.run_.count(file.name), 1)
        self.assertEqual(self.run_.passed, 1)
        self.assertEqual(self.run_.failed, ["test: A.Fails\n    boo"])
        self.assertEqual(self.run_.skipped, [("test: A.Skips", "no pty here"), ("test: script", "no systemd"),
                                             ("test: A.Off", "disabled in the source")])

    def row(self, status, end):
        failure = '<failure message=""/>' if status == "fail" else ""
        with tempfile.NamedTemporaryFile("w", suffix=".xml", encoding="utf-8") as file:
            file.write(ROW.format(status=status, failure=failure, end=end))
            file.flush()
            return self.run_.count(file.name)

    def test_each_test_of_a_row_counts_and_says_what_it_has_to_complain_of(self):
        self.assertEqual(self.row("fail", "[  FAILED  ] A.Last (0 ms)\n"), 1)
        self.assertEqual((self.run_.passed, self.run_.skipped), (1, [("test: row: A.Skips", "no pty here")]))
        self.assertEqual(self.run_.failed,
                         ["test: row: A.Last\n    a_test.cc:7: Failure\n    it is 2\n    [  FAILED  ] A.Last (0 ms)"])

    def test_a_row_that_dies_fails_with_its_last_test(self):
        self.assertEqual(self.row("fail", ""), 1)
        self.assertIn("row: A.Last", self.run_.failed[0])

    def test_a_row_that_fails_after_its_last_test_has_failed(self):
        self.assertEqual(self.row("fail", "[       OK ] A.Last (0 ms)\na process is left\n"), 1)
        self.assertIn("row: at its end", self.run_.failed[0])

    def test_a_row_that_passes_fails_in_nothing(self):
        self.assertEqual(self.row("run", "[       OK ] A.Last (0 ms)\n"), 0)
        self.assertEqual(self.run_.passed, 2)

    def test_the_last_line_holds_the_totals(self):
        last, _ = self.outcome(lambda run: run.one("x", True), lambda run: run.one("y", True))
        self.assertEqual(last, "2 passed, 0 failed, 0 skipped")

    def test_a_failed_stage_ends_the_run_unless_told_otherwise(self):
        last, output = self.outcome(lambda run: run.one("x", False), lambda run: run.one("y", True))
        self.assertEqual(last, "0 passed, 1 failed, 0 skipped")
        self.assertIn("s1       not run", output)

    def test_keep_going_runs_the_rest(self):
        last, _ = self.outcome(lambda run: run.one("x", False), lambda run: run.one("y", True), keep_going=True)
        self.assertEqual(last, "1 passed, 1 failed, 0 skipped")

    def test_a_command_that_fails_and_a_fault_of_a_stage_both_count(self):
        def wrong(run):
            raise ValueError("a fault")
        last, output = self.outcome(lambda run: run.must(["false"]), wrong, keep_going=True)
        self.assertEqual(last, "0 passed, 2 failed, 0 skipped")
        self.assertIn("FAILED   s0: false", output)

    def test_nothing_is_not_success(self):
        last, _ = self.outcome(lambda run: None)
        self.assertEqual(last, "0 passed, 1 failed, 0 skipped")

    def test_too_slow_is_a_failure(self):
        last, output = self.outcome(lambda run: run.one("x", True), limit=1e-12)
        self.assertEqual(last, "1 passed, 1 failed, 0 skipped")
        self.assertIn("time budget", output)

    def test_tests_do_not_see_the_callers_daemon(self):
        os.environ["HERMESD_SOCKET"] = "/somewhere"
        self.addCleanup(os.environ.pop, "HERMESD_SOCKET")
        self.assertNotIn("HERMESD_SOCKET", stages.environment(deep=False))
        self.assertEqual(stages.environment(deep=True)["HERMES_DEEP"], "1")


if __name__ == "__main__":
    unittest.main()
