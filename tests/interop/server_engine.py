# SPDX-License-Identifier: GPL-2.0-or-later
"""The server's event loops: what each client may cost, and that none waits for another.

server_engine.py PROGRAM DIRECTORY, see serve.py.
"""

import ctypes
import os
import socket
import struct
import subprocess
import threading
import time

from serve import *  # pylint: disable=wildcard-import,unused-wildcard-import
from wire import *  # pylint: disable=wildcard-import,unused-wildcard-import

SIZE = 64 << 20
MANY = int(os.environ.get("IDLE_CLIENTS", "1000"))
SIMPLE = 0x67446698


def status(s, key):
    with open(f"/proc/{s.process.pid}/status", encoding="utf-8") as f:
        return int(next(line for line in f if line.startswith(key + ":")).split()[1])


def no_io_uring():
    """In a child: io_uring_setup() fails with EPERM, as in many containers."""
    # ld nr; jeq 425; ret errno; ret allow
    code = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 425, 6, 0, 0, 0x50001, 6, 0, 0,
                       0x7fff0000)
    buf = ctypes.create_string_buffer(code)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buf)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert not libc.prctl(38, 1, 0, 0, 0) and not libc.prctl(22, 2, program, 0, 0)


def threads_instead():
    """without io_uring threads do the work, and the log says so; io = uring does not start"""
    s = Server("io = auto\n" + export("x"), preexec_fn=no_io_uring)
    assert "threads wait for the disk instead" in s.log()
    c = s.connected()
    assert c.write(0, b"t" * 4096, FUA) == 0 and c.request(FLUSH) == 0
    assert c.read(0, 4096) == b"t" * 4096
    s.stop()
    p = subprocess.run([PROGRAM, "-n", "--io", "uring", f"127.0.0.1@{free_port()}", DISK],
                       check=False, capture_output=True, text=True, timeout=20,
                       preexec_fn=no_io_uring)
    assert p.returncode == 4 and "use io = auto" in p.stderr, p.stderr


def no_thread_each():
    """many clients, and no thread or much memory for each; all of them are served"""
    s = Server("loops = 2\n" + export("x"))
    s.connected().read(0, 4096)
    time.sleep(0.5)
    threads, before = status(s, "Threads"), status(s, "VmRSS")
    clients = [s.connected() for _ in range(MANY)]
    assert status(s, "Threads") <= threads + 64
    time.sleep(6)  # threads that opened exports end
    assert status(s, "Threads") <= threads, status(s, "Threads")
    each = (status(s, "VmRSS") - before) * 1024 / MANY
    # The sanitizers have bookkeeping of their own
    with open(f"/proc/{s.process.pid}/maps", encoding="utf-8") as f:
        maps = f.read()
    if "libasan" not in maps and "libtsan" not in maps:
        assert each <= 8192, f"{each:.0f} bytes for a client"
    for c in clients:
        assert len(c.read(8192, 512)) == 512
    s.stop()


def gathered():
    """replies that are ready together are sent together"""
    s = Server()
    c = s.connected()
    assert c.write(0, b"g" * 65536) == 0 and c.read(0, 65536)
    def segments():
        info = c.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return struct.unpack_from("I", info, 152)[0]
    before = segments()
    c.send(b"".join(c.header(READ, i * 512, 512) for i in range(64)))
    c.recv(64 * 528)
    n = segments() - before
    assert n <= 16, f"64 replies came in {n} segments"
    s.stop()


def memory_is_shared():
    """a client that holds memory and does not get on loses it to one that waits; others go on"""
    s = Server("loops = 1\nbuffer_memory = 32m\nclient_memory = 32m\n" + export("x"))
    holder, waiter = s.connected(), s.connected()
    holder.send(holder.header(WRITE, 0, 32 << 20) + b"half")
    time.sleep(0.3)
    begin = time.monotonic()
    assert waiter.read(0, 512)
    assert 3 < time.monotonic() - begin < 15
    assert holder.closed()
    assert "holds memory that others wait for" in s.log()
    # One that gets on keeps what it has
    holder = s.connected()
    holder.send(holder.header(WRITE, 0, 32 << 20))
    for _ in range(8):
        holder.send(bytes(4 << 20))
        time.sleep(0.1)
    assert holder.reply() == (0, b"")
    s.stop()


