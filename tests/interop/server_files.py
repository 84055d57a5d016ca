# SPDX-License-Identifier: GPL-2.0-or-later
"""Exports that are more than a file: copyonwrite, temporary, multifile, treefiles, prerun, postrun.

server_files.py PROGRAM DIRECTORY, see serve.py.
"""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import nbd

from serve import *  # pylint: disable=wildcard-import,unused-wildcard-import
from wire import *  # pylint: disable=wildcard-import,unused-wildcard-import

SIZE = 4 << 20
BLOCK = 4096
MULTI_CONN = 0x100
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


def joined(s, name, session, link=0):
    """A connection of a session; with it the export's flags."""
    c = s.client()
    assert c.session(session, link) == ACK
    return c, c.start(name)[1]


def leave(c):
    c.send(c.header(DISC))
    assert c.closed()
    c.sock.close()


def refused(s, name, session=None):
    c = s.client()
    if session:
        assert c.session(session) == ACK
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


def cow(more="", name="cow"):
    return export(name, BASE, "copyonwrite = true\n" + more)


def copy_on_write():
    """copyonwrite: each client's writes are its own, and gone with it; the file stays as it is"""
    fresh()
    s = Server(cow())
    a, b = handle(s, "cow"), handle(s, "cow")
    assert a.get_size() == SIZE and not a.can_multi_conn() and not a.is_read_only()
    a.pwrite(b"a" * 10000, 5000)
    b.zero(3 * BLOCK, 100)
    a.flush()
    assert a.pread(SIZE, 0) == CONTENT[:5000] + b"a" * 10000 + CONTENT[15000:]
    assert b.pread(SIZE, 0) == CONTENT[:100] + bytes(3 * BLOCK) + CONTENT[100 + 3 * BLOCK:]
    assert content() == CONTENT and os.listdir(HERE) == ["base"]
    a.shutdown()
    a = handle(s, "cow")
    assert a.pread(SIZE, 0) == CONTENT
    a.shutdown()
    b.shutdown()
    qemu_io(s, "cow", "write -P 1 1000 1M", "write -z 3k 100k", "aio_write -P 2 2M 1M", "aio_flush",
            "discard 2M 64k", "read -P 1 1000 2k", "read -P 0 3k 100k", "read -P 2 2112k 960k")
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", BASE, f"nbd://127.0.0.1:{s.port}/cow")
    assert content() == CONTENT
    s.stop()
    assert os.listdir(HERE) == ["base"]


def copy_on_write_of_a_session():
    """copyonwrite: one session's connections share what they write; who has lost it is told so"""
    fresh()
    s = Server(cow() + cow(name="other"))
    me = os.urandom(16)
    a, flags = joined(s, b"cow", me, 0)
    assert flags & MULTI_CONN
    b, flags = joined(s, b"cow", me, 1)
    assert flags & MULTI_CONN
    stranger, _ = joined(s, b"cow", os.urandom(16))
    elsewhere, _ = joined(s, b"other", me, 2)
    assert a.write(100, b"x" * 50) == 0
    assert b.read(0, 200) == CONTENT[:100] + b"x" * 50 + CONTENT[150:200]
    assert stranger.read(0, 200) == elsewhere.read(0, 200) == CONTENT[:200]
    # Both write parts of the same blocks at once
    for c, at in ((a, 0), (b, 2048)):
        c.sock.settimeout(60)
        for i in range(100):
            c.send(c.header(WRITE, (300 + i) * BLOCK + at, 2048) + bytes([i]) * 2048)
    for c in (a, b):
        got = {struct_cookie(c) for _ in range(100)}
        assert len(got) == 100
    for c in (a, b):
        assert c.read(300 * BLOCK, 100 * BLOCK) == b"".join(bytes([i]) * BLOCK for i in range(100))
    # A link that is connected anew finds everything, as long as another one lives
    a, _ = joined(s, b"cow", me, 0)
    assert a.read(100, 50) == b"x" * 50
    leave(b)
    leave(a)
    until(lambda: refused(s, b"cow", me)[0] == ERR_POLICY)
    assert "went with its last connection" in refused(s, b"cow", me)[1]
    assert "went with its last connection" in s.log()
    # With a new session, as of a device that is connected anew, all is well; elsewhere too
    a, _ = joined(s, b"cow", os.urandom(16))
    assert a.read(0, 200) == CONTENT[:200] == elsewhere.read(0, 200)
    assert content() == CONTENT
    s.stop()


