#!/usr/bin/env python3
"""clang-tidy over every source that changed since it last passed; the list of checks is in .clang-tidy."""

import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import built  # noqa: E402
import source  # noqa: E402

CACHE = "tidy-lint.json"  # in the build folder: digests of sources that passed
FILE_SECONDS = 600  # one source; past that the check hangs, and the source counts as a complaint


def lint(tree, build, path):
    """The complaints about one source and the headers of ours that it includes, or None."""
    words = ["clang-tidy-19", "--quiet", "-p", build, f"--header-filter={tree.root}/(?!build/).*",
             os.path.join(tree.root, path)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=FILE_SECONDS)
    except subprocess.TimeoutExpired:
        return f"{path}: clang-tidy was not done after {FILE_SECONDS} s"
    if done.returncode == 0:
        return None
    return re.sub(r"^\d+ warnings?( and \d+ errors?)? generated\.\n", "", done.stdout + done.stderr, flags=re.MULTILINE)


def entries(tree, build):
    """source -> its compile command, for those of the tree that the build compiles."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        listed = json.load(file)
    found = {}
    for entry in listed:
        path = os.path.relpath(os.path.join(entry["directory"], entry["file"]), tree.root)
        if tree.has(path):
            found[path] = entry["command"]
    return found


def save(path, known):
    """Whole or not at all: what has passed is not looked at again, even after an interruption."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(sorted(known), file)
    os.replace(path + ".new", path)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(here)))
    parser.add_argument("--build-dir", required=True, help="a built tree: generated headers must exist")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, help="no source is begun later; what is left is a failure")
    parser.add_argument("files", nargs="*", help="just these, relative to the root")
    arguments = parser.parse_args()

    tree = source.Tree(os.path.abspath(arguments.root))
    cache_path = os.path.join(arguments.build_dir, CACHE)
    try:
        with open(cache_path, encoding="utf-8") as file:
            known = set(json.load(file))
    except (FileNotFoundError, ValueError):
        known = set()
    commands = entries(tree, arguments.build_dir)
    unknown = [path for path in arguments.files if path not in commands]
    if unknown:
        parser.error(f"not part of this build, or not since it was configured: {', '.join(unknown)}")
    checks = (tree.text(".clang-tidy"), tree.text("tests/.clang-tidy"))
    work = {path: built.digest(tree, path, (commands[path], checks)) for path in arguments.files or sorted(commands)}
    bad = late = 0
    end = time.monotonic() + 60 * arguments.minutes if arguments.minutes else float("inf")
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        pending = {pool.submit(lint, tree, arguments.build_dir, path): path
                   for path, digest in work.items() if digest not in known}
        for future in concurrent.futures.as_completed(pending):
            if time.monotonic() >= end and late == 0:
                late = sum(other.cancel() for other in pending)
            if future.cancelled():
                continue
            complaint = future.result()
            if complaint is None:
                known.add(work[pending[future]])
                save(cache_path, known)
            else:
                bad += 1
                print(complaint, flush=True)
    if not arguments.files:
        known &= set(work.values())
    save(cache_path, known)
    print(f"clang-tidy: {len(work)} files, {len(pending) - late} looked at, {bad} with complaints")
    if late:
        print(f"clang-tidy: no time was left for {late} files; what has passed is remembered: run it again")
    return 1 if bad or late else 0


if __name__ == "__main__":
    sys.exit(main())
