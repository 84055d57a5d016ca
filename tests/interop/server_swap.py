# SPDX-License-Identifier: GPL-2.0-or-later
"""Swap exports: a file for each client, from its first use to its removal.

server_swap.py PROGRAM DIRECTORY, see serve.py.
"""

import contextlib
import os
import pwd
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import nbd

from serve import *  # pylint: disable=wildcard-import,unused-wildcard-import
from wire import *  # pylint: disable=wildcard-import,unused-wildcard-import

SIZE = 2 << 20
BLOCK = 4096
SWAP = os.path.join(DIR, "swap")
TCP_REPAIR = 19


def section(more="", where=None, size="2m", name="swap-*"):
    return f"[{name}]\nswapdir = {where or SWAP}\nswapsize = {size}\n{more}"


def serve(more="", generic="", **args):
    """A server of an empty directory."""
    subprocess.run(["rm", "-rf", SWAP], check=True)
    os.mkdir(SWAP)
    return Server(generic + section(more), **args)


def path(name="swap-a", where=None):
    return os.path.join(where or SWAP, name + ".swap")


def blocks(file):
    return os.stat(file).st_blocks * 512


def handle(s, name="swap-a"):
    h = nbd.NBD()
    h.set_export_name(name)
    h.connect_tcp("127.0.0.1", str(s.port))
    return h


def joined(s, session, name=b"swap-a", link=0):
    c = s.client()
    assert c.session(session, link) == ACK
    c.start(name)
    return c


def refused(s, session=None, name=b"swap-a"):
    """The type and text of the error that GO gets."""
    c = s.client()
    if session:
        assert c.session(session) == ACK
    kind, text = c.go(name)[-1]
    assert kind & 0x80000000, f"{name} is served"
    # The connection is good for another attempt
    assert c.option(99)[-1][0] == ERR_UNSUP
    c.sock.close()
    return kind, text.decode()


def leave(c):
    c.send(c.header(DISC))
    assert c.closed()
    c.sock.close()


def gone(file, seconds=8):
    end = time.monotonic() + seconds
    while os.path.exists(file):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def tmpfs(size):
    where = os.path.join(DIR, "swap-tmpfs")
    os.makedirs(where, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def first_use():
    """made on first use, sparse, mode 0600; found again by name; another name has another file"""
    s = serve()
    h = handle(s)
    assert h.get_size() == SIZE and h.can_trim() and h.can_multi_conn() and not h.is_read_only()
    st = os.stat(path())
    assert st.st_size == SIZE and st.st_mode & 0o7777 == 0o600 and blocks(path()) == 0
    assert h.pread(SIZE, 0) == bytes(SIZE)
    h.pwrite(b"a" * BLOCK, 8192)
    other = handle(s, "swap-b")
    assert other.pread(BLOCK, 8192) == bytes(BLOCK)
    h.shutdown()
    h = handle(s)
    assert h.pread(BLOCK, 8192) == b"a" * BLOCK
    assert sorted(os.listdir(SWAP)) == ["swap-a.swap", "swap-b.swap"]
    assert s.log().count("created") == 2
    h.shutdown()
    other.shutdown()
    # The oldest way to open an export
    c = s.client()
    c.send(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 6) + b"swap-c")
    assert struct.unpack(">Q", c.recv(8))[0] == SIZE and os.path.exists(path("swap-c"))
    s.stop()


def info_makes_none():
    """INFO and the metadata options tell the size and make no file"""
    s = serve()
    c = s.client()
    assert c.option(STRUCTURED)[-1][0] == ACK
    replies = c.go(b"swap-a", (1, 3), number=INFO)
    assert replies[-1][0] == ACK
    items = {struct.unpack(">H", d[:2])[0]: d[2:] for k, d in replies if k == REP_INFO}
    assert struct.unpack(">Q", items[0][:8])[0] == SIZE and items[1] == b"swap-a" and 3 in items
    assert c.meta(SET_META, b"swap-a")[-1][0] == ACK
    assert os.listdir(SWAP) == []
    # It is what GO tells
    assert (REP_INFO, b"\0\0" + items[0]) in c.go(b"swap-a")
    assert os.listdir(SWAP) == ["swap-a.swap"]
    s.stop()


