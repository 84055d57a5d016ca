# SPDX-License-Identifier: GPL-2.0-or-later
"""The server as a process: its signals, limits and ways to start.

server_life.py PROGRAM DIRECTORY, see serve.py.
"""

import ctypes
import fcntl
import json
import mmap
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from serve import *  # pylint: disable=wildcard-import,unused-wildcard-import
from wire import *  # pylint: disable=wildcard-import,unused-wildcard-import

SIZE = 16 << 20


def term_idle():
    """SIGTERM with idle clients, also in the handshake: closed at once, status 0"""
    s = Server()
    clients = [s.connected(), s.client(), s.client(flags=None)]
    clients[2].recv(18)
    s.term()
    begin = time.monotonic()
    for c in clients:
        assert c.closed()
        c.sock.close()
    assert s.end() == 0
    assert time.monotonic() - begin < 1


def term_drains():
    """SIGTERM: what is in flight is finished, the rest answered ESHUTDOWN"""
    s = Server()
    c, late = s.connected(), s.client()
    data = os.urandom(65536)
    c.send(c.header(WRITE, 8192, len(data)) + data[:1000])
    first = c.cookie
    time.sleep(0.2)
    s.term()
    time.sleep(0.2)
    c.send(data[1000:] + c.header(READ, 0, 512) + c.header(WRITE, 0, 3) + b"abc")
    # In any order: another thread may answer first
    replies = {struct.unpack(">IIQ", c.recv(16)) for _ in range(3)}
    assert replies == {(0x67446698, 0, first), (0x67446698, ESHUTDOWN, first + 1),
                       (0x67446698, ESHUTDOWN, first + 2)}
    assert c.closed() and late.closed()
    c.sock.close()
    late.sock.close()
    assert s.end() == 0
    with open(DISK, "rb") as f:
        f.seek(8192)
        assert f.read(len(data)) == data


def term_options():
    """SIGTERM in the middle of an option: ERR_SHUTDOWN"""
    s = Server()
    c = s.client()
    c.send(b"IHAVEOPT" + struct.pack(">II", GO, 6) + b"\0\0")
    time.sleep(0.2)
    s.term()
    time.sleep(0.2)
    c.send(b"\0\0\0\0")
    assert struct.unpack(">QIII", c.recv(20))[2] == ERR_SHUTDOWN
    c.sock.close()
    assert s.end() == 0


def term_bounded():
    """SIGTERM with a client that never ends its request, and one that does not hang up"""
    s = Server()
    a, b = s.connected(), s.connected()
    a.send(a.header(WRITE, 0, 4096) + b"half")
    time.sleep(0.2)
    s.term()
    begin = time.monotonic()
    assert b.closed()
    assert s.end(20) == 0
    assert time.monotonic() - begin < 12


def term_twice():
    """a second SIGTERM does not wait for clients any longer: status 1"""
    s = Server()
    c = s.connected()
    c.send(c.header(WRITE, 0, 4096) + b"half")
    time.sleep(0.2)
    s.term()
    time.sleep(0.2)
    assert s.process.poll() is None
    s.term()
    assert s.end(3) == 1
    assert "1 client cut off" in s.log()


def kill_and_restart():
    """SIGKILL with clients connected: back on the same port at once"""
    port = free_port()
    for _ in range(3):
        s = Server(port=port)
        c = s.connected()
        assert c.write(0, b"k" * 4096) == 0
        s.process.kill()
        assert s.end() == -9
        s = Server(port=port)
        assert s.connected().read(0, 4096) == b"k" * 4096
        s.process.kill()
        s.end()


def reload():
    """SIGHUP: new exports served, removed ones refused, live clients untouched"""
    s = Server(export("a") + export("b", more="readonly = true\n"))
    a, b = s.connected(b"a"), s.connected(b"b")
    assert s.client().go(b"c")[-1][0] == ERR_UNKNOWN
    s.write(export("b", more="filesize = 8192\n") + export("c"))
    s.process.send_signal(signal.SIGHUP)
    s.wait_for("configuration reloaded")
    assert a.write(0, b"a" * 512) == 0 and b.read(0, 512) == b"a" * 512
    assert b.write(0, b"b") == EPERM
    assert s.client().go(b"a")[-1][0] == ERR_UNKNOWN
    assert s.client().start(b"b")[0] == 8192
    assert s.connected(b"c").write(0, b"c") == 0
    # A broken file changes nothing
    s.write(export("c", more="readonly = maybe\n"))
    s.process.send_signal(signal.SIGHUP)
    s.wait_for("configuration not reloaded")
    assert "[c] readonly = maybe" in s.log()
    assert s.connected(b"c").read(0, 1) == b"c"
    s.stop()


