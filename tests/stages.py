"""The stages of tests/run: build, run, count, and keep to the time budget."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
import xml.etree.ElementTree

sys.dont_write_bytecode = True

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUDGET_MINUTES = 30  # the whole normal run on two cores, packages not counted
FUZZ_SECONDS = 300   # --deep, each target
COMPILER_MIB = 1200  # of the largest translation unit (gRPC's headers); fewer jobs on small machines
ASAN_TARGETS = ("engine_test", "runner_test", "core_test")  # and every fuzz target
TSAN_TARGETS = ("runtime_test", "core_test")


class Failure(Exception):
    """A stage cannot go on; it counts as one failed test."""


def jobs():
    cores = len(os.sched_getaffinity(0))
    with open("/proc/meminfo", encoding="ascii") as file:
        available = int(re.search(r"MemAvailable:\s+(\d+)", file.read()).group(1)) // 1024
    return max(1, min(cores, available // COMPILER_MIB))


def environment(deep):
    """The caller's, without what would point tests at somebody's daemon."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("HERMES", "NOTIFY_SOCKET", "LISTEN_"))}
    kept["ASAN_OPTIONS"] = "detect_stack_use_after_return=1:strict_string_checks=1"
    kept["UBSAN_OPTIONS"] = "print_stacktrace=1"
    kept["TSAN_OPTIONS"] = "halt_on_error=1:second_deadlock_stack=1"
    # One cache for every checkout: what another clone compiled from the same text is found here.
    kept["CCACHE_BASEDIR"] = ROOT
    kept["CCACHE_NOHASHDIR"] = "true"
    if deep:
        kept["HERMES_DEEP"] = "1"
    return kept


class Run:
    def __init__(self, deep, filter_by):
        self.deep = deep
        self.filter_by = filter_by
        self.env = environment(deep)
        self.passed = 0
        self.failed = []
        self.skipped = []  # (name, reason)
        self.stage = ""

    def call(self, words, **options):
        print("+", " ".join(words), flush=True)
        return subprocess.run(words, cwd=ROOT, env=self.env, check=False, **options).returncode

    def must(self, words):
        if self.call(words) != 0:
            raise Failure(" ".join(words[:6]))

    def one(self, name, ok):
        if ok:
            self.passed += 1
        else:
            self.failed.append(f"{self.stage}: {name}")

    def configure(self, preset):
        self.must(["cmake", "--preset", preset])

    def build(self, preset, targets=()):
        words = ["cmake", "--build", f"build/{preset}", "-j", str(jobs())]
        self.must(words + (["--target", *targets] if targets else []))

    def known(self, preset, wanted):
        """Of `wanted`, the targets that this configuration has; all fuzz targets besides."""
        listed = subprocess.run(["ninja", "-C", f"build/{preset}", "-t", "targets", "all"], cwd=ROOT,
                                capture_output=True, text=True, check=True).stdout
        names = set(re.findall(r"^(\w+): phony", listed, re.MULTILINE))
        fuzz = sorted(name for name in names if name.endswith("_fuzz"))
        return [name for name in wanted if name in names], fuzz

    def ctest(self, preset, *selection, parallel=True, verbose=False):
        report = os.path.join(ROOT, "build", preset, f"junit-{self.stage}.xml")
        if os.path.exists(report):
            os.remove(report)
        words = ["ctest", "--test-dir", f"build/{preset}", "--output-junit", report,
                 "-V" if verbose else "--output-on-failure", "--test-output-size-passed", "8192",
                 "--test-output-size-failed", "65536", "-j", str(jobs() if parallel else 1), *selection]
        if self.filter_by:
            words += ["-R", self.filter_by]
        status = self.call(words)
        if not os.path.exists(report):
            if status == 0:
                return  # nothing to run: no such test yet, or the filter matches none
            raise Failure(f"ctest wrote no report (exit {status})")
        if self.count(report) == 0 and status != 0:
            raise Failure(f"ctest failed without naming a test (exit {status})")

    def count(self, report):
        """Adds a JUnit file to the totals; returns how many tests of it failed."""
        with open(report, encoding="utf-8", errors="replace") as file:
            text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "?", file.read())  # output may be binary
        failed = 0
        for case in xml.etree.ElementTree.fromstring(text).iter("testcase"):
            name, status = case.get("name"), case.get("status")
            if status == "run":
                self.passed += 1
            elif status in ("notrun", "disabled") and case.find("failure") is None:
                self.skipped.append((f"{self.stage}: {name}", reason(case, status)))
            else:
                failed += 1
                self.failed.append(f"{self.stage}: {name}")
        return failed


def reason(case, status):
    """Why a test was skipped: what it printed just before it said so."""
    if status == "disabled":
        return "disabled in the source"
    lines = [line.strip() for line in (case.findtext("system-out") or "").split("\n") if line.strip()]
    for number, line in enumerate(lines):
        if line.endswith(": Skipped"):
            return lines[number + 1] if number + 1 < len(lines) else "no reason given"
    skipped = case.find("skipped")
    return lines[-1] if lines else (skipped.get("message") if skipped is not None else "no reason given")


def sources():
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in ("build", ".git")]
        for name in names:
            if name.endswith((".h", ".cc")):
                yield os.path.relpath(os.path.join(folder, name), ROOT)


def stage_format(run):
    files = sorted(sources())
    run.one("clang-format", run.call(["clang-format-19", "--dry-run", "-Werror", *files], stdout=subprocess.DEVNULL) == 0)


def stage_build(run):
    run.configure("dev")
    run.build("dev")
    run.one("build of everything", True)


def stage_tidy(run):
    run.ctest("dev", "-L", "^tidy$")


def stage_test(run):
    run.ctest("dev", "-LE", "^(tidy|bench|fuzz)$")