def struct_cookie(c):
    """The cookie of the next reply, which must be a good one."""
    head = c.recv(16)
    assert head[:8] == bytes.fromhex("6744669800000000"), head
    return head[8:]


def session_comes_back():
    """copyonwrite: a session's only connection that breaks takes everything with it"""
    fresh()
    s = Server(cow())
    me = os.urandom(16)
    a, _ = joined(s, b"cow", me)
    assert a.write(0, b"x") == 0
    assert refused(s, b"cow", me)[0] == ERR_POLICY
    s.stop()


def information_costs_nothing():
    """copyonwrite, temporary: INFO and GO say the same, and asking leaves nothing behind"""
    fresh()
    s = Server(cow() + export("tmp", BASE, "temporary = true\nfilesize = 1m\n"))
    for name in (b"cow", b"tmp"):
        me = os.urandom(16)
        for session in (None, me):
            c = s.client()
            assert not session or c.session(session) == ACK
            info = c.go(name, (3,), INFO)
            assert info[-1][0] == ACK and info == c.go(name, (3,), INFO) == c.go(name, (3,))
            assert c.write(0, b"x") == 0 and c.read(0, 1) == b"x"
            leave(c)
    assert content() == CONTENT and os.listdir(HERE) == ["base"]
    s.stop()


