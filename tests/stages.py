"""The stages of tests/run: build, run, count, and keep to the time budget."""

import argparse
import concurrent.futures
import json
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
DEEP_BUDGET_MINUTES = 150  # of --deep
FUZZ_SECONDS = 180   # --deep, each target, as many at a time as there are cores
FUZZ_MORE_SECONDS = 120  # beyond that: reading the corpora, ending; then a target hangs
LINT_MINUTES = 60    # clang-tidy begins no file later; what passed is remembered for the next run
TESTS_THAT_WAIT = 1  # more at a time than there are cores: half of a test over SSH is waiting
COMPILER_MIB = 1200  # of the largest translation unit (gRPC's headers); fewer jobs on small machines
ASAN_LAYERS = ("engine", "runner")  # and every fuzz target
ASAN_DEEP_LAYERS = ("core", "sync", "ssh")  # with --deep
TSAN_TARGETS = ("runtime_test", "core_test")
# What runs within the test's own process and needs no gRPC: children that are killed write no profile.
COVERAGE_LAYERS = ("runtime", "engine", "core", "sync", "contract")
COMPLAINT_LINES = 12  # of each failed test, repeated at the end
COVERAGE_PERCENT = 80  # of the lines of ours that these layers' tests must reach


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
    # One cache for every checkout, for what is compiled without a precompiled header.
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
        try:
            return subprocess.run(words, cwd=ROOT, env=self.env, check=False, **options).returncode
        except subprocess.TimeoutExpired as late:
            print(late, flush=True)
            return 124

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
                 "-V" if verbose else "--output-on-failure", "--test-output-size-passed", "1048576",
                 "--test-output-size-failed", "1048576", "-j", str(jobs() + TESTS_THAT_WAIT if parallel else 1), *selection]
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
            for name, ending, lines in endings(case):
                name = f"{self.stage}: {name}"
                if ending == "passed":
                    self.passed += 1
                elif ending == "skipped":
                    self.skipped.append((name, reason(lines)))
                else:
                    failed += 1
                    self.failed.append("\n".join([name, *("    " + line for line in complaint(lines))]))
        return failed


def endings(case):
    """The tests of one entry of a report, each with how it ended and what it printed. Most entries are one test;
    a row of the contract suite is one program with many, and each of them counts."""
    name, status = case.get("name"), case.get("status")
    if status == "disabled":
        return [(name, "skipped", ["disabled in the source"])]
    ending = "passed" if status == "run" else "failed"
    if status == "notrun" and case.find("failure") is None:
        ending = "skipped"
    text = case.findtext("system-out") or ""
    parts = re.split(r"^\[ RUN      \] (\S+)\n", text, flags=re.MULTILINE)
    if len(parts) <= 3:
        return [(name, ending, text.split("\n"))]
    told = []
    for inner, printed in zip(parts[1::2], parts[2::2]):
        own, mark, _ = printed.partition("\n[       OK ]")
        if mark or printed.startswith("[       OK ]"):
            told.append((f"{name}: {inner}", "passed", []))
        else:
            own, mark, _ = printed.partition("\n[  SKIPPED ]")
            told.append((f"{name}: {inner}", "skipped" if mark else ending, own.split("\n")))
    if ending == "failed" and all(how != "failed" for _, how, _ in told):
        told.append((f"{name}: at its end", "failed", parts[-1].split("\n")))
    return told


def reason(lines):
    """Why a test was skipped: what it printed just after it said so."""
    lines = [line.strip() for line in lines if line.strip()]
    for number, line in enumerate(lines):
        if line.endswith(": Skipped"):
            return lines[number + 1] if number + 1 < len(lines) else "no reason given"
    return lines[-1] if lines else "no reason given"


def complaint(lines):
    """What is worth repeating of a failed test at the end of a long log: from its first complaint on."""
    lines = [line for line in lines if line.strip()]
    first = next((number for number, line in enumerate(lines) if line.endswith(": Failure")), None)
    return lines[-COMPLAINT_LINES:] if first is None else lines[first:first + COMPLAINT_LINES]


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
    run.ctest("dev", "-LE", "^(tidy|bench)$")


def stage_bench(run):
    run.ctest("dev", "-L", "^bench$", parallel=False, verbose=True)


def stage_asan(run):
    run.configure("asan")
    layers = ASAN_LAYERS + (ASAN_DEEP_LAYERS if run.deep else ())
    targets, fuzz = run.known("asan", [f"{layer}_test" for layer in layers])
    if targets + fuzz:
        run.build("asan", targets + fuzz)
        run.ctest("asan", "-L", f"^({'|'.join(layers)}|fuzz)$")


def stage_tsan(run):
    run.configure("tsan")
    targets, _ = run.known("tsan", TSAN_TARGETS)
    if targets:
        run.build("tsan", targets)
        run.ctest("tsan", "-L", "^(runtime|core)$")


def fuzz(run, target):
    """Fuzzes one target from its corpus into a copy of it; whether it found nothing."""
    seeds = os.path.join(ROOT, "tests/fuzz/corpus", target.removesuffix("_fuzz"))
    grown = os.path.join(ROOT, "build/fuzz/corpus", target)
    log = os.path.join(ROOT, "build/fuzz", f"{target}.log")
    os.makedirs(grown, exist_ok=True)
    words = [f"build/fuzz/bin/{target}", f"-max_total_time={FUZZ_SECONDS}", "-rss_limit_mb=2048", "-timeout=10",
             f"-artifact_prefix=build/fuzz/{target}-", "-print_final_stats=1", grown]
    with open(log, "wb") as file:
        status = run.call(words + ([seeds] if os.path.isdir(seeds) else []), stdout=file,
                          stderr=subprocess.STDOUT, timeout=FUZZ_SECONDS + FUZZ_MORE_SECONDS)
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    shown = [line for line in lines if "number_of_executed_units" in line] if status == 0 else lines[-60:]
    print(f"{target}: exit {status}", *shown, sep="\n", flush=True)
    return status == 0


