#!/usr/bin/env python3
"""The units are valid, hermesd's is as closed as promised, and the runner's outlives it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy")
MOST_EXPOSURE = 1.5
SYSTEM = ("hermesd.service", "hermes-runner.socket", "hermes-runner.service")
USER = tuple(f"user/{name}" for name in SYSTEM)


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def unit(name):
    """section -> key -> [values]"""
    sections, section = {}, None
    with open(os.path.join(DEPLOY, "systemd", name), encoding="utf-8") as file:
        for line in file:
            line = line.strip()
            if line.startswith("["):
                section = sections.setdefault(line.strip("[]"), {})
            elif line and not line.startswith("#"):
                key, _, value = line.partition("=")
                section.setdefault(key, []).append(value)
    return sections


class UnitsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="units-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def installed(self, names):
        """Copies whose programs exist, so that verify judges the units and not this machine."""
        paths = []
        for name in names:
            with open(os.path.join(DEPLOY, "systemd", name), encoding="utf-8") as file:
                text = re.sub(r"^ExecStart=/\S+", "ExecStart=/bin/true", file.read(), flags=re.MULTILINE)
            path = os.path.join(self.folder, os.path.basename(name))
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            paths.append(path)
        return paths

    def verify(self, names, *options):
        done = run("systemd-analyze", *options, "verify", "--man=no", "--recursive-errors=no", *self.installed(names))
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_system_units_are_valid(self):
        self.verify(SYSTEM)

    def test_user_units_are_valid(self):
        os.environ.setdefault("XDG_RUNTIME_DIR", self.folder)
        self.verify(USER, "--user")

    def test_verify_would_notice_a_mistake(self):
        path, = self.installed(["hermesd.service"])
        with open(path, "a", encoding="utf-8") as file:
            file.write("[Service]\nProtectSytem=strict\n")
        done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path)
        self.assertIn("ProtectSytem", done.stderr)

    def test_hermesd_is_no_more_exposed_than_promised(self):
        path = os.path.join(DEPLOY, "systemd", "hermesd.service")
        done = run("systemd-analyze", "security", "--offline=true", "--no-pager", path)
        match = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
        self.assertTrue(match, done.stdout + done.stderr)
        print(f"exposure of hermesd.service: {match.group(1)}", file=sys.stderr)
        self.assertLessEqual(float(match.group(1)), MOST_EXPOSURE)

    def test_hermesd_says_itself_when_it_is_ready(self):
        for name in ("hermesd.service", "user/hermesd.service"):
            service = unit(name)["Service"]
            self.assertEqual(service["Type"], ["notify"])
            self.assertEqual(service["StateDirectory"], ["hermesd"])
            self.assertEqual(service["RuntimeDirectory"], ["hermesd"])

    def test_kernel_identity_and_boot_id_are_not_hidden_from_hermesd(self):
        service = unit("hermesd.service")["Service"]
        self.assertNotIn("PrivateUsers", service)
        self.assertNotIn("ProcSubset", service)

    def test_hermesd_lets_its_parser_lock_itself_in(self):
        allowed = " ".join(unit("hermesd.service")["Service"]["SystemCallFilter"]).split()
        for call in ("landlock_create_ruleset", "landlock_restrict_self"):
            self.assertIn(call, allowed)

    def test_commands_outlive_hermesd(self):
        for folder in ("", "user/"):
            for name in ("hermes-runner.service", "hermes-runner.socket"):
                for key in ("PartOf", "BindsTo", "Requisite", "StopPropagatedFrom"):
                    self.assertNotIn(key, unit(folder + name)["Unit"])
            needs = unit(folder + "hermesd.service")["Unit"]
            self.assertEqual(needs["Wants"], ["hermes-runner.socket"])
            # What hermesd's stop or a reboot removes must not hold the runner's folder; and the runner serves the
            # folder that its socket lies in.
            listens, = unit(folder + "hermes-runner.socket")["Socket"]["ListenStream"]
            self.assertNotRegex(listens, r"/hermesd/|^/run/|^%t/")
            served = unit(folder + "hermes-runner.service")["Service"]["ExecStart"][0].split()[-1]
            self.assertEqual(listens, f"{served}/s")

    def test_commands_are_not_sandboxed(self):
        for folder in ("", "user/"):
            service = unit(folder + "hermes-runner.service")["Service"]
            for key in service:
                self.assertFalse(key.startswith(("Protect", "Private", "Restrict", "SystemCall", "NoNew", "Capability")),
                                 key)
            self.assertEqual(service["OOMPolicy"], ["continue"])

    def test_both_system_services_act_as_the_same_account(self):
        for name in ("hermesd.service", "hermes-runner.service"):
            self.assertEqual(unit(name)["Service"]["User"], ["hermes"])
        self.assertEqual(unit("hermes-runner.socket")["Socket"]["SocketUser"], ["hermes"])

    def test_the_account_is_created(self):
        os.makedirs(os.path.join(self.folder, "etc"))
        done = run("systemd-sysusers", f"--root={self.folder}", os.path.join(DEPLOY, "sysusers.d", "hermesd.conf"))
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(os.path.join(self.folder, "etc/passwd"), encoding="utf-8") as file:
            self.assertRegex(file.read(), r"(?m)^hermes:.*:/var/lib/hermesd:/bin/bash$")

    @unittest.skipIf(os.getuid() != 0, "only root can give folders away")
    def test_the_folder_of_the_runners_socket_is_private(self):
        self.test_the_account_is_created()
        done = run("systemd-tmpfiles", "--create", f"--root={self.folder}",
                   os.path.join(DEPLOY, "tmpfiles.d", "hermesd.conf"))
        self.assertEqual(done.returncode, 0, done.stderr)
        made = os.stat(os.path.join(self.folder, "var/lib/hermesd-runner"))
        self.assertEqual(made.st_mode & 0o777, 0o700)
        self.assertNotEqual(made.st_uid, 0)


if __name__ == "__main__":
    if shutil.which("systemd-analyze") is None:
        print("systemd-analyze is not installed")
        sys.exit(77)
    unittest.main()
