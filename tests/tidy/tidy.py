#!/usr/bin/env python3
"""The rules of the house as a test: see README.md of tests/ for the list."""

import argparse
import os
import sys

sys.dont_write_bytecode = True  # the tree stays as it is

import built  # noqa: E402
import includes  # noqa: E402
import source  # noqa: E402
import style  # noqa: E402


def text_findings(tree):
    for rule in includes.RULES + style.RULES:
        yield from rule(tree)


def build_findings(tree, build, jobs):
    yield from built.check_headers(tree, build, jobs)
    yield from built.check_dead_sources(tree, build)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(here)))
    parser.add_argument("--group", choices=["text", "build", "all"], default="all")
    parser.add_argument("--build-dir", help="a configured full build, for the group 'build'")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()

    tree = source.Tree(os.path.abspath(arguments.root))
    findings = []
    if arguments.group != "build":
        findings += text_findings(tree)
    if arguments.group != "text":
        if not arguments.build_dir:
            parser.error("the group 'build' needs --build-dir")
        findings += build_findings(tree, arguments.build_dir, arguments.jobs)
    for finding in sorted(set(findings)):
        print(finding)
    print(f"tidy: {len(tree.files)} files, {len(set(findings))} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