def stage_fuzz(run):
    run.configure("fuzz")
    _, targets = run.known("fuzz", ())
    if not targets:
        return
    run.build("fuzz", targets)
    with concurrent.futures.ThreadPoolExecutor(jobs()) as pool:
        for target, ok in zip(targets, pool.map(lambda target: fuzz(run, target), targets)):
            run.one(target, ok)


def stage_coverage(run):
    """How much of ours the tests reach that run within one process."""
    run.configure("coverage")
    targets, _ = run.known("coverage", [f"{layer}_test" for layer in COVERAGE_LAYERS])
    run.build("coverage", targets)
    folder = os.path.join(ROOT, "build/coverage/profiles")
    shutil.rmtree(folder, ignore_errors=True)
    run.env["LLVM_PROFILE_FILE"] = os.path.join(folder, "%4m.profraw")  # a few files, added to
    try:
        run.ctest("coverage", "-L", f"^({'|'.join(COVERAGE_LAYERS)})$")
    finally:
        del run.env["LLVM_PROFILE_FILE"]
    merged = os.path.join(folder, "all.profdata")
    run.must(["llvm-profdata-19", "merge", "-o", merged, folder])
    binaries = [f"build/coverage/bin/{target}" for target in targets]
    words = ["llvm-cov-19", "export", "-summary-only", "-ignore-filename-regex", "(^/usr/|/build/|/tests/|/backends/ssh/)",
             "-instr-profile", merged, binaries[0]]
    for binary in binaries[1:]:
        words += ["-object", binary]
    text = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    run.one(f"coverage of at least {COVERAGE_PERCENT} %", covered(json.loads(text)) >= COVERAGE_PERCENT)


def covered(exported):
    """Prints the share of lines reached in each folder; returns that of all."""
    folders = {}
    for entry in exported["data"][0]["files"]:
        name = os.path.dirname(os.path.relpath(entry["filename"], ROOT))
        lines = entry["summary"]["lines"]
        for key in (name, "all"):
            reached, count = folders.get(key, (0, 0))
            folders[key] = (reached + lines["covered"], count + lines["count"])
    for name in sorted(folders, key=lambda name: (name == "all", name)):
        reached, count = folders[name]
        print(f"{name:24} {100 * reached / max(1, count):5.1f} % of {count} lines")
    return 100 * folders["all"][0] / max(1, folders["all"][1])


def stage_release(run):
    """What deploy/quickstart builds: optimised, and without the tests and what only they need."""
    run.must(["cmake", "--preset", "release", "-DHERMES_TESTS=OFF"])
    run.build("release", ["hermesd", "hermesctl"])
    run.one("build of the release", True)


def stage_lint(run):
    run.configure("lint")
    run.build("lint", ["hermes_proto"])  # the generated headers
    run.one("clang-tidy", run.call([sys.executable, "tests/tidy/lint.py", "--build-dir", "build/lint", "--minutes",
                                    str(LINT_MINUTES)]) == 0)


# In order: what is quick and often wrong comes first.
STAGES = {
    "format": (stage_format, "normal", "clang-format over every C++ file"),
    "build": (stage_build, "normal", "preset dev, everything"),
    "tidy": (stage_tidy, "normal", "the rules of the house"),
    "test": (stage_test, "normal", "all tests of the dev build"),
    "bench": (stage_bench, "normal", "speed and size, one at a time"),
    "asan": (stage_asan, "normal", "address and undefined: engine, runner, replay of the fuzz corpora; with --deep core, sync and ssh"),
    "tsan": (stage_tsan, "normal", "threads: runtime and core"),
    "fuzz": (stage_fuzz, "deep", f"libFuzzer, {FUZZ_SECONDS} s per target"),
    "coverage": (stage_coverage, "deep", f"tests within one process reach {COVERAGE_PERCENT} % of the lines"),
    "release": (stage_release, "deep", "preset release without tests: what deploy/quickstart builds"),
    "lint": (stage_lint, "deep", "clang-tidy over what changed since it last succeeded"),
}


def parse():
    stages = "\n".join(f"  {name:8} {text}{' (--deep)' if when == 'deep' else ''}"
                       for name, (_, when, text) in STAGES.items())
    parser = argparse.ArgumentParser(
        prog="tests/run", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Installs what the tests need, builds, and runs every test.",
        epilog=f"stages, in order:\n{stages}\n\nThe last line is: N passed, N failed, N skipped")
    parser.add_argument("--deep", action="store_true", help="longer seeds, soak, fuzzing, coverage and clang-tidy")
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
        for preset in ("dev", "asan", "tsan", "fuzz", "coverage", "lint"):
            shutil.rmtree(os.path.join(ROOT, "build", preset), ignore_errors=True)
    run = Run(arguments.deep, arguments.filter)
    rows = execute(run, names, arguments.keep_going)
    report(run, rows, names, DEEP_BUDGET_MINUTES if arguments.deep else BUDGET_MINUTES)
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