def stage_bench(run):
    run.ctest("dev", "-L", "^bench$", parallel=False, verbose=True)


def stage_asan(run):
    run.configure("asan")
    targets, fuzz = run.known("asan", ASAN_TARGETS)
    if targets + fuzz:
        run.build("asan", targets + fuzz)
        run.ctest("asan", "-L", "^(engine|runner|core|fuzz)$")


def stage_tsan(run):
    run.configure("tsan")
    targets, _ = run.known("tsan", TSAN_TARGETS)
    if targets:
        run.build("tsan", targets)
        run.ctest("tsan", "-L", "^(runtime|core)$")


def stage_fuzz(run):
    """Real fuzzing, each target from its corpus into a copy of it."""
    run.configure("fuzz")
    _, fuzz = run.known("fuzz", ())
    if not fuzz:
        return
    run.build("fuzz", fuzz)
    for target in fuzz:
        seeds = os.path.join(ROOT, "tests/fuzz/corpus", target.removesuffix("_fuzz"))
        grown = os.path.join(ROOT, "build/fuzz/corpus", target)
        os.makedirs(grown, exist_ok=True)
        words = [f"build/fuzz/bin/{target}", f"-max_total_time={FUZZ_SECONDS}", "-rss_limit_mb=1024", "-timeout=10",
                 f"-artifact_prefix=build/fuzz/{target}-", "-print_final_stats=1", grown]
        run.one(target, run.call(words + ([seeds] if os.path.isdir(seeds) else [])) == 0)


def stage_lint(run):
    run.one("clang-tidy", run.call([sys.executable, "tests/tidy/lint.py", "--build-dir", "build/dev"]) == 0)


# In order: what is quick and often wrong comes first.
STAGES = {
    "format": (stage_format, "normal", "clang-format over every C++ file"),
    "build": (stage_build, "normal", "preset dev, everything"),
    "tidy": (stage_tidy, "normal", "the rules of the house"),
    "test": (stage_test, "normal", "all tests of the dev build"),
    "bench": (stage_bench, "normal", "speed and size, one at a time"),
    "asan": (stage_asan, "normal", "address and undefined: engine, runner, core, replay of the fuzz corpora"),
    "tsan": (stage_tsan, "normal", "threads: runtime and core"),
    "fuzz": (stage_fuzz, "deep", f"libFuzzer, {FUZZ_SECONDS} s per target"),
    "lint": (stage_lint, "deep", "clang-tidy over what changed since it last succeeded"),
}


def parse():
    stages = "\n".join(f"  {name:8} {text}{' (--deep)' if when == 'deep' else ''}"
                       for name, (_, when, text) in STAGES.items())
    parser = argparse.ArgumentParser(
        prog="tests/run", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Installs what the tests need, builds, and runs every test.",
        epilog=f"stages, in order:\n{stages}\n\nThe last line is: N passed, N failed, N skipped")
    parser.add_argument("--deep", action="store_true", help="longer seeds, soak, fuzzing and clang-tidy; no time limit")
    parser.add_argument("--only", action="append", choices=STAGES, metavar="STAGE", help="just this stage (repeatable)")
    parser.add_argument("--keep-going", action="store_true", help="go on after a stage that failed")
    parser.add_argument("--filter", metavar="REGEX", help="of the tests, just those whose name matches")
    parser.add_argument("--clean", action="store_true", help="remove the build folders of the stages first")
    return parser.parse_args()


def execute(run, names, keep_going):
    """[(stage, seconds, passed, failed, skipped)]"""
    rows = []
    for name in names:
        print(f"\n== {name}: {STAGES[name][2]}", flush=True)
        run.stage = name
        before = (run.passed, len(run.failed), len(run.skipped))
        start = time.monotonic()
        try:
            STAGES[name][0](run)
        except Failure as failure:
            run.failed.append(f"{name}: {failure}")
        except Exception as error:  # a fault of this file must not hide the totals
            traceback.print_exc()
            run.failed.append(f"{name}: {error}")
        after = (run.passed, len(run.failed), len(run.skipped))
        rows.append((name, time.monotonic() - start, *(b - a for a, b in zip(before, after))))
        if after[1] > before[1] and not keep_going:
            break
    return rows


def report(run, rows, names, limit):
    minutes = sum(row[1] for row in rows) / 60
    if limit and minutes > limit:
        run.failed.append(f"the time budget: {minutes:.1f} min, at most {limit}")
    for name, why in run.skipped:
        print(f"skipped  {name}: {why}")
    for name in run.failed:
        print(f"FAILED   {name}")
    print(f"\n{'stage':8} {'minutes':>8} {'passed':>7} {'failed':>7} {'skipped':>8}")
    for name, seconds, *counts in rows:
        print(f"{name:8} {seconds / 60:8.1f} {counts[0]:7} {counts[1]:7} {counts[2]:8}")
    for name in names[len(rows):]:
        print(f"{name:8} not run: a stage before it failed (--keep-going)")
    print(f"{'all':8} {minutes:8.1f}")
    if run.passed == 0 and not run.failed:
        run.failed.append("nothing ran")
        print("FAILED   nothing ran")
    print(f"{run.passed} passed, {len(run.failed)} failed, {len(run.skipped)} skipped", flush=True)


def main():
    arguments = parse()
    names = [name for name, (_, when, _) in STAGES.items()
             if (name in arguments.only if arguments.only else arguments.deep or when == "normal")]
    if arguments.clean:
        for preset in ("dev", "asan", "tsan", "fuzz"):
            shutil.rmtree(os.path.join(ROOT, "build", preset), ignore_errors=True)
    run = Run(arguments.deep, arguments.filter)
    rows = execute(run, names, arguments.keep_going)
    report(run, rows, names, None if arguments.deep else BUDGET_MINUTES)
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