def default_export():
    """the empty name is the first export; LIST only with allowlist"""
    s = Server(export("one", more="filesize = 4096\n") + export("two"))
    assert s.client().start()[0] == 4096
    assert s.client().option(LIST)[-1][0] == ERR_POLICY
    s.stop()
    s = Server("allowlist = true\n" + export("one", more="description = 1st\n") + export("two"))
    assert s.client().option(LIST) == [(SERVER, b"\0\0\0\3one1st"), (SERVER, b"\0\0\0\3two"),
                                       (ACK, b"")]
    s.stop()


def replaced_file():
    """CAN_MULTI_CONN only while all clients of an export have the same file"""
    s = Server(export("r", os.path.join(DIR, "life.r"), "filesize = 4096\n"))
    a, b = s.client(), s.client()
    assert a.start()[1] & 0x100 and b.start()[1] & 0x100
    os.rename(os.path.join(DIR, "life.r"), os.path.join(DIR, "life.old-r"))
    assert not s.client().start()[1] & 0x100
    for c in (a, b):
        c.send(c.header(DISC))
        assert c.closed()
    time.sleep(0.1)
    assert s.client().start()[1] & 0x100
    s.stop()


def resized():
    """a file that has grown or shrunk: who connects again sees its size, others keep theirs"""
    file = os.path.join(DIR, "resized.img")
    with open(file, "wb") as f:
        f.truncate(SIZE)
    s = Server(export("a", file))
    old = s.client()
    assert old.start(b"a")[0] == SIZE
    os.truncate(file, 2 * SIZE)
    new = s.client()
    assert new.start(b"a")[0] == 2 * SIZE
    assert new.write(2 * SIZE - 512, b"n" * 512) == 0
    assert old.write(SIZE, b"o" * 512) == ENOSPC and old.write(SIZE - 512, b"o" * 512) == 0
    assert new.read(SIZE - 512, 1024) == b"o" * 512 + bytes(512)
    os.truncate(file, SIZE)
    assert s.client().start(b"a")[0] == SIZE
    new.send(new.header(READ, SIZE, 512))
    assert new.reply(512)[0] == EIO
    assert new.read(SIZE - 512, 512) == b"o" * 512
    s.stop()
    os.unlink(file)


def max_connections():
    """maxconnections counts live connections: a place is free again after a disconnect"""
    s = Server(export("m", more="maxconnections = 2\n") + export("n"))
    for _ in range(3):
        a, b = s.connected(b"m"), s.connected(b"m")
        c = s.client()
        assert c.go(b"m")[-1][0] == ERR_POLICY
        assert c.go(b"m", number=INFO)[-1][0] == ACK
        assert c.go(b"n")[-1][0] == ACK
        a.send(a.header(DISC))
        assert a.closed()
        b.sock.close()
        end = time.monotonic() + 5
        there = []
        while len(there) < 2:
            c = s.client()
            if c.go(b"m")[-1][0] == ACK:
                there.append(c)
                continue
            assert time.monotonic() < end
            time.sleep(0.02)
        for c in there:
            c.send(c.header(DISC))
            assert c.closed()
    s.stop()


def max_clients():
    """max_clients: one too many is turned away, and served when another has left"""
    s = Server("max_clients = 3\n" + export("x"))
    clients = [s.connected() for _ in range(3)]
    assert s.client(flags=None).closed()
    assert clients[0].read(0, 1)
    clients.pop().sock.close()
    end = time.monotonic() + 5
    while True:
        try:
            s.connected()
            break
        except Closed:
            assert time.monotonic() < end
            time.sleep(0.05)
    s.stop()


