# SPDX-License-Identifier: GPL-2.0-or-later
"""A server as a process, for scripts that are called with PROGRAM and DIRECTORY.

They start PROGRAM as they need it, with files in DIRECTORY, and print "ok - text" or
"not ok - text" for every check.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

from wire import Client

PROGRAM, DIR = sys.argv[1], sys.argv[2]
# The sanitizers do without mlock() and need more system calls: the same program without them
PLAIN = os.path.join(os.path.dirname(PROGRAM), "..", "bin", "nbd-server")
DISK = os.path.join(DIR, "life.img")
running = []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A server in the foreground that listens; its log is in self.log."""

    def __init__(self, config=None, args=(), port=None, program=PROGRAM, **popen):
        self.port = port or free_port()
        self.log_file = os.path.join(DIR, f"life-{self.port}.log")
        self.config = os.path.join(DIR, f"life-{self.port}.conf")
        if config is None:
            args = [f"127.0.0.1@{self.port}", DISK, *args]
        else:
            self.write(config)
            args = ["-C", self.config, *args]
        with open(self.log_file, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([program, "-n", *args], stderr=log, **popen)
        self.clients = []
        running.append(self)
        self.wait_for("serving")

    def write(self, config):
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(f"[generic]\nlistenaddr = 127.0.0.1\nport = {self.port}\n{config}")

    def log(self):
        with open(self.log_file, encoding="utf-8") as f:
            return f.read()

    def wait_for(self, text, seconds=10):
        end = time.monotonic() + seconds
        while text not in self.log():
            assert time.monotonic() < end and self.process.poll() is None, self.log()
            time.sleep(0.02)

    def client(self, **args):
        self.clients.append(Client(("127.0.0.1", self.port), **args))
        return self.clients[-1]

    def connected(self, name=b"", **args):
        c = self.client(**args)
        c.start(name)
        return c

    def term(self):
        self.process.send_signal(signal.SIGTERM)

    def end(self, seconds=15):
        """The exit status; -9 after a kill."""
        running.remove(self)
        return self.process.wait(seconds)

    def stop(self):
        self.term()
        # Or the server would give them time to hang up
        for c in self.clients:
            c.sock.close()
        assert self.end() == 0, self.log()


def export(name, path=DISK, more=""):
    return f"[{name}]\nexportname = {path}\n{more}"


@contextlib.contextmanager
def ext4(*options, defaults=None):
    """A small file system of our own, mounted, perhaps with other mount options by default."""
    # Another file each time: who has made a mount namespace meanwhile still has the last one mounted
    fd, image = tempfile.mkstemp(".img", "ext4-", DIR)
    mount = os.path.join(DIR, "ext4")
    os.truncate(fd, 32 << 20)
    os.close(fd)
    os.makedirs(mount, exist_ok=True)
    subprocess.run(["mkfs.ext4", "-qF", *options, image], check=True)
    if defaults:
        subprocess.run(["tune2fs", "-o", defaults, image], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    os.unlink(image)
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def attempt(check, bad):
    try:
        check()
        print(f"ok - {check.__doc__}", flush=True)
    except Exception as e:  # pylint: disable=broad-except
        bad.append(check)
        # The last line in the check's own file
        here = check.__code__.co_filename
        line = e.__traceback__.tb_next or e.__traceback__
        while line.tb_next and line.tb_next.tb_frame.f_code.co_filename == here:
            line = line.tb_next
        print(f"# {type(e).__name__} {e} in line {line.tb_lineno}".replace("\n", "\n# "))
        print(f"not ok - {check.__doc__}", flush=True)


def stop_all():
    for s in list(running):
        s.process.kill()
        s.process.wait()
    running.clear()


def run_checks(checks, between=lambda: None):
    """All of them, each without what one before has left running; ends the script."""
    bad = []
    # So that whatever is mounted or running is taken back when the script is stopped
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for check in checks:
            attempt(check, bad)
            stop_all()
            between()
    finally:
        stop_all()
    sys.exit(bool(bad))