def hostile_names():
    """names that could lead out of the directory, or hide in it, are refused as unknown"""
    s = serve()
    outside, target = set(os.listdir(DIR)), os.path.join(DIR, "swap-target")
    bad = (b"swap-/x", b"swap-../x", b"swap-/../../x", b"swap-..", b"swap-a..b", b"swap-\n", b"swap- ",
           b"swap-*", b"swap-%s%n", b"swap-\xff\xfe", b"swap-'$(id)", b"swap-" + b"x" * 196,
           b"swap-" + b"x" * 4000)
    for name in bad:
        kind, text = refused(s, name=name)
        assert kind == ERR_UNKNOWN and "bad name" in text, (name, text)
        assert s.client().go(name, number=INFO)[-1][0] == ERR_UNKNOWN
    for name in (b"", b"swap-", b"swap", b".swap-a", b"../swap-a", b"swap-a\0b"):
        assert refused(s, name=name)[0] == ERR_UNKNOWN, name
    assert os.listdir(SWAP) == [] and set(os.listdir(DIR)) == outside
    os.symlink(target, path("swap-l"))
    os.mkfifo(path("swap-f"))
    for name in (b"swap-l", b"swap-f"):
        assert refused(s, name=name)[0] == ERR_UNKNOWN
    assert not os.path.exists(target)
    longest = b"swap-" + b"x" * 195
    assert s.client().start(longest)[0] == SIZE
    s.stop()


def one_session():
    """another session is refused while the first has a connection; its own connections are not"""
    s = serve()
    mine, other = os.urandom(16), os.urandom(16)
    a, b = joined(s, mine), joined(s, mine, link=1)
    assert a.write(0, b"m" * BLOCK) == 0 and b.read(0, BLOCK) == b"m" * BLOCK
    for session in (other, None):
        kind, text = refused(s, session)
        assert kind == ERR_POLICY and "in use by another client" in text, text
    assert "client 127.0.0.1" in s.log() and s.log().count("'swap-a' is in use") == 2
    # A lost connection of the first is taken over by its next one, also when it is the only one
    leave(b)
    c = joined(s, mine)
    assert a.closed() and c.read(0, BLOCK) == b"m" * BLOCK
    assert refused(s, other)[0] == ERR_POLICY
    leave(c)
    # Once it has gone its name is free, and what it wrote is no longer its own
    d = joined(s, other)
    leave(d)
    kind, text = refused(s, mine)
    assert kind == ERR_POLICY and "given to another" in text, text
    s.stop()


def no_session():
    """clients without a session: several connections from one address are one client"""
    s = serve()
    a, b = handle(s), handle(s)
    a.pwrite(b"n" * BLOCK, 0)
    assert b.pread(BLOCK, 0) == b"n" * BLOCK
    assert refused(s, os.urandom(16))[0] == ERR_POLICY
    far = socket.socket()
    far.bind(("127.0.0.2", 0))
    far.connect(("127.0.0.1", s.port))
    c = Client.__new__(Client)
    c.sock, c.cookie = far, 1
    far.settimeout(10)
    assert c.recv(18)
    c.send(struct.pack(">I", FIXED | NO_ZEROES))
    assert c.go(b"swap-a")[-1][0] == ERR_POLICY
    far.close()
    a.shutdown()
    b.shutdown()
    s.stop()


def dead_client():
    """a machine that was switched off and on again: its old connection is found to be dead"""
    s = serve()
    old, new = joined(s, os.urandom(16)), os.urandom(16)
    assert old.write(0, b"o" * BLOCK) == 0
    # Closed without a word, and with nothing that the server would send again
    time.sleep(0.5)
    old.sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    old.sock.close()
    time.sleep(3)
    assert refused(s, new)[0] == ERR_POLICY
    end = time.monotonic() + 8
    while True:
        c = s.client()
        assert c.session(new) == ACK
        if c.go(b"swap-a")[-1][0] == ACK:
            break
        c.sock.close()
        assert time.monotonic() < end, "the name stays in use"
        time.sleep(0.5)
    assert c.read(0, 1) == b"o"
    s.stop()