def per_address():
    """maxperaddress of an export: one too many from one address is refused, others are served"""
    s = Server(f"control = {DIR}/control\n" + export("m", more="maxperaddress = 2\n") + export("n"))
    for _ in range(2):
        a, b = s.connected(b"m"), s.connected(b"m")
        c = s.client()
        kind, why = c.go(b"m")[-1]
        assert kind == ERR_POLICY and b"maximum of 2 connections from this" in why, why
        assert c.go(b"m", number=INFO)[-1][0] == ACK and c.go(b"n")[-1][0] == ACK
        s.connected(b"m", source="127.0.0.2").read(0, 1)
        # EXPORT_NAME has no answer for it
        old = s.client()
        old.send(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 1) + b"m")
        assert old.closed()
        s.wait_for("refused: export 'm' has its maximum of 2 connections from this")
        a.send(a.header(DISC))
        b.send(b.header(DISC))
        assert a.closed() and b.closed()
    status = subprocess.run([PROGRAM, "ctl", "--socket", f"{DIR}/control", "--json", "status"],
                            check=True, capture_output=True, text=True)
    assert json.loads(status.stdout)["refused"] == \
        {"max_clients": 0, "maxconnections": 0, "maxperaddress": 4}, status.stdout
    s.stop()


def per_address_of_all():
    """maxperaddress of all: whoever has so many, in whatever state, is hung up on"""
    sock = os.path.join(DIR, "address.sock")
    s = Server(f"maxperaddress = 2\nunixsock = {sock}\nduallisten = true\n" + export("x"))
    clients = [s.connected(), s.client()]
    for _ in range(3):
        assert s.client(flags=None).closed()
    s.wait_for("its address has maxperaddress connections")
    s.connected(source="127.0.0.2").read(0, 1)
    for _ in range(4):
        c = Client(sock)
        s.clients.append(c)
        c.start(b"x")
    clients.pop().sock.close()
    end = time.monotonic() + 5
    while True:
        try:
            s.connected().read(0, 1)
            break
        except Closed:
            assert time.monotonic() < end
            time.sleep(0.05)
    s.stop()


def handshake_deadline():
    """handshake_timeout: whoever is slow is dropped, whoever is done stays"""
    s = Server(args=["--handshake-timeout", "1"])
    done = s.connected()
    silent, slow = s.client(flags=None), s.client()
    silent.recv(18)
    begin = time.monotonic()
    try:
        for _ in range(100):
            slow.option(99)
            time.sleep(0.05)
        raise AssertionError("a client may haggle for ever")
    except (Closed, ConnectionError):
        pass
    assert 0.5 < time.monotonic() - begin < 3
    assert silent.closed()
    assert done.read(0, 512)
    s.stop()


def idle_timeout():
    """timeout: an idle client is dropped"""
    s = Server(export("t", more="timeout = 1\n"))
    c = s.connected()
    begin = time.monotonic()
    for _ in range(3):
        time.sleep(0.5)
        assert c.read(0, 512)
    assert c.closed()
    assert time.monotonic() - begin > 2
    s.stop()


def descriptors():
    """out of file descriptors: new clients wait, the others go on, then all are served"""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (34, 34))
    s = Server(args=["--loops", "1"], preexec_fn=few)
    clients = [s.connected() for _ in range(7)]
    extra = []
    for _ in range(20):
        extra.append(Client(("127.0.0.1", s.port), flags=None))
    s.wait_for("new clients have to wait")
    for c in clients:
        assert c.write(0, b"d" * 512) == 0
    for c in extra:
        c.sock.close()
    assert s.connected().read(0, 512) == b"d" * 512
    s.stop()


def access():
    """authfile: addresses, not text; INFO is refused as GO is"""
    allow = os.path.join(DIR, "life.allow")
    s = Server(export("x", more=f"authfile = {allow}\n") + export("y"))
    for text, allowed in (("127.0.0.10\n", False), ("127.0.0.1\n", True), ("", False),
                          ("# all\n127.0.0.0/8\n", True), ("::/0\n", False)):
        with open(allow, "w", encoding="utf-8") as f:
            f.write(text)
        c = s.client()
        assert c.go(b"x", number=INFO)[-1][0] == (ACK if allowed else ERR_POLICY), text
        assert c.go(b"x")[-1][0] == (ACK if allowed else ERR_POLICY), text
        if not allowed:
            assert c.go(b"y")[-1][0] == ACK
    os.unlink(allow)
    s.connected(b"x").read(0, 1)
    s.stop()