def cow_directory():
    """cowdir: the writes go there, and when it is full that is an error; without it, none starts"""
    fresh()
    where = os.path.join(DIR, "cowdir")
    os.makedirs(where, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", where)
    try:
        s = Server(cow(f"cowdir = {where}\n") + cow("cowdir = /nonexistent\n", "bad") +
                   cow("filesize = 1g\n", "large"))
        c = s.connected(b"cow")
        assert c.write(0, bytes(512 << 10)) == 0
        assert c.write(1 << 20, bytes(1 << 20)) == ENOSPC
        assert c.read(0, 512 << 10) == bytes(512 << 10)
        s.wait_for(f"of the client's own file at {where}: no space left")
        leave(c)
        assert os.listdir(where) == []
        assert refused(s, b"bad")[0] == ERR_UNKNOWN
        assert f"cannot make a file for what a client writes at /nonexistent: No such file" \
            in s.log(), s.log()
        # The file is not made longer for it
        assert refused(s, b"large")[0] == ERR_UNKNOWN
        assert content() == CONTENT
        s.stop()
    finally:
        run("umount", "-l", where)


def killed():
    """copyonwrite, temporary: a server that is killed leaves nothing"""
    fresh()
    s = Server(cow() + export("tmp", BASE, "temporary = true\nfilesize = 1m\n"))
    for name in (b"cow", b"tmp"):
        assert s.connected(name).write(0, b"x") == 0
    s.process.kill()
    assert s.end() == -9
    assert content() == CONTENT and os.listdir(HERE) == ["base"]


def temporary():
    """temporary: a new file for each client, without a name; one session has one"""
    fresh()
    os.unlink(BASE)
    s = Server(export("tmp", BASE, "temporary = true\nfilesize = 8m\n"))
    a, b = handle(s, "tmp"), handle(s, "tmp")
    assert a.get_size() == 8 << 20 and not a.can_multi_conn()
    a.pwrite(b"a" * BLOCK, 0)
    assert b.pread(BLOCK, 0) == bytes(BLOCK) and os.listdir(HERE) == []
    a.shutdown()
    a = handle(s, "tmp")
    assert a.pread(BLOCK, 0) == bytes(BLOCK)
    a.shutdown()
    b.shutdown()
    me = os.urandom(16)
    c, flags = joined(s, b"tmp", me, 0)
    d, _ = joined(s, b"tmp", me, 1)
    assert flags & MULTI_CONN and c.write(0, b"x") == 0 and d.read(0, 1) == b"x"
    leave(c)
    leave(d)
    until(lambda: "went with its last connection" in refused(s, b"tmp", me)[1])
    qemu_io(s, "tmp", "write -P 1 0 8M", "write -z 1M 1M", "read -P 0 1M 1M", "read -P 1 2M 1M")
    s.stop()


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
        cow("multifile = true\n") + export("new", BASE + "y", "multifile = true\nfilesize = 1m\n")
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
    copy = handle(s, "cow")
    copy.pwrite(b"c" * 200000, 0)
    assert copy.pread(len(whole), 0) == b"c" * 200000 + whole[200000:]
    assert refused(s, b"none")[0] == ERR_UNKNOWN and f"one of the files of {BASE}x" in s.log(), s.log()
    assert handle(s, "new").get_size() == 1 << 20 and os.stat(BASE + "y.0").st_size == 1 << 20
    run("nbdcopy", f"nbd://127.0.0.1:{s.port}/m", BASE + "-copy")
    assert content(BASE + "-copy") == whole
    for x in (h, part, copy):
        x.shutdown()
    s.stop()
    with contextlib.ExitStack() as stack:
        port = free_port()
        p = stack.enter_context(subprocess.Popen(
            [PROGRAM, "-n", f"127.0.0.1@{port}", BASE, "-c", "-m"], stderr=subprocess.DEVNULL))
        stack.callback(p.terminate)
        until(lambda: not subprocess.run(["nbdinfo", "--size", f"nbd://127.0.0.1:{port}"],
                                         check=False, capture_output=True).returncode)
        h = nbd.NBD()
        h.connect_tcp("127.0.0.1", str(port))
        h.pwrite(b"q", 0)
        assert h.get_size() == len(whole) and h.pread(10, 0) == b"q" + whole[1:10]
        h.shutdown()
    assert content(BASE + ".0") == whole[:100000]
    with open(f"{HERE}/out", "w+", encoding="utf-8") as f:
        subprocess.run([PROGRAM, "1", BASE, "-c", "-m", "-o", "x"], check=True, stdout=f)
        f.seek(0)
        text = f.read()
        assert "copyonwrite = true" in text and "multifile = true" in text, text


def treefiles():
    """treefiles: a file for each block that has been written, removed by TRIM and zeroes"""
    fresh()
    top = os.path.join(HERE, "tree")
    s = Server(export("t", top, "treefiles = true\nfilesize = 1g\n") +
               cow("treefiles = true\nfilesize = 1g\n").replace(BASE, top))
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
    c = handle(s, "cow")
    c.pwrite(b"c", 0)
    assert c.pread(4097, (4 << 20) - 4097) == b"\0" + b"1" * 4096 and c.pread(1, 0) == b"c"
    c.shutdown()
    assert files() == ["TREE0000/FILE03FF", "TREE00FF/FILE03FF"]
    h.zero(1 << 30, 0)
    assert files() == []
    h.shutdown()
    qemu_io(s, "t", "write -P 1 1000 100k", "write -z 3k 10k", "aio_write -P 2 2M 64k", "aio_flush",
            "discard 2M 4k", "read -P 1 1000 2k", "read -P 0 3k 10k", "read -P 2 2052k 60k")
    s.stop()


def given_up():
    """treefiles: a long WRITE_ZEROES is done in pieces, and not to its end for who has gone"""
    fresh()
    top = os.path.join(HERE, "tree")
    s = Server(export("t", top, "treefiles = true\nfilesize = 1g\n"))
    c = s.connected(b"t")
    c.send(c.header(ZEROES, 0, 1 << 30, NO_HOLE))
    until(lambda: os.path.exists(os.path.join(top, "TREE0001")))
    # A reset, so that the server knows that no reply is waited for
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.sock.close()
    s.wait_for("leaves export")
    s.stop()
    assert len(os.listdir(top)) < 256


LOG = os.path.join(HERE, "commands")
FREE = "seccomp = false\n"  # as the filter would allow no commands


def commands(more="", name="x", path=None):
    """An export with commands that say in a file what they are run for."""
    return export(name, path or os.path.join(HERE, "made"),
                  f"prerun = sh -c 'echo pre \"$1\" >> {LOG}; truncate -s 1m \"$1\"' - %s\n"
                  f"postrun = sh -c 'echo post \"$1\" >> {LOG}; rm -f \"$1\"' - %s\n" + more)


def told():
    with contextlib.suppress(FileNotFoundError):
        with open(LOG, encoding="utf-8") as f:
            return f.read().splitlines()
    return []


def hooks():
    """prerun and postrun: before the file is opened, after it is closed, once, with its name"""
    fresh()
    odd = os.path.join(HERE, "odd; touch $(x) 'name\"")
    s = Server(FREE + commands("maxconnections = 1\n") + commands(name="odd", path=odd))
    made = os.path.join(HERE, "made")
    c = s.client()
    info = c.go(b"x", (), INFO)
    assert info[-1][0] == ACK and c.go(b"x") == info and told() == [f"pre {made}"]
    assert c.write(0, b"x") == 0
    # One too many has nothing run for it
    assert refused(s, b"x")[0] == ERR_POLICY and told() == [f"pre {made}"]
    leave(c)
    until(lambda: told() == [f"pre {made}", f"post {made}"])
    assert not os.path.exists(made)
    os.unlink(LOG)
    # Who asks and goes, and who asks and takes another one
    c = s.client()
    assert c.go(b"x", (), INFO)[-1][0] == ACK
    c.start(b"odd")
    assert told() == [f"pre {made}", f"post {made}", f"pre {odd}"]
    leave(c)
    until(lambda: told()[3:] == [f"post {odd}"])
    s.stop()


def hooks_fail():
    """prerun: the client is refused when it fails, with the reason in the log; postrun is not run"""
    fresh()

    def ex(name, pre):
        return export(name, BASE, f"prerun = {pre}\npostrun = sh -c 'echo {name} >> {LOG}'\n")
    s = Server(FREE + ex("bad", "sh -c 'echo its own words; exit 3'") + ex("none", "/nonexistent %s") +
               ex("killed", "sh -c 'kill -9 $$'") + ex("good", "true") +
               export("gone", BASE + "x", f"postrun = sh -c 'echo gone >> {LOG}'\n"))
    for name, why in (("bad", "ended with status 3"), ("killed", "was ended by signal 9"),
                      ("none", "cannot be started: No such file or directory")):
        kind, text = refused(s, name.encode())
        assert kind == ERR_POLICY and text == f"export '{name}': prerun {why}", text
        assert f"refused: {text}" in s.log()
    assert "its own words" in s.log() and told() == []
    # What it has made ready for a file that cannot be opened is cleared away
    assert refused(s, b"gone")[0] == ERR_UNKNOWN
    assert told() == ["gone"]
    leave(s.connected(b"good"))
    until(lambda: told() == ["gone", "good"])
    s.stop()


def hooks_take_long():
    """prerun: a slow one holds up nobody else, and is killed when the handshake's time is over"""
    fresh()
    s = Server(FREE + "handshake_timeout = 2\n" +
               export("slow", BASE, f"prerun = sh -c 'echo begun >> {LOG}; sleep 60; echo no >> {LOG}'\n") +
               export("fast", BASE), args=["--loops", "1"])
    slow = [s.client() for _ in range(70)]
    for c in slow:
        c.send(b"IHAVEOPT" + b"\0\0\0\7" + b"\0\0\0\x0a" + b"\0\0\0\4slow\0\0")
    until(lambda: told() != [])
    begun = time.monotonic()
    c = s.connected(b"fast")
    assert c.read(0, BLOCK) == CONTENT[:BLOCK] and c.request(TRIM, 0, BLOCK) == 0
    assert time.monotonic() - begun < 1.5
    leave(c)
    for c in slow:
        with contextlib.suppress(Closed):
            c.recv(20)
        c.sock.close()
    s.wait_for("took too long and was killed")
    assert time.monotonic() - begun < 15 and "no" not in told()
    s.stop()


def hooks_inherit_nothing():
    """prerun: it finds none of the server's files, and signals as they are for a new program"""
    fresh()
    out = os.path.join(HERE, "out")
    s = Server(FREE + export("x", BASE, f"prerun = sh -c 'ls -l /proc/$$/fd > {out}; "
                      f"grep -E ^SigBlk /proc/self/status >> {out}'\n"))
    c = s.connected(b"x")
    with open(out, encoding="utf-8") as f:
        text = f.read()
    assert "socket" not in text and "anon_inode" not in text and "0 -> /dev/null" in text, text
    assert "SigBlk:\t0000000000000000" in text, text
    leave(c)
    s.stop()


def hooks_by_reload():
    """prerun: an export that is added by a reload has its commands run"""
    fresh()
    s = Server(FREE + export("a", BASE))
    s.write(FREE + export("a", BASE) + commands())
    s.process.send_signal(signal.SIGHUP)
    until(lambda: b"x" in [d[4:5] for k, d in list_all(s) if k == SERVER] or served(s))
    assert told()[:1] == [f"pre {os.path.join(HERE, 'made')}"]
    s.stop()


def hooks_and_filter():
    """prerun: with the filter of system calls the server does not start, or reload, and says why"""
    fresh()
    s = Server(export("a", BASE))
    s.write(FREE + export("a", BASE) + commands())
    s.process.send_signal(signal.SIGHUP)
    s.wait_for("start the server with seccomp = false")
    assert refused(s, b"x")[0] == ERR_UNKNOWN
    leave(s.connected(b"a"))
    s.write(commands())
    s.stop()
    p = subprocess.run([PROGRAM, "-n", "-C", s.config], check=False, capture_output=True, text=True,
                       timeout=10)
    assert p.returncode and "[x] prerun and postrun are commands" in p.stderr, p.stderr


def list_all(s):
    c = s.client()
    replies = c.option(LIST)
    c.sock.close()
    return replies


def served(s):
    c = s.client()
    ok = c.go(b"x")[-1][0] == ACK
    c.sock.close()
    return ok


def at_once():
    """copyonwrite: many clients at once, each with its own data"""
    fresh()
    s = Server(cow())
    bad = []

    def client(i):
        try:
            h = handle(s, "cow")
            for n in range(40):
                h.pwrite(bytes([i]) * 3000, n * 5000)
            assert h.pread(40 * 5000, 0) == b"".join(
                bytes([i]) * 3000 + CONTENT[n * 5000 + 3000:n * 5000 + 5000] for n in range(40))
            h.shutdown()
        except Exception as e:  # pylint: disable=broad-except
            bad.append(e)
    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad, bad
    assert content() == CONTENT
    s.stop()


CHECKS = (copy_on_write, copy_on_write_of_a_session, session_comes_back, information_costs_nothing,
          cow_directory, killed, temporary, multifile, treefiles, given_up, hooks, hooks_fail,
          hooks_take_long, hooks_inherit_nothing, hooks_by_reload, hooks_and_filter, at_once)


run_checks(CHECKS)
