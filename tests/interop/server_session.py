# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions: nothing of an older connection is written once a newer one has its answer.

server_session.py PROGRAM DIRECTORY, see serve.py.  Writes are held up by freezing the file
system they go to.
"""

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time

from serve import *  # pylint: disable=wildcard-import,unused-wildcard-import
from wire import *  # pylint: disable=wildcard-import,unused-wildcard-import

SIZE = 8 << 20
BLOCK = 4096
DRAIN = 5  # seconds that the server tries
MOUNT = os.path.join(DIR, "ext4")
FILE = os.path.join(MOUNT, "disk")
ENDED = "of its session: {} older connection"


def ident():
    return os.urandom(16)


def disk(offset=0, length=SIZE):
    with open(FILE, "rb") as f:
        f.seek(offset)
        return f.read(length)


def serve(generic="", more="", **popen):
    """A server of a file of zeroes that takes space already."""
    with open(FILE, "wb") as f:
        f.write(bytes(SIZE))
        f.flush()
        os.fsync(f.fileno())
    return Server(generic + export("disk", FILE, more), **popen)


def joined(s, session, link=0, client=None):
    """A client that has announced its session and opened the export."""
    c = client or s.client()
    assert c.session(session, link) == ACK
    c.start()
    return c


@contextlib.contextmanager
def frozen():
    """No write ends before thaw() is called, or the block is left."""
    def thaw():
        subprocess.run(["fsfreeze", "-u", MOUNT], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["fsfreeze", "-f", MOUNT], check=True)
    guard = threading.Timer(20, thaw)
    guard.start()
    try:
        yield thaw
    finally:
        guard.cancel()
        thaw()


class Asking(threading.Thread):
    """A client that announces a session beside us: its reply, or None when it was hung up on."""

    def __init__(self, s, session, link=0):
        super().__init__(daemon=True)
        self.client, self.session, self.link = s.client(), session, link
        self.kind = self.seconds = None
        self.start()

    def run(self):
        begin = time.monotonic()
        with contextlib.suppress(Closed, ConnectionError):
            self.kind = self.client.session(self.session, self.link)
        self.seconds = time.monotonic() - begin

    def reply(self, seconds=10):
        self.join(seconds)
        assert not self.is_alive(), "no reply"
        return self.kind


def option():
    """ACK for the first of a session, ERR_INVALID for bad lengths and a second one, all in sync"""
    s = serve()
    c = s.client()
    for length in (0, 16, 19, 21, 100000):
        assert c.option(X_SESSION, bytes(length))[-1][0] == ERR_INVALID
    session = ident()
    assert c.option(X_SESSION, session + b"\0\0\0\7") == [(ACK, b"")]
    assert c.session(session, 7) == ERR_INVALID
    assert c.session(ident(), 7) == ERR_INVALID
    assert c.start()[0] == SIZE
    assert c.write(0, b"s" * 512) == 0 and disk(0, 512) == b"s" * 512
    assert "older connection" not in s.log()
    s.stop()


def half_a_write(address=None, s=None):
    """a WRITE of which half has come is dropped, and its connection ended"""
    s = s or serve()
    session = ident()
    old = joined(s, session, 3, address and Client(address))
    old.send(old.header(WRITE, 0, 1 << 20) + b"o" * (1 << 19))
    time.sleep(0.2)
    begin = time.monotonic()
    new = joined(s, session, 3, address and Client(address))
    assert time.monotonic() - begin < 4
    with contextlib.suppress(ConnectionError):
        old.send(b"o" * (1 << 19))
    assert old.closed()
    assert not any(disk())
    assert new.write(4096, b"n" * 512) == 0
    time.sleep(0.3)
    assert disk() == bytes(4096) + b"n" * 512 + bytes(SIZE - 4608)
    log = s.log()
    assert ENDED.format(1) in log and "link 3" in log, log
    assert session.hex() not in log.lower()
    s.stop()


def half_a_write_unix():
    """the same over a Unix socket"""
    path = os.path.join(DIR, "session.sock")
    half_a_write(path, serve(f"unixsock = {path}\nduallisten = true\n"))


def slow_write():
    """the answer waits for a write that the disk is slow with"""
    s = serve()
    session = ident()
    old = joined(s, session)
    with frozen() as thaw:
        old.send(old.header(WRITE, 0, BLOCK) + b"o" * BLOCK)
        time.sleep(0.3)
        new = Asking(s, session)
        time.sleep(1.5)
        assert new.is_alive(), f"answered {new.kind} while the write was not over"
        thaw()
        assert new.reply() == ACK
    # It was begun before, so it is there: a client repeats it anyway
    assert disk(0, BLOCK) == b"o" * BLOCK
    assert old.closed()
    new.client.start()
    assert new.client.write(0, b"n" * BLOCK) == 0
    time.sleep(0.5)
    assert disk(0, BLOCK) == b"n" * BLOCK
    s.stop()


def waiting_writes(threads, kind=WRITE):
    s = serve(f"max_threads = {threads}\n")
    session = ident()
    old = joined(s, session)
    data = b"o" * BLOCK if kind == WRITE else b""
    if kind != WRITE:
        assert old.write(0, b"z" * (512 * BLOCK)) == 0
    with frozen() as thaw:
        # More than the server's buffer holds: the rest stays in the kernel
        old.send(b"".join(old.header(kind, i * BLOCK, BLOCK) + data for i in range(512)))
        time.sleep(0.3)
        new = Asking(s, session)
        time.sleep(0.5)
        thaw()
        assert new.reply() == ACK
        seen = disk()
    # As many as there are threads had been begun
    changed = b"o" * BLOCK if kind == WRITE else bytes(BLOCK)
    n = sum(seen[i * BLOCK:(i + 1) * BLOCK] == changed for i in range(512))
    assert n == threads, f"{n} writes were carried out"
    time.sleep(0.5)
    assert disk() == seen
    assert old.closed()
    s.stop()


def waiting_writes_one_thread():
    """requests not begun are dropped, in the server's buffer and in the kernel's"""
    waiting_writes(1)


def waiting_writes_four_threads():
    """the same when several threads are at work, all of which are waited for"""
    waiting_writes(4)


def waiting_zeroes():
    """the same with WRITE_ZEROES"""
    waiting_writes(2, ZEROES)


def in_the_kernel():
    """a WRITE that has been received, but not been looked at, is dropped"""
    slow, preload = os.path.join(DIR, "slow"), os.path.join(DIR, "slow_recv.so")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "slow_recv.c")
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", preload, source], check=True)
    # Each has a loop of its own: one that sleeps looks at nobody else
    s = serve("loops = 2\n", env={**os.environ, "LD_PRELOAD": preload, "SLOW_RECV": slow,
                   "ASAN_OPTIONS": "verify_asan_link_order=0"})
    session = ident()
    old = joined(s, session)
    new = s.client()
    assert new.go(number=INFO)[-1][0] == ACK
    with open(slow, "w", encoding="utf-8"):
        old.send(old.header(WRITE, 0, BLOCK) + b"o" * BLOCK)
        time.sleep(0.4)
        os.unlink(slow)
    begin = time.monotonic()
    assert new.session(session) == ACK
    # Its thread had to come back from there first
    assert 0.3 < time.monotonic() - begin < 4
    assert not any(disk())
    assert old.closed()
    s.stop()


def half_a_zeroing():
    """a WRITE_ZEROES that takes many writes is not carried on"""
    s = serve()
    session = ident()
    old = joined(s, session)
    # Without extents there is no quicker way than writing it, in parts, as is known after this
    assert old.request(ZEROES, 0, BLOCK, NO_HOLE) == 0
    assert old.write(0, b"z" * SIZE) == 0
    with frozen() as thaw:
        old.send(old.header(ZEROES, 0, SIZE, NO_HOLE))
        time.sleep(0.3)
        new = Asking(s, session)
        time.sleep(0.3)
        thaw()
        assert new.reply() == ACK
        seen = disk()
    done = seen.count(0)
    assert 0 < done < SIZE // 2, f"{done} bytes of {SIZE} are zero"
    time.sleep(0.5)
    assert disk() == seen
    s.stop()


def others_untouched():
    """another link, another session and no session go on as if nothing were"""
    s = serve()
    session = ident()
    clients = [joined(s, session, 1), joined(s, ident(), 2), s.connected()]
    for i, c in enumerate(clients):
        c.send(c.header(WRITE, i * BLOCK, BLOCK) + b"u" * 1000)
    haggling = [s.client(), s.client()]
    assert haggling[0].session(session, 4) == ACK
    time.sleep(0.1)
    old = joined(s, session, 2)
    new = joined(s, session, 2)
    assert old.closed()
    for i, c in enumerate(clients):
        c.send(b"u" * (BLOCK - 1000))
        assert c.reply() == (0, b"")
        assert c.read(i * BLOCK, BLOCK) == b"u" * BLOCK
    for c in haggling:
        assert c.start()[0] == SIZE
    assert new.read(0, BLOCK) == b"u" * BLOCK
    assert s.log().count(ENDED.format(1)) == 1
    s.stop()


def in_the_handshake():
    """older ones that have not opened an export yet are ended too"""
    s = serve()
    session = ident()
    old = [s.client()]
    assert old[0].session(session) == ACK
    old.append(joined(s, session))
    assert old[0].closed()
    old[1].send(old[1].header(WRITE, 0, BLOCK)[:13])  # half of a header
    joined(s, session).read(0, 1)
    assert old[1].closed()
    s.stop()


def two_wait():
    """of two that wait for the same old one, the later gets it and the earlier is ended"""
    s = serve()
    session = ident()
    old = joined(s, session)
    with frozen() as thaw:
        old.send(old.header(WRITE, 0, BLOCK) + b"o" * BLOCK)
        time.sleep(0.3)
        first = Asking(s, session)
        time.sleep(0.3)
        second = Asking(s, session)
        assert first.reply(4) is None, first.kind
        assert second.is_alive()
        thaw()
        assert second.reply() == ACK
    second.client.start()
    assert second.client.read(0, BLOCK) == b"o" * BLOCK
    s.stop()


def many_at_once():
    """many at the same moment: one is left, and none waits for ever"""
    s = serve()
    for _ in range(20):
        session = ident()
        asking = [Asking(s, session) for _ in range(16)]
        kinds = [a.reply(8) for a in asking]
        assert set(kinds) <= {ACK, None}
        alive = 0
        for a in asking:
            with contextlib.suppress(Closed, ConnectionError):
                a.client.start()
                alive += a.client.read(0, 512) == bytes(512)
        assert alive == 1, f"{alive} connections live on"
    s.stop()


def busy():
    """ERR_X_BUSY when a write takes longer than 5 s; asked again once it is over, ACK"""
    s = serve("handshake_timeout = 60\n")
    session = ident()
    old = joined(s, session)
    with frozen() as thaw:
        old.send(old.header(WRITE, 0, BLOCK) + b"o" * BLOCK)
        time.sleep(0.3)
        new = Asking(s, session)
        assert new.reply() == ERR_X_BUSY
        assert DRAIN - 0.5 < new.seconds < DRAIN + 3, new.seconds
        assert "1 older connection of its session still at work" in s.log()
        assert new.client.session(ident()) == ERR_INVALID
        assert new.client.session(session, 1) == ERR_INVALID
        assert new.client.go(number=INFO)[-1][0] == ACK
        threading.Timer(1, thaw).start()
        begin = time.monotonic()
        assert new.client.session(session) == ACK
        assert 0.5 < time.monotonic() - begin < 4.5
    assert new.client.session(session) == ERR_INVALID
    new.client.start()
    assert new.client.read(0, BLOCK) == b"o" * BLOCK
    # It was told once that it was ended
    assert s.log().count(ENDED.format(1)) == 1
    s.stop()


def busy_and_late():
    """waiting takes no longer than the handshake may; a client may also leave, and come again"""
    s = serve("handshake_timeout = 2\n")
    session = ident()
    old = joined(s, session)
    with frozen():
        old.send(old.header(WRITE, 0, BLOCK) + b"o" * BLOCK)
        time.sleep(0.3)
        new = Asking(s, session)
        assert new.reply() == ERR_X_BUSY
        assert 1 < new.seconds < 4.5, new.seconds
        assert new.client.closed()
    joined(s, session)
    s.stop()


def place_is_free():
    """maxconnections: the place of the older one is the newer one's"""
    s = serve(more="maxconnections = 1\n")
    session = ident()
    clients = [joined(s, session)]
    assert s.client().go(b"")[-1][0] == ERR_POLICY
    for _ in range(20):
        clients.append(joined(s, session))
        assert clients[-1].read(0, 512) == bytes(512)
    assert all(c.closed() for c in clients[:-1])
    s.stop()