def grace():
    """removed when nobody has used it for swapgrace, and not before; the session is then refused"""
    s = serve("swapgrace = 2\n")
    session = os.urandom(16)
    used = handle(s, "swap-used")
    c = joined(s, session)
    c.sock.close()
    time.sleep(1)
    c = joined(s, session)
    time.sleep(2.5)
    assert os.path.exists(path())
    assert c.write(0, b"g" * BLOCK) == 0
    leave(c)
    begin = time.monotonic()
    assert gone(path())
    assert time.monotonic() - begin > 1.5
    s.wait_for("swap-a.swap removed: nobody has used it for 2 seconds")
    kind, text = refused(s, session)
    assert kind == ERR_POLICY and "was removed" in text, text
    # For others the name is as good as new
    c = joined(s, os.urandom(16))
    assert c.read(0, BLOCK) == bytes(BLOCK)
    assert used.pread(1, 0) == b"\0" and os.path.exists(path("swap-used"))
    used.shutdown()
    s.stop()


def restart():
    """a restart keeps files and their sizes; those nobody comes for get their grace anew"""
    s = serve("swapgrace = 3\n")
    session = os.urandom(16)
    c = joined(s, session)
    assert c.write(0, b"r" * BLOCK) == 0
    handle(s, "swap-b").shutdown()
    time.sleep(1.5)
    s.process.kill()
    assert s.end() == -9
    # What a server leaves that is killed while it makes one
    with open(os.path.join(SWAP, ".swap-c.new"), "wb"):
        pass
    time.sleep(2)
    begin = time.monotonic()
    s = Server(section("swapgrace = 3\n", size="4m"), port=s.port)
    assert "2 files of 4194304 bytes found" in s.log()
    c = s.client()
    assert c.session(session) == ACK
    assert c.start(b"swap-a")[0] == SIZE
    assert c.read(0, BLOCK) == b"r" * BLOCK
    assert os.path.exists(path("swap-b")) and not os.path.exists(os.path.join(SWAP, ".swap-c.new"))
    assert gone(path("swap-b"))
    assert time.monotonic() - begin > 2.5
    assert os.path.exists(path())
    assert s.client().start(b"swap-b")[0] == 4 << 20
    s.stop()


def quota():
    """quota counts promised sizes: one too many is refused, until another's file is removed"""
    s = serve("quota = 5m\nswapgrace = 1\n")
    a, b = handle(s, "swap-a"), handle(s, "swap-b")
    kind, text = refused(s, name=b"swap-c")
    assert kind == ERR_POLICY and "quota of 5242880 bytes" in text, text
    assert s.log().count("quota") == 1
    assert s.client().go(b"swap-c", number=INFO)[-1][0] == ERR_POLICY
    assert not os.path.exists(path("swap-c"))
    handle(s, "swap-a").shutdown()
    b.shutdown()
    assert gone(path("swap-b"))
    c = handle(s, "swap-c")
    assert refused(s, name=b"swap-b")[0] == ERR_POLICY
    a.shutdown()
    c.shutdown()
    s.stop()


def trim():
    """TRIM and zeroes give blocks back"""
    s = serve()
    h = handle(s)
    h.pwrite(b"t" * SIZE, 0)
    h.flush()
    assert blocks(path()) >= SIZE
    h.trim(1 << 20, 0)
    assert blocks(path()) < SIZE - (1 << 19)
    h.zero(1 << 20, 1 << 20)
    assert blocks(path()) < 1 << 16
    assert h.pread(SIZE, 0) == bytes(SIZE)
    h.shutdown()
    s.stop()


def preallocate():
    """preallocate takes the blocks at once and keeps them: no TRIM, and zeroes make no holes"""
    s = serve("preallocate = true\n")
    h = handle(s)
    assert blocks(path()) >= SIZE and not h.can_trim()
    h.pwrite(b"p" * BLOCK, 0)
    h.zero(SIZE, 0)
    h.flush()
    assert blocks(path()) >= SIZE and h.pread(BLOCK, 0) == bytes(BLOCK)
    h.shutdown()
    s.stop()


def preallocate_fails():
    """no space to preallocate: refused, logged, no file left, and nothing is promised"""
    with tmpfs("5m") as where:
        s = Server(section("preallocate = true\nquota = 6m\n", where))
        a, b = handle(s, "swap-a"), handle(s, "swap-b")
        for _ in range(3):
            kind, text = refused(s, name=b"swap-c")
            assert kind == ERR_UNKNOWN and "no space left" in text, text
            assert sorted(os.listdir(where)) == ["swap-a.swap", "swap-b.swap"]
        assert f"cannot reserve the space of {where}/swap-c.swap: No space left" in s.log()
        a.pwrite(b"p" * SIZE, 0)
        b.pwrite(b"p" * SIZE, 0)
        a.shutdown()
        b.shutdown()
        s.stop()


