# SPDX-License-Identifier: GPL-2.0-or-later
"""Exports that are more than a file: multifile, treefiles.

server_files.py PROGRAM DIRECTORY, see serve.py.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

import nbd

from serve import *  # pylint: disable=wildcard-import,unused-wildcard-import
from wire import *  # pylint: disable=wildcard-import,unused-wildcard-import

SIZE = 4 << 20
BLOCK = 4096
HERE = os.path.join(DIR, "files")
BASE = os.path.join(HERE, "base")
CONTENT = os.urandom(SIZE)


def fresh():
    """An empty directory with the base file in it."""
    subprocess.run(["rm", "-rf", HERE], check=True)
    os.mkdir(HERE)
    with open(BASE, "wb") as f:
        f.write(CONTENT)


def content(path=BASE):
    with open(path, "rb") as f:
        return f.read()


def handle(s, name):
    h = nbd.NBD()
    h.set_export_name(name)
    h.connect_tcp("127.0.0.1", str(s.port))
    return h


def refused(s, name):
    c = s.client()
    kind, text = c.go(name)[-1]
    assert kind & 0x80000000, f"{name} is served"
    assert c.option(99)[-1][0] == ERR_UNSUP
    c.sock.close()
    return kind, text.decode()


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def qemu_io(s, name, *commands):
    args = [a for c in commands for a in ("-c", c)]
    p = subprocess.run(["qemu-io", "-f", "raw", *args, f"nbd://127.0.0.1:{s.port}/{name}"],
                       check=True, capture_output=True, text=True, timeout=60)
    assert not any(w in p.stdout.lower() for w in ("fail", "error", "differ")), p.stdout


def run(*command):
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def multifile():
    """multifile: several files are one export, on the command line too"""
    fresh()
    whole = b""
    for i, size in enumerate((100000, 1 << 20, 1, 300000)):
        with open(f"{BASE}.{i}", "wb") as f:
            f.write(os.urandom(size))
        whole += content(f"{BASE}.{i}")
    config = export("m", BASE, "multifile = true\n") + \
        export("part", BASE, "multifile = true\nfilesize = 200000\nreadonly = true\n") + \
        export("none", BASE + "x", "multifile = true\n") + \
        export("new", BASE + "y", "multifile = true\nfilesize = 1m\n")
    s = Server(config)
    h = handle(s, "m")
    assert h.get_size() == len(whole) and h.can_multi_conn()
    assert h.pread(len(whole), 0) == whole
    h.pwrite(b"z" * 1100000, 50000)
    h.trim(1000, 99500)
    h.pwrite(b"t" * 1000, 99500, nbd.CMD_FLAG_FUA)
    h.flush()
    whole = whole[:50000] + b"z" * 49500 + b"t" * 1000 + b"z" * 1049500 + whole[1150000:]
    assert b"".join(content(f"{BASE}.{i}") for i in range(4)) == whole
    part = handle(s, "part")
    assert part.get_size() == 200000 and part.pread(200000, 0) == whole[:200000]
    assert refused(s, b"none")[0] == ERR_UNKNOWN and f"one of the files of {BASE}x" in s.log(), s.log()
    assert handle(s, "new").get_size() == 1 << 20 and os.stat(BASE + "y.0").st_size == 1 << 20
    run("nbdcopy", f"nbd://127.0.0.1:{s.port}/m", BASE + "-copy")
    assert content(BASE + "-copy") == whole
    for x in (h, part):
        x.shutdown()
    s.stop()
    with contextlib.ExitStack() as stack:
        port = free_port()
        p = stack.enter_context(subprocess.Popen(
            [PROGRAM, "-n", f"127.0.0.1@{port}", BASE, "-m"], stderr=subprocess.DEVNULL))
        stack.callback(p.terminate)
        until(lambda: not subprocess.run(["nbdinfo", "--size", f"nbd://127.0.0.1:{port}"],
                                         check=False, capture_output=True).returncode)
        h = nbd.NBD()
        h.connect_tcp("127.0.0.1", str(port))
        assert h.get_size() == len(whole) and h.pread(len(whole), 0) == whole
        h.shutdown()
    with open(f"{HERE}/out", "w+", encoding="utf-8") as f:
        subprocess.run([PROGRAM, "1", BASE, "-m", "-o", "x"], check=True, stdout=f)
        f.seek(0)
        text = f.read()
        assert "multifile = true" in text, text


def treefiles():
    """treefiles: a file for each block that has been written, removed by TRIM and zeroes"""
    fresh()
    top = os.path.join(HERE, "tree")
    s = Server(export("t", top, "treefiles = true\nfilesize = 1g\n"))
    h = handle(s, "t")

    def files():
        return sorted(os.path.relpath(os.path.join(d, f), top)
                      for d, _, names in os.walk(top) for f in names)
    assert h.get_size() == 1 << 30 and h.can_multi_conn() and files() == []
    h.pwrite(b"1" * 8192, (4 << 20) - 4096)
    h.pwrite(b"2" * 10, (1 << 30) - 10, nbd.CMD_FLAG_FUA)
    assert files() == ["TREE0000/FILE03FF", "TREE0001/FILE0000", "TREE00FF/FILE03FF"]
    assert all(os.stat(os.path.join(top, f)).st_size == BLOCK for f in files())
    h.flush()
    assert h.pread(16384, (4 << 20) - 8192) == bytes(4096) + b"1" * 8192 + bytes(4096)
    h.trim(4096, 4 << 20)
    assert files() == ["TREE0000/FILE03FF", "TREE00FF/FILE03FF"]
    run("nbdinfo", "--map", f"nbd://127.0.0.1:{s.port}/t")
    out = subprocess.run(["nbdinfo", "--map", "--json", f"nbd://127.0.0.1:{s.port}/t"], check=True,
                         capture_output=True, text=True, timeout=60).stdout
    assert out.count('"type": 0') + out.count('"type":0') == 2, out
    h.zero(1 << 30, 0)
    assert files() == []
    h.shutdown()
    qemu_io(s, "t", "write -P 1 1000 100k", "write -z 3k 10k", "aio_write -P 2 2M 64k", "aio_flush",
            "discard 2M 4k", "read -P 1 1000 2k", "read -P 0 3k 10k", "read -P 2 2052k 60k")
    s.stop()


CHECKS = (multifile, treefiles)


def main():
    bad = []
    try:
        for check in CHECKS:
            attempt(check, bad)
    finally:
        for s in running:
            s.process.kill()
            s.process.wait()
    sys.exit(bool(bad))


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
main()
