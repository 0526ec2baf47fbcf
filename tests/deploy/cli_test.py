#!/usr/bin/env python3
"""hermesctl's help, its manual page and its completion name the same sub-commands and options."""

import os
import re
import subprocess
import sys
import unittest

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy")
COMPLETION = os.path.join(DEPLOY, "completion", "hermesctl.bash")
OPTION = re.compile(r"^\s+(?:(-\w),)?(--[a-z-]+)", re.M)
GLOBAL = {"--help", "--version", "--socket", "--output", "--patience"}
HERMESCTL = ""


def help_of(words):
    return subprocess.run([HERMESCTL, *words, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout


def sub_commands(words):
    """Of one command, from its help; empty: it has none."""
    _, _, listed = help_of(words).partition("Subcommands:\n")
    return re.findall(r"^  ([a-z-]+) ", listed.partition("\n\n")[0], re.M)


def commands():
    for name in sub_commands([]):
        below = sub_commands([name])
        for words in [[name, other] for other in below] or [[name]]:
            yield words


def completed(line):
    """What the completion offers behind `line`, whose last word is the one to complete."""
    script = f"source {COMPLETION}; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _hermesctl; " \
             'printf "%s\\n" "${COMPREPLY[@]}"'
    return set(subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout.split())


class CliTest(unittest.TestCase):
    def test_completion_offers_every_sub_command(self):
        self.assertGreater(len(list(commands())), 15)
        self.assertEqual(completed("hermesctl ''"), set(sub_commands([])))
        self.assertEqual(completed("hermesctl session ''"), set(sub_commands(["session"])))

    def test_completion_offers_exactly_the_options_there_are(self):
        for words in commands():
            options = {long for _, long in OPTION.findall(help_of(words))} | GLOBAL - {"--version"}
            self.assertEqual(completed(f"hermesctl {' '.join(words)} --"), options, words)

    def test_the_manual_page_names_every_sub_command_and_option(self):
        with open(os.path.join(DEPLOY, "man", "hermesctl.1"), encoding="utf-8") as file:
            page = file.read().replace("\\-", "-")
        for words in commands():
            self.assertIn(" ".join(words), page)
            for short, long in OPTION.findall(help_of(words)):
                told = any(re.search(re.escape(name) + r"(?![a-z-])", page) for name in (short, long) if name)
                self.assertTrue(told or long in GLOBAL, (words, long))


if __name__ == "__main__":
    HERMESCTL = sys.argv.pop(1)
    unittest.main()