def stop():
    """SIGTERM: whoever waits for an older connection is told so at once"""
    s = serve()
    session = ident()
    old = joined(s, session)
    with frozen():
        old.send(old.header(WRITE, 0, BLOCK) + b"o" * BLOCK)
        time.sleep(0.3)
        new = Asking(s, session)
        time.sleep(0.3)
        s.term()
        assert new.reply(4) == ERR_SHUTDOWN
    old.sock.close()
    new.client.sock.close()
    assert s.end() == 0


def one_client():
    """port 0: other connections are other processes', so the option is not offered"""
    ours, theirs = socket.socketpair()
    with open(FILE, "wb") as f:
        f.truncate(SIZE)
    with subprocess.Popen([PROGRAM, "0", FILE], stdin=theirs, stderr=subprocess.DEVNULL) as p:
        theirs.close()
        c = Client.__new__(Client)
        c.sock, c.cookie = ours, 1
        ours.settimeout(10)
        assert c.recv(18)
        c.send(struct.pack(">I", FIXED | NO_ZEROES))
        assert c.session(ident()) == ERR_UNSUP
        assert c.start()[0] == SIZE
        c.send(c.header(DISC))
        assert p.wait(10) == 0


CHECKS = (option, half_a_write, half_a_write_unix, slow_write, waiting_writes_one_thread,
          waiting_writes_four_threads, waiting_zeroes, in_the_kernel, half_a_zeroing,
          others_untouched, in_the_handshake, two_wait, many_at_once, busy, busy_and_late,
          place_is_free, stop, one_client)


with ext4("-O", "^extent,^64bit") as mounted:
    assert mounted == MOUNT
    run_checks(CHECKS)