def no_space():
    """a full file system: ENOSPC to the client, one line and a count in the log, for each export"""
    with tmpfs("1m") as where:
        s = Server(section("", where))
        a, b = handle(s, "swap-a"), handle(s, "swap-b")
        a.pwrite(b"x" * 65536, 0)
        for h in (a, b):
            for _ in range(8):
                try:
                    h.pwrite(b"x" * SIZE, 0)
                    raise AssertionError("there was room")
                except nbd.Error as e:
                    assert e.errnum == 28, e
        assert a.pread(65536, 0) == b"x" * 65536
        log = s.log()
        for name in ("swap-a", "swap-b"):
            assert log.count(f"export '{name}': cannot write") == 1, log
            assert f"of {where}/{name}.swap: no space left" in log, log
        # What one gives back is there for others
        a.trim(SIZE, 0)
        a.shutdown()
        s.wait_for(f"export 'swap-a': 7 more requests have failed for lack of space in {where}/swap-a")
        b.pwrite(b"y" * 65536, 0)
        b.shutdown()
        s.stop()


def reload():
    """SIGHUP: clients go on; new sizes for new files; a section that is gone or wrong"""
    s = serve("swapgrace = 1\n")
    h = handle(s)
    h.pwrite(b"h" * BLOCK, 0)
    def again(config, said):
        n = s.log().count(said)
        s.write(config)
        s.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 10
        while s.log().count(said) == n:
            assert time.monotonic() < end, s.log()
            time.sleep(0.02)
    again(section("swapgrace = 1\n", size="4m"), "configuration reloaded")
    assert handle(s).get_size() == SIZE and handle(s, "swap-b").get_size() == 4 << 20
    # It stays where it is, with its clients, but nobody new gets it
    again(export("other", more="filesize = 4096\n"), "configuration reloaded")
    assert refused(s)[0] == ERR_UNKNOWN
    h.pwrite(b"i" * BLOCK, BLOCK)
    time.sleep(1.5)
    assert os.path.exists(path("swap-b"))
    again(section("swapgrace = 1\n", "/nonexistent/dir"), "configuration not reloaded")
    assert "swapdir = /nonexistent/dir: cannot find it" in s.log()
    again(section("swapgrace = 1\n"), "configuration reloaded")
    assert gone(path("swap-b"))
    assert h.pread(2 * BLOCK, 0) == b"h" * BLOCK + b"i" * BLOCK
    assert handle(s).pread(1, 0) == b"h"
    time.sleep(1.5)
    assert os.path.exists(path())
    again(section(name="swap"), "configuration not reloaded")
    h.shutdown()
    s.stop()


def listed():
    """LIST names the files there are, after a restart too, in place of the pattern"""
    s = serve("description = for a node\n", generic="allowlist = true\n" +
              export("disk", more="filesize = 4096\n"))
    def names():
        return [n[4:] for k, n in s.client().option(LIST) if k == SERVER]
    assert names() == [b"disk"]
    handles = [handle(s, f"swap-{i:03}") for i in range(3)]
    assert names() == [b"disk", *(b"swap-%03dfor a node" % i for i in range(3))]
    for h in handles:
        h.shutdown()
    # More than one piece of the answer holds
    for i in range(600):
        with open(path(f"swap-{i:03}"), "ab") as f:
            f.truncate(SIZE)
    s.stop()
    s = Server("allowlist = true\n" + section("description = for a node\n") +
               export("disk", more="filesize = 4096\n"), port=s.port)
    assert names() == [*(b"swap-%03dfor a node" % i for i in range(600)), b"disk"]
    s.stop()


