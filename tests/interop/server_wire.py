# SPDX-License-Identifier: GPL-2.0-or-later
"""What a server must do with requests good and bad, byte by byte.

server_wire.py PORT SIZE: against an export "" of SIZE bytes that may be overwritten, and an
export "ro" that may not.  Prints "ok - text" or "not ok - text" for every check.
"""

import struct
import sys
import time

from wire import *  # pylint: disable=wildcard-import,unused-wildcard-import

PORT, SIZE = int(sys.argv[1]), int(sys.argv[2])
MAX = 32 << 20


def client(**args):
    return Client(("127.0.0.1", PORT), **args)


def connected(name=b""):
    c = client()
    c.start(name)
    return c


def last(replies):
    return replies[-1][0]


def go_information():
    """GO gives the size, flags, and what was asked for"""
    c = client()
    infos = [d for k, d in c.go(b"", (3, 1, 99)) if k == REP_INFO]
    assert struct.unpack(">HQH", infos[0]) == (0, SIZE, 0x016d), infos[0]
    assert struct.unpack(">HIII", infos[-1]) == (3, 1, 4096, MAX)
    assert c.read(0, 512)


def info_is_go():
    """INFO and then GO give the same answers"""
    c = client()
    assert c.go(b"ro", (1, 2, 3), INFO) == c.go(b"ro", (1, 2, 3))


def export_name():
    """EXPORT_NAME, with and without the zeroes, fixed and not"""
    for flags, zeroes in ((FIXED | NO_ZEROES, 0), (FIXED, 124), (NO_ZEROES, 0), (0, 124)):
        c = client(flags=flags)
        c.send(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 0))
        assert struct.unpack(">QH", c.recv(10)) == (SIZE, 0x016d)
        assert c.recv(zeroes) == bytes(zeroes)
        assert c.read(0, 512)
    c = client()
    c.send(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 4) + b"none")
    assert c.closed()


def in_sync():
    """unknown and malformed options are refused and the next one is understood"""
    c = client()
    for number, data in ((4, b""), (12, b""), (0, b""), (1000, b"y" * 100000), (0xffffffff, b"z")):
        assert last(c.option(number, data)) == ERR_UNSUP
    assert last(c.option(STARTTLS)) == ERR_POLICY
    assert last(c.option(LIST, b"x")) == ERR_INVALID
    assert last(c.option(STRUCTURED, b"x")) == ERR_INVALID
    assert last(c.meta(SET_META)) == ERR_INVALID
    assert last(c.option(LIST_META, b"x" * 30)) == ERR_INVALID
    for data in (b"", b"12345", b"\xff" * 6, b"\0\0\0\x05\0\0\0", b"\0\0\0\0\0\x02\0\0"):
        assert last(c.option(GO, data)) == ERR_INVALID
        assert last(c.option(INFO, data)) == ERR_INVALID
    assert last(c.option(GO, b"g" * 100000)) == ERR_TOO_BIG
    assert last(c.go(b"n" * 4097)) == ERR_TOO_BIG
    assert last(c.go(b"n" * 4096)) == ERR_UNKNOWN
    assert last(c.go(b"r\0")) == ERR_UNKNOWN
    assert last(c.go()) == ACK


def bad_handshake():
    """unknown client flags, a wrong option magic, a name of 4 GiB: hang up"""
    assert client(flags=4).closed()
    assert client(flags=0xffffffff).closed()
    c = client()
    c.send(b"IHAVEOP!" + bytes(8))
    assert c.closed()
    c = client()
    c.send(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 0xffffffff))
    assert c.closed()
    c = client(flags=0)
    c.send(b"IHAVEOPT" + struct.pack(">II", LIST, 0))
    assert c.closed()


def abort():
    """ABORT is acknowledged"""
    c = client()
    assert c.option(ABORT, b"bye") == [(ACK, b"")]
    assert c.closed()