def memory_of_an_address():
    """address_memory: one address leaves memory to others, and its own connections share the rest"""
    s = Server("loops = 1\nbuffer_memory = 128m\naddress_memory = 32m\n" + export("x"))
    holder, waiter = s.connected(), s.connected()
    holder.send(holder.header(WRITE, 0, 32 << 20) + b"half")
    time.sleep(0.3)
    waiter.send(waiter.header(READ, 0, 512))
    begin = time.monotonic()
    other = s.connected(source="127.0.0.2")
    for i in range(4):
        assert other.write(i << 20, bytes(4096)) == 0
    assert time.monotonic() - begin < 4
    waiter.sock.settimeout(0.1)
    try:
        waiter.sock.recv(1)
        assert False, "served beyond the limit"
    except TimeoutError:
        waiter.sock.settimeout(20)
    # Who waits has it from the one that does not get on
    assert waiter.reply(512) == (0, bytes(512))
    assert 3 < time.monotonic() - begin < 15
    assert holder.closed() and "holds memory that others wait for" in s.log()
    # or when it is given back
    holder = s.connected()
    holder.send(holder.header(WRITE, 0, 32 << 20) + bytes(16 << 20))
    time.sleep(0.3)
    waiter.send(b"".join(waiter.header(READ, 0, 1 << 20) for _ in range(64)))
    holder.send(bytes(16 << 20))
    assert holder.reply() == (0, b"")
    seen = set()
    for _ in range(64):
        magic, error, cookie = struct.unpack(">IIQ", waiter.recv(16))
        assert magic == SIMPLE and not error
        waiter.recv(1 << 20)
        seen.add(cookie)
    assert seen == set(range(waiter.cookie - 63, waiter.cookie + 1))
    s.stop()


def replies_not_read():
    """a client that does not read its replies holds no more than its share, and gets all of them"""
    s = Server("loops = 1\n" + export("x"))
    slow, other = s.connected(), s.connected()
    first = slow.cookie + 1
    slow.send(b"".join(slow.header(READ, 0, 4 << 20) for _ in range(64)))
    begin = time.monotonic()
    for i in range(50):
        assert other.write(i * 4096, b"o" * 4096) == 0
        assert other.read(i * 4096, 4096) == b"o" * 4096
    assert time.monotonic() - begin < 5
    assert status(s, "VmRSS") < (400 << 10)
    seen = set()
    for _ in range(64):
        magic, error, cookie = struct.unpack(">IIQ", slow.recv(16))
        assert magic == SIMPLE and not error
        slow.recv(4 << 20)
        seen.add(cookie)
    assert seen == set(range(first, first + 64))
    s.stop()


def hanging_disk(io):
    with ext4() as mount:
        s = Server(f"loops = 1\nio = {io}\n" + export("good") +
                   export("bad", mount + "/f", "filesize = 8m\n"))
        bad = [s.connected(b"bad") for _ in range(8)]
        assert bad[0].write(0, bytes(1 << 20)) == 0
        good = s.connected(b"good")
        subprocess.run(["fsfreeze", "-f", mount], check=True)
        thaw = threading.Timer(30, subprocess.run, (["fsfreeze", "-u", mount],))
        thaw.start()
        try:
            for c in bad:
                c.send(b"".join(c.header(WRITE, i * 4096, 4096) + b"w" * 4096 for i in range(32)))
            time.sleep(0.5)
            begin = time.monotonic()
            for i in range(16):
                # Not in the page cache, so that the disk is needed
                with open(DISK, "rb") as f:
                    os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                assert good.read((i + 1) << 20, 4096) == bytes(4096)
                if io == "uring":
                    assert good.write(SIZE // 2 + i * 4096, b"g" * 4096) == 0
            assert s.connected(b"good").read(1 << 20, 4096) == bytes(4096)
            assert time.monotonic() - begin < 15
        finally:
            thaw.cancel()
            thaw.join()
            subprocess.run(["fsfreeze", "-u", mount], check=False, stderr=subprocess.DEVNULL)
        for c in bad:
            for _ in range(32):
                magic, error, _ = struct.unpack(">IIQ", c.recv(16))
                assert magic == SIMPLE and not error
        s.stop()


def hanging_disk_uring():
    """a disk that hangs makes no client of another one wait"""
    hanging_disk("uring")


def hanging_disk_threads():
    """the same for reads without io_uring"""
    hanging_disk("threads")


CHECKS = (threads_instead, no_thread_each, gathered, memory_is_shared, memory_of_an_address,
          replies_not_read,
          hanging_disk_uring, hanging_disk_threads)


with open(DISK, "wb") as disk:
    disk.write(bytes(SIZE))
run_checks(CHECKS)
