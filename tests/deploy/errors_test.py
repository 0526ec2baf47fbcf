#!/usr/bin/env python3
"""proto/ERRORS.md is what daemon/runtime/reasons.inc generates. With --write: makes it so."""

import os
import re
import sys
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PAGE = os.path.join(ROOT, "proto", "ERRORS.md")
ROW = re.compile(r'X\(([A-Z_]+), k([A-Za-z]+), "(.+?)", "(.+)"\)')
HEAD = """# The reasons of errors

Made from `daemon/runtime/reasons.inc` by `tests/deploy/errors_test.py --write`; a test holds it to be so.

Each error of the daemon has one of these in `ErrorInfo.reason` (`error.proto`), under the gRPC code that heads its table. What
to do stands in `ErrorInfo.metadata["next"]`, too, where the daemon may know better than this page; the other keys there name the
field, the limit or the offset in question. UNAVAILABLE is always safe to retry with the same request id. A reason that is
reserved is sent by no daemon so far.
"""


def text(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def sources():
    """The product's C++, without the catalogue itself."""
    for top in ("daemon", "backends", "sync"):
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            yield from (text(folder, name) for name in names if name.endswith((".cc", ".h")))


def generated():
    table = text("daemon", "runtime", "reasons.inc")
    rows = ROW.findall(table)
    assert len(rows) == len(re.findall(r"^X\(", table, re.M)), "a row that cannot be read"
    made = set(re.findall(r"(?<![=!]= )Reason::k_([A-Z_]+)", "\n".join(sources())))
    parts, code = [HEAD], None
    codes = list(dict.fromkeys(row[1] for row in rows))  # in the table's order
    for reason, camel, what, then in sorted(rows, key=lambda row: codes.index(row[1])):
        if camel != code:
            code = camel
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code).upper()
            parts.append(f"\n## {name}\n\n| reason | what happened | what to do |\n|---|---|---|\n")
        parts.append(f"| {reason}{'' if reason in made else ' (reserved)'} | {what} | {then} |\n")
    return "".join(parts)


class ErrorsTest(unittest.TestCase):
    def test_the_page_is_what_the_table_generates(self):
        self.assertEqual(text("proto", "ERRORS.md"), generated(), "run tests/deploy/errors_test.py --write")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        with open(PAGE, "w", encoding="utf-8") as page:
            page.write(generated())
    else:
        unittest.main()