def commands():
    """each command does what it says"""
    c = connected()
    assert c.write(4096, b"A" * 8192) == 0
    assert c.write(12288, b"B" * 4096, FUA) == 0
    assert c.read(4000, 12384) == c.read(4000, 96) + b"A" * 8192 + b"B" * 4096
    assert c.request(FLUSH) == 0
    assert c.request(ZEROES, 5000, 3000) == 0
    assert c.request(ZEROES, 9001, 1, NO_HOLE | FUA) == 0
    assert c.read(4096, 8192) == (b"A" * 904 + bytes(3000) + b"A" * 1001 + bytes(1) + b"A" * 3286)
    assert c.request(TRIM, 4096, 8192, FUA) == 0
    assert len(c.read(4096, 8192)) == 8192
    assert c.request(READ, SIZE - 1, 1) == 0
    assert c.request(READ, 0, 512, FUA) == 0
    assert c.request(FLUSH, flags=FUA) == 0
    assert c.request(READ, 0, 0) == 0


def beyond_end():
    """beyond the end: EINVAL to read and trim, ENOSPC to write and zero"""
    c = connected()
    for offset, n in ((SIZE, 1), (SIZE - 511, 512), (2**64 - 1, 1), (2**64 - 512, 1024), (2**63, 8)):
        assert c.request(READ, offset, n) == EINVAL
        assert c.request(TRIM, offset, n) == EINVAL
        assert c.request(ZEROES, offset, n) == ENOSPC
        assert c.write(offset, b"x" * n) == ENOSPC
    assert c.request(ZEROES, 0, 0xffffffff) == ENOSPC
    assert c.read(SIZE - 512, 512)


def unknown():
    """unknown commands and flags: EINVAL, and the next request is understood"""
    c = connected()
    for kind in (CACHE, STATUS, 8, 999, 0xffff):
        assert c.request(kind, 0, 512) == EINVAL
    assert c.request(READ, 0, 512, DF) == EINVAL
    assert c.request(READ, 0, 512, NO_HOLE) == EINVAL
    assert c.request(ZEROES, 0, 512, 0x10) == EINVAL
    assert c.request(FLUSH, 0, 1) == EINVAL
    assert c.write(0, b"x" * 512, 0x8000) == EINVAL
    assert c.read(0, 512)


