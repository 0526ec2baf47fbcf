#!/usr/bin/env python3
"""The manual pages format without a warning; hermesd.toml(5) has every key with its default; main.cc hands on what
each key sets; hermesctl(1) and the completion know every sub-command and option."""

import os
import re
import shutil
import subprocess
import sys
import unittest

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy")
MAN = os.path.join(DEPLOY, "man")


def lines(*path):
    with open(os.path.join(DEPLOY, *path), encoding="utf-8") as file:
        return file.read().split("\n")


def keys(text, table, key):
    """[(table, key, default)] in the order of the text."""
    found, current = [], ""
    for line in text:
        if match := re.fullmatch(table, line):
            current = match.group(1)
        elif match := re.fullmatch(key, line):
            found.append((current, *match.groups()))
    return found


class ManTest(unittest.TestCase):
    def test_every_page_formats_without_a_warning(self):
        pages = sorted(os.listdir(MAN))
        self.assertGreaterEqual(len(pages), 3)
        for page in pages:
            done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", os.path.join(MAN, page)],
                                  capture_output=True, text=True, check=False, timeout=60)
            self.assertEqual((done.returncode, done.stderr), (0, ""), page)

    def test_the_configurations_page_has_every_key_with_its_default(self):
        shipped = keys(lines("hermesd.toml"), r"#\[(.+)\]", r"#([a-z_]+) = (.+)")
        told = keys(lines("man", "hermesd.toml.5"), r"\.SS \[(.+)\]", r"\\fB([a-z_]+)\\fR = (.+)")
        self.assertGreater(len(shipped), 10)
        self.assertEqual(told, shipped)

    def test_main_hands_on_what_every_key_sets(self):
        """A key that nobody reads does nothing, and its default hides that."""
        code, wiring = ("\n".join(lines("..", "daemon", *name)) for name in (("core", "config.cc"), ("main.cc",)))
        table = code.partition("kKeys[] = {")[2].partition("\n};")[0]
        keys_and_code = re.split(r'^    \{"([a-z_.]+)",', table, flags=re.M)[1:]
        for key, setter in zip(keys_and_code[::2], keys_and_code[1::2]):
            (member,) = re.findall(r"\bc\.([a-z_.]+)\)", setter)
            self.assertTrue(re.search(rf"\bconfig(_\.|\.|->){re.escape(member)}\b", wiring), key)
        shipped = keys(lines("hermesd.toml"), r"#\[(.+)\]", r"#([a-z_]+) = (.+)")
        self.assertEqual(len(keys_and_code), 2 * len(shipped))

    def test_hermesctls_page_and_completion_know_every_subcommand_and_option(self):
        cli = "\n".join(lines("..", "client", "cli.cc"))
        options = dict((long, short) for short, long in re.findall(r'"(?:(-\w),)?(--[a-z-]+)"', cli))
        names = set(re.findall(
            r'(?:Sub|AddNamed|AddPlain|AddCleanup)\((?:app|\*?session|parent), (?:wiring, )?"([a-z-]+)"', cli))
        self.assertGreater(len(options), 50)
        self.assertGreater(len(names), 20)
        page = re.findall(r"[A-Za-z-]+", "\n".join(lines("man", "hermesctl.1")).replace("\\-", "-"))
        completion = re.findall(r"[A-Za-z-]+", "\n".join(lines("completion", "hermesctl.bash")))
        told = sorted(name for name in names if name not in page or name not in completion)
        told += sorted(long for long in options if long not in completion)
        told += sorted(long for long, short in options.items() if long not in page and (short or long) not in page)
        self.assertEqual(told, [])

    def test_pages_that_are_referred_to_exist(self):
        for page in os.listdir(MAN):
            for name, section in re.findall(r"^\.BR (hermes[a-z.]+) \((\d)\)", "\n".join(lines("man", page)), re.M):
                self.assertIn(f"{name}.{section}", os.listdir(MAN), page)


if __name__ == "__main__":
    if shutil.which("groff") is None:
        print("groff is not installed")
        sys.exit(77)
    unittest.main()