def missing_file():
    """a file that is not there: refused and logged; made when filesize is given"""
    gone = os.path.join(DIR, "life.gone")
    s = Server(export("g", gone) + export("h", gone, "filesize = 1m\n"))
    assert s.client().go(b"g")[-1][0] == ERR_UNKNOWN
    assert f"cannot open {gone}: No such file" in s.log()
    assert s.client().start(b"h")[0] == 1 << 20
    assert s.client().start(b"g")[0] == 1 << 20
    s.stop()
    os.unlink(gone)


def no_space():
    """a full file system: ENOSPC to the client, a line and a count in the log, the connection stays"""
    small = os.path.join(DIR, "small")
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        s = Server(export("s", small + "/f", "filesize = 4m\n"))
        c = s.connected()
        assert c.write(0, b"x" * 65536) == 0
        assert c.write(1 << 20, b"x" * (2 << 20)) == ENOSPC
        assert s.log().count("no space left") == 1
        assert c.read(0, 65536) == b"x" * 65536
        for _ in range(20):
            assert c.write(1 << 20, b"x" * (2 << 20)) == ENOSPC
        assert s.log().count("no space left") == 1 and "more request" not in s.log()
        c.send(c.header(DISC))
        assert c.closed()
        s.wait_for(f"export 's': 20 more requests have failed for lack of space in {small}/f")
        # And for one that stays, when it is time
        c = s.connected()
        for _ in range(3):
            assert c.write(1 << 20, b"x" * (2 << 20)) == ENOSPC
        s.wait_for("'s': 3 more requests have failed for lack of space", 12)
        s.stop()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def block_device():
    """a block device: size, and zeroes and trim at any offset"""
    image = os.path.join(DIR, "life.loop")
    with open(image, "wb") as f:
        f.truncate(4 << 20)
    device = subprocess.run(["losetup", "-f", "--show", image], check=True,
                            capture_output=True, text=True).stdout.strip()
    try:
        s = Server(export("d", device))
        c = s.client()
        assert c.start(b"d")[0] == 4 << 20
        want = bytearray(b"\xd7" * (4 << 20))
        assert c.write(0, bytes(want)) == 0
        for offset, n, flags in ((0, 4096, 0), (5000, 1, 0), (10000, 600, FUA), (99999, 300001, 0),
                                 (1 << 20, 1 << 20, NO_HOLE), ((4 << 20) - 700, 700, NO_HOLE)):
            assert c.request(ZEROES, offset, n, flags) == 0
            want[offset:offset + n] = bytes(n)
            assert c.read(0, 4 << 20) == want
        assert c.request(TRIM, 3000000, 100001, FUA) == 0
        data = c.read(0, 4 << 20)
        assert data[:3000000] == want[:3000000] and data[3100001:] == want[3100001:]
        assert c.request(FLUSH) == 0
        s.stop()
        with open(device, "rb") as f:
            assert f.read() == data
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def cached(path, size):
    """How many of the first pages are in the page cache?"""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), size) as m:
        there = (ctypes.c_ubyte * (size // 4096))()
        first = ctypes.c_ubyte.from_buffer(m)
        assert not libc.mincore(ctypes.byref(first), ctypes.c_size_t(size), there)
        del first
        return sum(there)


def direct_io(io, path, block, size):
    s = Server(f"io = {io}\n" + export("d", path, "direct = true\n"))
    c = s.client()
    info = c.go(b"d", wants=(3,))
    assert struct.unpack(">III", [d for k, d in info if d[:2] == b"\0\3"][0][2:])[0] == block, info
    assert c.write(0, b"d" * (1 << 20)) == 0 and c.write(block, b"e" * block, FUA) == 0
    assert c.read(block - block, 3 * block) == b"d" * block + b"e" * block + b"d" * block
    assert c.request(ZEROES, 2 * block, block) == 0 and c.request(ZEROES, 8 * block, block, 2) == 0
    assert c.read(2 * block, block) == c.read(8 * block, block) == bytes(block)
    assert c.request(TRIM, 16 * block, block) == 0 and c.request(FLUSH) == 0
    for kind in (READ, WRITE, TRIM, ZEROES):
        for offset, n in ((block // 2, block), (block, block // 2), (1, block), (0, 1)):
            assert c.request(kind, offset, n, 0, b"u" * n if kind == WRITE else b"") == EINVAL
    # Many at a time, and the largest there is
    c.send(b"".join(c.header(WRITE, i * block, block) + bytes([i]) * block for i in range(64)))
    for i in range(64):
        magic, error, _ = struct.unpack(">IIQ", c.recv(16))
        assert magic == 0x67446698 and not error
    want = b"".join(bytes([i]) * block for i in range(64))
    assert c.read(0, 64 * block) == want
    assert len(c.read(0, size)) == size
    assert not cached(path, 32768)
    s.stop()


def direct_file():
    """direct: a file without the page cache, in blocks that clients are told; others are refused"""
    for option, block in (("uring", 512), ("threads", 4096)):
        with ext4() as mount:
            path = os.path.join(mount, "f")
            device = None
            if block == 4096:
                image = os.path.join(mount, "i")
                with open(image, "wb") as f:
                    f.truncate(8 << 20)
                path = device = subprocess.run(
                    ["losetup", "-b", "4096", "-f", "--show", image], check=True,
                    capture_output=True, text=True).stdout.strip()
            else:
                with open(path, "wb") as f:
                    f.truncate(8 << 20)
            try:
                direct_io(option, path, block, 8 << 20)
            finally:
                if device:
                    subprocess.run(["losetup", "-d", device], check=True)


def not_direct():
    """direct where it cannot be had: the server does not start, and keeps what it has at a reload"""
    odd = os.path.join(DIR, "odd")
    with open(odd, "wb") as f:
        f.truncate(1000)
    with ext4(defaults="journal_data") as mount:
        journal = os.path.join(mount, "f")
        with open(journal, "wb") as f:
            f.truncate(4 << 20)
        for path, why in (("/proc/version", "cannot be used without the page cache"),
                          (journal, "cannot be used without the page cache"),
                          (odd, "not a multiple of the blocks")):
            config = os.path.join(DIR, "direct.conf")
            with open(config, "w", encoding="utf-8") as f:
                f.write(f"[generic]\nport = {free_port()}\n" +
                        export("d", path, "direct = true\nreadonly = true\n"))
            p = subprocess.run([PROGRAM, "-n", "-C", config], check=False, capture_output=True,
                               text=True, timeout=20)
            assert p.returncode == 4 and why in p.stderr and "remove direct" in p.stderr, p.stderr
    s = Server(export("d"))
    s.write(export("d", odd, "direct = true\n"))
    s.process.send_signal(signal.SIGHUP)
    s.wait_for("configuration not reloaded")
    assert s.client().start(b"d")[0] == SIZE
    # There may be no file to look at yet
    later = os.path.join(DIR, "later")
    s.write(export("d", later, "direct = true\n"))
    s.process.send_signal(signal.SIGHUP)
    s.wait_for("configuration reloaded")
    os.rename(odd, later)
    assert s.client().go(b"d")[-1][0] == ERR_UNKNOWN
    s.wait_for(f"cannot divide into blocks for direct I/O {later}")
    s.stop()


def stable_storage():
    """FLUSH, FUA and sync put data on the disk, and nothing else does"""
    def unwritten(path):
        """Is there data that has no place on the disk yet?"""
        return "delalloc" in subprocess.run(["filefrag", "-v", path], check=True,
                                            capture_output=True, text=True).stdout
    with ext4() as mount:
        a, b = mount + "/a", mount + "/b"
        s = Server(export("a", a, "filesize = 1m\n") + export("b", b, "filesize = 1m\nsync = true\n"))
        c = s.connected(b"a")
        assert c.write(0, b"1" * 4096) == 0
        assert unwritten(a)
        assert s.connected(b"a").request(FLUSH) == 0
        assert not unwritten(a)
        assert c.write(65536, b"2" * 4096, FUA) == 0
        assert not unwritten(a)
        assert c.write(131072, b"3" * 4096) == 0
        assert unwritten(a)
        assert c.request(ZEROES, 0, 4096, FUA) == 0
        assert not unwritten(a)
        c = s.connected(b"b")
        assert c.write(0, b"4" * 4096) == 0
        assert not unwritten(b)
        s.stop()


def slow_requests():
    """a request that takes long holds up no later one of the same client"""
    with ext4() as mount:
        s = Server(export("f", mount + "/f", "filesize = 1m\n"))
        c = s.connected()
        assert c.write(0, b"r" * 8192) == 0
        assert c.read(0, 8192) == b"r" * 8192
        subprocess.run(["fsfreeze", "-f", mount], check=True)
        thaw = threading.Timer(10, subprocess.run, (["fsfreeze", "-u", mount],))
        thaw.start()
        try:
            c.send(c.header(WRITE, 65536, 4096) + b"w" * 4096)
            write = c.cookie
            begin = time.monotonic()
            assert c.read(0, 4096) == b"r" * 4096
            assert c.request(READ, 4096, 4096) == 0
            assert time.monotonic() - begin < 5
        finally:
            thaw.cancel()
            thaw.join()
            subprocess.run(["fsfreeze", "-u", mount], check=False, stderr=subprocess.DEVNULL)
        assert c.reply(cookie=write) == (0, b"")
        assert c.read(65536, 4096) == b"w" * 4096
        s.stop()


def daemon():
    """without -n: the command returns when clients can come; process ID in a file"""
    port, pid_file = free_port(), os.path.join(DIR, "life.pid")
    subprocess.run([PROGRAM, f"127.0.0.1@{port}", os.path.basename(DISK), "-p", pid_file], cwd=DIR,
                   check=True, timeout=10)
    c = Client(("127.0.0.1", port))
    c.start()
    assert c.read(0, 512)
    with open(pid_file, encoding="utf-8") as f:
        pid = int(f.read())
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    os.kill(pid, signal.SIGTERM)
    assert c.closed()
    c.sock.close()
    end = time.monotonic() + 5
    while os.path.exists(pid_file):
        assert time.monotonic() < end
        time.sleep(0.02)


def inetd():
    """PORT 0 serves the client on standard input and ends with it"""
    ours, theirs = socket.socketpair()
    with subprocess.Popen([PROGRAM, "0", DISK], stdin=theirs, stderr=subprocess.DEVNULL) as p:
        theirs.close()
        c = Client.__new__(Client)
        c.sock, c.cookie = ours, 1
        ours.settimeout(10)
        assert c.recv(18)
        c.send(struct.pack(">I", FIXED | NO_ZEROES))
        assert c.start()[0] == SIZE
        assert c.read(0, 512)
        c.send(c.header(DISC))
        assert p.wait(10) == 0
    assert subprocess.run([PROGRAM, "0", DISK], stdin=subprocess.DEVNULL, check=False,
                          stderr=subprocess.DEVNULL).returncode == 4


def privileges():
    """user and group: dropped after the sockets are open"""
    private = os.path.join(DIR, "private.img")
    with open(private, "wb") as f:
        f.truncate(4096)
    os.chmod(private, 0o600)
    s = Server("user = nobody\ngroup = nogroup\n" + export("p", private))
    with open(f"/proc/{s.process.pid}/status", encoding="utf-8") as f:
        status = f.read()
    assert "Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534" in status
    assert "Groups:\t65534 \n" in status, status
    assert s.client().go(b"p")[-1][0] == ERR_UNKNOWN
    s.stop()


def exit_codes():
    """what cannot work ends with its own status and a sentence"""
    port = free_port()
    def status(*args):
        p = subprocess.run([PROGRAM, *args], check=False, capture_output=True, text=True, timeout=10)
        assert p.returncode == 0 or p.stderr.startswith("nbd-server: "), p.stderr
        return p.returncode, p.stderr + p.stdout
    assert status("--help")[0] == 0 and "--nodaemon" in status("--help")[1]
    assert status("-V")[1].startswith("nbd-server (nbswap) ")
    assert status("-n", "nonsense")[0] == 2
    assert status("-n", "--nonsense")[0] == 2
    assert status("-n", "-C", "/nonexistent")[0] == 3
    assert status("-n", "-C", "/dev/null")[0] == 3
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", port))
        busy.listen()
        code, text = status("-n", f"127.0.0.1@{port}", DISK)
        assert code == 4 and "Address already in use" in text
    assert status("-n", "-p", "/nonexistent/pid", f"127.0.0.1@{port}", DISK)[0] == 4


def given_sockets():
    """sockets from the service manager: served in place of our own, and checked"""
    def wrapped(fds, n, pid="$$"):
        return {"args": ["-c", f"LISTEN_PID={pid} LISTEN_FDS={n} exec \"$0\" \"$@\"", PROGRAM, "-n",
                         f"127.0.0.1@{port}", DISK],
                "executable": "/bin/sh", "stderr": subprocess.PIPE, "text": True,
                "preexec_fn": lambda: [os.dup2(fd, 3 + i) for i, fd in enumerate(fds)],
                "close_fds": False}
    def start(*given, **more):
        options = wrapped(*given, **more)
        return subprocess.Popen(["/bin/sh", *options.pop("args")], **options)
    port, path = free_port(), os.path.join(DIR, "given.sock")
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as local, socket.socket() as idle:
        tcp.bind(("127.0.0.1", 0))
        local.bind(path)
        for x in (tcp, local):
            x.listen()
        # Out of the way of the descriptors that they are to become
        fds = [fcntl.fcntl(x.fileno(), fcntl.F_DUPFD, 20) for x in (tcp, local, idle)]
        with start(fds[:2], 2) as p:
            for address in (tcp.getsockname(), path):
                c = Client(address)
                assert c.start()[0] == SIZE and c.read(0, 512)
                c.send(c.header(DISC))
                assert c.closed()
            try:
                Client(("127.0.0.1", port))
                raise AssertionError("it listens on a port of its own")
            except ConnectionRefusedError:
                pass
            p.terminate()
            assert "on 2 sockets" in p.stderr.read() and p.wait(10) == 0
        assert os.path.exists(path)
        # Not for us: as if there were none
        with start(fds[:2], 2, pid="1") as p:
            while "serving" not in p.stderr.readline():
                assert p.poll() is None
            Client(("127.0.0.1", port)).sock.close()
            p.terminate()
            assert p.wait(10) == 0
        for given, n in ((fds[2:], 1), (fds[:1], 33), (fds[:1], "x")):
            with start(given, n) as p:
                assert p.wait(10) == 4 and "LISTEN_FDS" in p.stderr.read()
        for fd in fds:
            os.close(fd)


def notified():
    """NOTIFY_SOCKET: ready, reloading, stopping, as a service manager wants to know"""
    for name in (os.path.join(DIR, "notify"), f"\0nbd-notify-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(name)
            manager.settimeout(10)
            s = Server(export("x"), env={**os.environ, "NOTIFY_SOCKET": name.replace("\0", "@")})
            assert manager.recv(99) == b"READY=1"
            s.connected().read(0, 1)
            s.process.send_signal(signal.SIGHUP)
            first, second = manager.recv(99).split(b"\n")
            assert first == b"RELOADING=1" and second.startswith(b"MONOTONIC_USEC=")
            assert abs(int(second[15:]) / 1e6 - time.monotonic()) < 10
            assert manager.recv(99) == b"READY=1"
            s.stop()
            assert manager.recv(99) == b"STOPPING=1"


def output_config():
    """-o prints a configuration that serves the same export"""
    port = free_port()
    text = subprocess.run([PROGRAM, f"127.0.0.1@{port}", DISK, "1m", "-r", "-M", "1", "-o", "old"],
                          check=True, capture_output=True, text=True).stdout
    config = os.path.join(DIR, "life.old")
    with open(config, "w", encoding="utf-8") as f:
        f.write(text)
    s = Server(args=["-C", config], config="", port=port)
    size, flags = s.client().start(b"old")
    assert size == 1 << 20 and flags & 2
    s.stop()


def mappings(s):
    """What the process has mapped: each with its first line, and its flags."""
    found = []
    with open(f"/proc/{s.process.pid}/smaps", encoding="utf-8") as f:
        for line in f:
            if line.startswith("VmFlags:"):
                found[-1][1] = line.split()[1:]
            elif not line.split()[0].endswith(":"):
                found.append([line.split(), []])
    return found


def status(s, key):
    with open(f"/proc/{s.process.pid}/status", encoding="utf-8") as f:
        return int(next(line for line in f if line.startswith(key + ":")).split()[1])


def locked():
    """mlock: program, stacks and buffers are locked, also as another user; memory is not blown up"""
    # In some containers root may lock all it wants, but not give that right to others
    with open("/proc/self/status", encoding="utf-8") as f:
        caps = int(next(line for line in f if line.startswith("CapEff")).split()[1], 16)
    user = "user = nobody\n" if caps >> 24 & 1 else ""
    for io in ("uring", "threads"):
        s = Server(f"mlock = true\nio = {io}\n{user}" + export("x", "/var/tmp"), program=PLAIN)
        assert s.client().go(b"x")[-1][0] == ERR_UNKNOWN  # a thread has been started for it
        assert status(s, "VmLck") > 512 << 10 and status(s, "VmRSS") < 64 << 10
        # Code, stacks, heap, buffers; what is the kernel's own cannot be swapped
        free = [m for m in mappings(s) if "lo" not in m[1] and m[0][1] != "---p" and
                "io_uring" not in " ".join(m[0]) and "[v" not in m[0][-1]]
        assert not free, free
        s.stop()
    s = Server(args=["--mlock"], program=PLAIN)
    c = s.connected()
    assert c.write(0, b"m" * (4 << 20)) == 0 and c.read(0, 4 << 20) == b"m" * (4 << 20)
    s.stop()


def sandbox():
    """seccomp: every thread has the filter, and none with seccomp = false"""
    for more, want in (("", "2"), ("seccomp = false\n", "0")):
        s = Server(f"{more}loops = 2\n" + export("x"))
        assert s.connected().write(0, b"s" * 4096) == 0
        threads = f"/proc/{s.process.pid}/task"
        for thread in os.listdir(threads):
            with open(f"{threads}/{thread}/status", encoding="utf-8") as f:
                found = dict(line.split()[:2] for line in f if len(line.split()) > 1)
            assert found["Seccomp:"] == want, found
            assert want == "0" or found["NoNewPrivs:"] == "1"
        assert len(os.listdir(threads)) > 2
        s.stop()


def few_rights():
    """In a child: nobody, who may lock 64 KiB."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


def not_locked():
    """mlock without the right to lock memory: the server says what is missing and does not start"""
    p = subprocess.run([PLAIN, "-n", "--mlock", f"127.0.0.1@{free_port()}", DISK], check=False,
                       capture_output=True, text=True, timeout=20, preexec_fn=few_rights)
    assert p.returncode == 4 and "no more than 65536 bytes" in p.stderr and \
        "LimitMEMLOCK=infinity" in p.stderr, p.stderr


CHECKS = (term_idle, term_drains, term_options, term_twice, kill_and_restart, reload, default_export,
          replaced_file, resized, max_connections, max_clients, per_address, per_address_of_all,
          handshake_deadline, idle_timeout, descriptors, access,
          missing_file, no_space, block_device, direct_file, not_direct,
          stable_storage, slow_requests, daemon, inetd, privileges,
          exit_codes, given_sockets, notified, output_config, locked, not_locked,
          sandbox)


def main():
    bad = []
    with open(DISK, "wb") as f:
        f.truncate(SIZE)
    # Takes the whole time a shutdown may: beside the others
    longest = threading.Thread(target=attempt, args=(term_bounded, bad), daemon=True)
    longest.start()
    time.sleep(1)
    try:
        for check in CHECKS:
            attempt(check, bad)
        longest.join()
    finally:
        for s in running:
            s.process.kill()
        shutil.rmtree(os.path.join(DIR, "small"), ignore_errors=True)
    sys.exit(bool(bad))


# So that whatever is mounted or running is taken back when the script is stopped
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
main()