def largest():
    """32 MiB pass, one byte more is EINVAL and stays in sync"""
    c = connected()
    data = bytes(range(256)) * (MAX // 256)
    assert c.write(0, data) == 0
    assert c.read(0, MAX) == data
    assert c.request(READ, 0, MAX + 1) == EINVAL
    assert c.request(READ, 0, 0xffffffff) == EINVAL
    assert c.write(0, b"x" * (MAX + 1)) == EINVAL
    assert c.read(0, 512) == data[:512]


def read_only():
    """a read-only export: EPERM, and says so in its flags"""
    c = client()
    assert c.start(b"ro")[1] & 0x42 == 2
    assert c.write(0, b"x" * 100000) == EPERM
    assert c.request(TRIM, 0, 512) == EPERM
    assert c.request(ZEROES, 0, 512) == EPERM
    assert c.request(FLUSH) == 0
    assert c.read(0, 512)


def bad_magic():
    """a wrong request magic costs the connection, and no other one"""
    other = connected()
    c = connected()
    c.send(c.header(READ, 0, 512, magic=0x25609514))
    assert c.closed()
    assert other.read(0, 512)


def disconnect():
    """DISC: what is in flight is answered, then the connection closed"""
    c = connected()
    first = c.cookie + 1
    c.send(b"".join(c.header(READ, i * 4096, 4096) for i in range(100)) + c.header(DISC))
    cookies = set()
    for _ in range(100):
        magic, error, cookie = struct.unpack(">IIQ", c.recv(16))
        assert magic == 0x67446698 and not error
        c.recv(4096)
        cookies.add(cookie)
    assert cookies == set(range(first, first + 100))
    assert c.closed()


def pipelined():
    """many writes and reads in flight, in pieces of odd sizes"""
    c = connected()
    stream = b""
    first = c.cookie + 1
    for i in range(200):
        stream += c.header(WRITE, i * 1000, 1000) + bytes([i]) * 1000
    for i in range(0, len(stream), 777):
        c.send(stream[i:i + 777])
    cookies = set()
    for _ in range(200):
        magic, error, cookie = struct.unpack(">IIQ", c.recv(16))
        assert magic == 0x67446698 and not error
        cookies.add(cookie)
    assert cookies == set(range(first, first + 200))
    assert c.read(0, 200000) == b"".join(bytes([i]) * 1000 for i in range(200))


def two_connections():
    """what one connection has flushed, another one reads"""
    a, b = connected(), connected()
    for i in range(20):
        assert a.write(i * 4096, bytes([i + 1]) * 4096) == 0
        assert b.request(FLUSH) == 0
        assert b.read(i * 4096, 4096) == bytes([i + 1]) * 4096


def no_waiting():
    """clients that stall, in handshake, payload or replies, make no other one wait"""
    stalled = [client(flags=None), client(), connected(), connected()]
    stalled[2].send(stalled[2].header(WRITE, 0, 4096) + b"half")
    # Far more replies than socket buffers hold, and nobody reads them
    stalled[3].sock.settimeout(1)
    try:
        stalled[3].send(b"".join(stalled[3].header(READ, 0, MAX) for _ in range(1000)))
    except TimeoutError:
        pass
    begin = time.monotonic()
    c = connected()
    for i in range(200):
        assert c.write(65536 + i * 512, b"n" * 512) == 0
        assert c.read(65536 + i * 512, 512) == b"n" * 512
    assert time.monotonic() - begin < 5


def structured():
    """structured replies: data, errors, nothing; one chunk each, simple replies for the rest"""
    c = client()
    assert c.option(STRUCTURED) == [(ACK, b"")]
    assert c.start()[1] == 0x0ded
    assert c.write(4096, b"S" * 1000) == 0
    for flags in (0, DF):
        c.send(c.header(READ, 4096, 1000, flags))
        assert c.chunk() == (1, struct.pack(">Q", 4096) + b"S" * 1000)
    c.send(c.header(READ, 0, 0))
    assert c.chunk() == (0, b"")
    c.send(c.header(READ, SIZE, 1))
    assert c.chunk() == (0x8001, struct.pack(">IH", EINVAL, 0))
    c.send(c.header(READ, 0, MAX, DF))
    assert len(c.chunk()[1]) == MAX + 8
    assert c.request(CACHE, 0, SIZE) == 0
    assert c.request(ZEROES, 4096, 4096, FAST_ZERO) in (0, ENOTSUP)
    assert c.write(SIZE, b"x") == ENOSPC
    c.send(c.header(STATUS, 0, 512))
    assert c.chunk() == (0x8001, struct.pack(">IH", EINVAL, 0))
    c.send(c.header(READ, 4096, 1))
    assert c.chunk()[0] == 1


def block_status():
    """BLOCK_STATUS: holes and data of the file, with base:allocation of the same export only"""
    c = client()
    assert c.option(STRUCTURED) == [(ACK, b"")]
    context = b"base:allocation"
    assert c.meta(LIST_META, b"", ()) == [(REP_META, bytes(4) + context), (ACK, b"")]
    assert c.meta(SET_META, b"none") [-1][0] == ERR_UNKNOWN
    assert c.meta(SET_META, b"rw") == [(REP_META, b"\0\0\0\1" + context), (ACK, b"")]
    c.start(b"rw")
    assert c.request(TRIM, 0, SIZE) == 0
    assert c.write(1 << 20, b"d" * (1 << 20), FUA) == 0
    c.send(c.header(STATUS, 4096, 3 << 20))
    kind, data = c.chunk()
    assert kind == 5 and struct.unpack(">7I", data) == (1, (1 << 20) - 4096, 3, 1 << 20, 0,
                                                        (1 << 20) + 4096, 3), data
    c.send(c.header(STATUS, 4096, 3 << 20, REQ_ONE))
    assert c.chunk() == (5, struct.pack(">3I", 1, (1 << 20) - 4096, 3))
    c.send(c.header(STATUS, SIZE - 1, 2))
    assert c.chunk()[0] == 0x8001
    # Holes from one end to the other: as many extents as an answer may have, and in sync
    c.send(b"".join(c.header(WRITE, (4 << 20) + i * 16384, 4096) + b"e" * 4096
                    for i in range(1000)))
    assert all(c.recv(16)[4:8] == bytes(4) for _ in range(1000))
    c.send(c.header(STATUS, 4 << 20, 16 << 20))
    assert len(c.chunk()[1]) == 4 + 8 * 512
    c = client()
    assert c.option(STRUCTURED) == [(ACK, b"")]
    assert c.meta(SET_META, b"rw")[-1][0] == ACK
    c.start(b"ro")
    c.send(c.header(STATUS, 0, 512))
    assert c.chunk()[0] == 0x8001


def extended():
    """extended headers: every answer a chunk of 32 bytes, payloads told by their flag, in sync"""
    c = client()
    assert c.option(EXTENDED, b"x")[0][0] == ERR_INVALID
    assert c.option(EXTENDED) == [(ACK, b"")]
    assert c.option(STRUCTURED)[0][0] == 0x8000000a and c.option(EXTENDED)[0][0] == ERR_INVALID
    assert c.meta(SET_META, b"rw")[-1][0] == ACK
    assert c.start(b"rw")[1] == 0x0ded
    none, bad = (0, b""), (0x8001, struct.pack(">IH", EINVAL, 0))
    assert c.extended(TRIM, 0, SIZE) == none
    assert c.extended(WRITE, 1 << 20, 4096, PAYLOAD_LEN | FUA, b"E" * 4096) == none
    assert c.extended(READ, 1 << 20, 4096) == (1, struct.pack(">Q", 1 << 20) + b"E" * 4096)
    assert c.extended(STATUS, 0, SIZE) == (6, struct.pack(
        ">II6Q", 1, 3, 1 << 20, 3, 4096, 0, SIZE - (1 << 20) - 4096, 3))
    assert c.extended(FLUSH) == none and c.extended(CACHE, 0, SIZE) == none
    assert c.extended(ZEROES, 1 << 20, 4096) == none
    assert c.extended(READ, 1 << 20, 1)[1][8:] == b"\0"
    for kind in (READ, TRIM, CACHE, STATUS):
        for n in (1 << 32, (1 << 32) + 512, (1 << 64) - 1):
            assert c.extended(kind, 512, n) == bad
        assert c.extended(kind, 0, 3000, PAYLOAD_LEN, b"p" * 3000) == bad
    assert c.extended(ZEROES, 0, 1 << 40) == (0x8001, struct.pack(">IH", ENOSPC, 0))
    assert c.extended(WRITE, SIZE, 9, PAYLOAD_LEN, b"w" * 9)[1][:4] == struct.pack(">I", ENOSPC)
    assert c.extended(99, 0, 0) == bad
    # What cannot be told apart from requests ends the connection; so do compact headers
    c.send(struct.pack(">IHHQQQ", 0x21e41c71, 0, WRITE, 1, 0, 512))
    assert c.closed()
    c = client()
    assert c.option(EXTENDED) == [(ACK, b"")]
    c.start(b"rw")
    c.send(c.header(READ, 0, 512) + bytes(4))
    assert c.closed()
    c = client()
    assert c.option(EXTENDED) == [(ACK, b"")]
    c.send(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 2) + b"rw")
    assert c.closed()


CHECKS = (go_information, info_is_go, export_name, in_sync, bad_handshake, abort, commands,
          beyond_end, unknown, largest, read_only, bad_magic, disconnect, pipelined,
          two_connections, structured, block_status, extended, no_waiting)


def main():
    bad = 0
    for check in CHECKS:
        try:
            check()
            print(f"ok - {check.__doc__}", flush=True)
        except Exception as e:  # pylint: disable=broad-except
            bad += 1
            line = e.__traceback__
            while line.tb_next:
                line = line.tb_next
            print(f"# {type(e).__name__} {e} in line {line.tb_lineno}")
            print(f"not ok - {check.__doc__}", flush=True)
    sys.exit(bad > 0)


main()
