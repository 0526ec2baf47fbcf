#!/usr/bin/env python3
"""deploy/quickstart with programs that are built already, in a folder and a home of its own: the first run works, the
second finds what the first began, --status and --stop tell the truth. (That it builds them: the stage "release" of a deep run.)"""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "quickstart")
PROGRAMS = ""


class QuickstartTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="hermes-quick-", dir="/tmp")
        self.kept = os.path.join(self.folder, "quickstart")
        os.symlink(PROGRAMS, os.path.join(self.folder, "bin"))
        self.env = {"PATH": os.environ["PATH"], "HOME": self.folder, "HERMES_BUILD": self.folder}

    def tearDown(self):
        if os.path.exists(self.kept):
            self.ctl("cleanup", "demo")
            self.run_script("--stop")
            self.end_runner()
        subprocess.run(["rm", "-rf", self.folder], check=True)

    def end_runner(self):
        """It outlives hermesd; by whom its socket belongs to."""
        with socket.socket(socket.AF_UNIX) as peer:
            if peer.connect_ex(os.path.join(self.kept, "runner", "s")) == 0:
                pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                os.kill(pid, signal.SIGKILL)

    def run_script(self, *words, env=None):
        done = subprocess.run([SCRIPT, *words], env=env or self.env, capture_output=True, text=True, check=False,
                              timeout=120)
        return done.returncode, done.stdout + done.stderr

    def ctl(self, *words):
        return subprocess.run([os.path.join(PROGRAMS, "hermesctl"), *words], capture_output=True, text=True, check=False,
                              timeout=60, env={**self.env, "HERMESD_SOCKET": os.path.join(self.kept, "hermes.sock")})

    def must(self, pattern, *words):
        """Runs the script; the number in what it says, if the pattern has one."""
        code, said = self.run_script(*words)
        self.assertEqual(code, 0, said)
        found = re.search(pattern, said)
        self.assertTrue(found, said)
        return found.groups()

    def test_the_first_run_works_and_another_finds_what_it_began(self):
        self.must("hermesd does not run", "--status")
        (pid,) = self.must(r"(?s)hermesd is ready \(pid (\d+)\).*\nhello from \S+, process \d+\n")
        self.assertEqual(os.stat(self.kept).st_mode & 0o777, 0o700)
        self.assertEqual(self.must(r"hermesd runs \(pid (\d+)\)", "--status"), (pid,))
        self.assertEqual(self.ctl("exec", "demo", "--", "export KEPT=yes").returncode, 0)

        self.assertEqual(self.must(r"(?s)running already \(pid (\d+)\).*\nhello from"), (pid,))
        self.assertEqual(self.ctl("exec", "demo", "--", "echo $KEPT").stdout, "yes\n")

        os.utime(os.path.join(self.kept, "hermesd.pid"), (0, 0))  # as if built since
        (newer,) = self.must(r"(?s)was rebuilt.*hermesd is ready \(pid (\d+)\).*\nhello from")
        self.assertNotEqual(newer, pid)
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        self.assertEqual(self.ctl("exec", "demo", "--", "echo $KEPT").stdout, "yes\n")

        self.assertEqual(self.must(r"\(pid (\d+)\) has ended", "--stop"), (newer,))
        self.assertFalse(os.path.exists(f"/proc/{newer}"))
        self.must("hermesd does not run", "--status")
        self.must("hermesd is not running", "--stop")
        self.must(r"hermesd is ready \(pid \d+\)")

    def test_what_it_is_told_wrong_it_says(self):
        self.assertEqual(self.run_script("--sotp")[0], 2)
        code, said = self.run_script(env={**self.env, "HERMES_BUILD": os.path.join(self.folder, "none")})
        self.assertEqual(code, 1)
        self.assertIn("with bin/hermesd and bin/hermesctl", said)
        self.assertFalse(os.path.exists(self.kept))


if __name__ == "__main__":
    PROGRAMS = sys.argv.pop(1)
    unittest.main()