def at_once():
    """many connections of many clients at once: each name has one file, and one client"""
    s = serve("quota = 1g\n")
    sessions = [os.urandom(16) for _ in range(8)]
    results = []
    def join(name, session, link):
        c = s.client()
        assert c.session(session, link) == ACK
        results.append((name, session, c.go(name)[-1][0]))
    threads = [threading.Thread(target=join, args=(b"swap-%d" % (i % 4), sessions[i % 8], i))
               for i in range(64)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 64
    for name in {r[0] for r in results}:
        good = {r[1] for r in results if r[0] == name and r[2] == ACK}
        assert len(good) == 1, f"{len(good)} clients have {name}"
        for _, session, kind in (r for r in results if r[0] == name):
            assert (kind == ACK) == (session in good), kind
    assert s.log().count("created") == 4 and len(os.listdir(SWAP)) == 4
    s.stop()


def places():
    """maxconnections counts the section's connections, and no file is made for one too many"""
    s = serve("maxconnections = 2\n")
    a, b = handle(s, "swap-a"), handle(s, "swap-b")
    assert refused(s, name=b"swap-c")[0] == ERR_POLICY and not os.path.exists(path("swap-c"))
    a.shutdown()
    b.shutdown()
    s.stop()


def without_cache():
    """direct: files are made for it, in blocks of 4096 that are told before there is a file"""
    s = serve("direct = true\n")
    c = s.client()
    told = [[d for _, d in c.go(b"swap-a", wants=(3,), number=n) if d[:2] == b"\0\3"]
            for n in (INFO, GO)]
    assert told[0] == told[1] == [struct.pack(">HIII", 3, 4096, 4096, 32 << 20)], told
    assert c.write(4096, b"s" * 4096) == 0 and c.read(4096, 4096) == b"s" * 4096
    assert c.write(512, b"s" * 512) == EINVAL
    s.stop()


def start():
    """what cannot work is said at the start: no directory, not ours to write, or another server's"""
    s = serve()
    port = free_port()
    def fails(config, code, said, *args):
        file = os.path.join(DIR, "swap.conf")
        with open(file, "w", encoding="utf-8") as f:
            f.write(f"[generic]\nlistenaddr = 127.0.0.1\nport = {port}\n{config}")
        p = subprocess.run([PROGRAM, "-n", "-C", file, *args], check=False, capture_output=True,
                           text=True, timeout=10)
        assert p.returncode == code and said in p.stderr, (p.returncode, p.stderr)
    fails(section(), 4, "another nbd-server serves swap from it")
    fails(section(where="/nonexistent"), 4, "swapdir = /nonexistent: cannot find it: No such file")
    fails(section(where=DISK + "-none"), 4, "make it a directory of the user")
    s.stop()
    fails("user = nobody\n" + section(), 4, f"swapdir = {SWAP}: cannot")
    fails(section() + section(name="more-*"), 4, "section [swap-*] has it already")
    fails(section(name="swap"), 3, "put a * where they differ")
    fails("user = nobody\n" + section(), 4, "port 0 has one server for each client", "0", DISK)


def daemon_of_a_user():
    """a daemon that runs as another user has its files, and the directory for itself"""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as where:
        port, pid_file = free_port(), os.path.join(DIR, "swap.pid")
        nobody = pwd.getpwnam("nobody")
        os.chown(where, nobody.pw_uid, nobody.pw_gid)
        file = os.path.join(where, "config")
        with open(file, "w", encoding="utf-8") as f:
            f.write(f"[generic]\nlistenaddr = 127.0.0.1\nport = {port}\nuser = nobody\n" +
                    section("swapgrace = 1\n", where))
        subprocess.run([PROGRAM, "-C", file, "-p", pid_file], check=True, timeout=10)
        with open(pid_file, encoding="utf-8") as f:
            pid = int(f.read())
        try:
            c = Client(("127.0.0.1", port))
            assert c.start(b"swap-a")[0] == SIZE
            assert os.stat(path(where=where)).st_uid == nobody.pw_uid
            with open(file, "r+", encoding="utf-8") as f:
                text = f.read().replace(str(port), str(free_port()))
                f.seek(0)
                f.write(text)
            p = subprocess.run([PROGRAM, "-n", "-C", file], check=False, capture_output=True,
                               text=True, timeout=10)
            assert p.returncode == 4 and "another nbd-server serves swap" in p.stderr, p.stderr
            leave(c)
            assert gone(path(where=where))
        finally:
            os.kill(pid, signal.SIGTERM)


CHECKS = (first_use, info_makes_none, hostile_names, one_session, no_session, dead_client, grace, restart,
          quota, trim, preallocate, preallocate_fails, no_space, reload, listed, at_once, places,
          without_cache, start, daemon_of_a_user)


run_checks(CHECKS)
