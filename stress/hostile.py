#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""An NBD server that misbehaves to order.

usage: hostile.py ADDRESS PORT

A line "SLOT MODE [ARGUMENT]" to PORT, answered "ok", sets how the server on
PORT + 1 + SLOT (0 to 15) behaves from then on.  Modes:

  silent N, cut N    the good handshake for N bytes, then nothing more / closed
  drip               the good handshake, a byte every 0.2 s
  hand NAME          the handshake fault NAME of the table HANDSHAKE
  live NAME          a good server, but for the fault NAME of the table LIVE once,
                     at the third READ
"""

import os
import socket
import struct
import sys
import threading
import time

SIZE = 4 << 20
NBDMAGIC, IHAVEOPT, OLDSTYLE = 0x4E42444D41474943, 0x49484156454F5054, 0x0000420281861253
OPT_REPLY, REQUEST, REPLY = 0x0003E889045565A9, 0x25609513, 0x67446698
OPT_EXPORT_NAME, OPT_ABORT, OPT_GO = 1, 2, 7
ACK, SERVER, INFO = 1, 2, 3
ERR_UNSUP, ERR_TLS, ERR_UNKNOWN = 0x80000001, 0x80000005, 0x80000006
FLAGS = 0x1 | 0x4 | 0x8 | 0x20 | 0x40 | 0x100
MODES = {}
DISK = bytearray(b"".join(struct.pack(">Q", i * 8) for i in range(SIZE // 8)))


def greeting(magic=NBDMAGIC, style=IHAVEOPT, flags=3):
    return struct.pack(">QQH", magic, style, flags)


def option_reply(kind, data=b"", option=OPT_GO, magic=OPT_REPLY, length=None):
    return struct.pack(">QIII", magic, option, kind, len(data) if length is None else length) + data


def export_info(size=SIZE, flags=FLAGS):
    return option_reply(INFO, struct.pack(">HQH", 0, size, flags))


def block_info(least=512, preferred=4096, most=1 << 25):
    return option_reply(INFO, struct.pack(">HIII", 3, least, preferred, most))


def good_go():
    return export_info() + block_info() + option_reply(ACK)


def endless(piece):
    while True:
        yield piece


# name: (greeting, what answers GO); an iterator is sent for ever
HANDSHAKE = {
    "wrong-magic": (greeting(magic=0x1234), b""),
    "oldstyle": (greeting(style=OLDSTYLE) + bytes(140), b""),
    "no-newstyle": (greeting(flags=0), b""),
    "garbage": (os.urandom(4096), b""),
    "text": (b"HTTP/1.0 400 Bad Request\r\n\r\n" * 20, b""),
    "reply-magic": (greeting(), option_reply(ACK, magic=0x4242424242424242)),
    "other-option": (greeting(), option_reply(INFO, bytes(12), option=99)),
    "reply-garbage": (greeting(), os.urandom(4096)),
    "huge-reply": (greeting(), option_reply(INFO, b"x" * 4096, length=0xFFFFFFFF)),
    "huge-error": (greeting(), option_reply(ERR_UNKNOWN, b"x" * 4096, length=0x7FFFFFFF)),
    "huge-info": (greeting(), endless(option_reply(INFO, b"\0\1" + b"n" * 65000))),
    "endless-info": (greeting(), endless(block_info())),
    "endless-unknown-info": (greeting(), endless(option_reply(INFO, b"\x12\x34"))),
    "endless-server": (greeting(), endless(option_reply(SERVER, b"\0\0\0\1x"))),
    "ack-only": (greeting(), option_reply(ACK)),
    "ack-with-data": (greeting(), export_info() + option_reply(ACK, b"x" * 1000, length=100000)),
    "empty-info": (greeting(), option_reply(INFO) + good_go()),
    "short-export": (greeting(), option_reply(INFO, b"\0\0") + option_reply(ACK)),
    "long-export": (greeting(), option_reply(INFO, bytes(13)) + option_reply(ACK)),
    "short-block": (greeting(), export_info() + option_reply(INFO, b"\0\3\0") + option_reply(ACK)),
    "no-has-flags": (greeting(), export_info(flags=0) + option_reply(ACK)),
    "size-zero": (greeting(), export_info(size=0) + option_reply(ACK)),
    "size-max": (greeting(), export_info(size=(1 << 64) - 1) + option_reply(ACK)),
    "size-odd": (greeting(), export_info(size=511) + option_reply(ACK)),
    "block-3": (greeting(), export_info() + block_info(least=3) + option_reply(ACK)),
    "block-0": (greeting(), export_info() + block_info(least=0) + option_reply(ACK)),
    "block-64k": (greeting(), export_info() + block_info(65536, 65536) + option_reply(ACK)),
    "preferred-0": (greeting(), export_info() + block_info(512, 0) + option_reply(ACK)),
    "payload-512": (greeting(), export_info() + block_info(512, 4096, 512) + option_reply(ACK)),
    "tls-required": (greeting(), option_reply(ERR_TLS, b"TLS first")),
    "unknown-export": (greeting(), option_reply(ERR_UNKNOWN, b"no such thing")),
    "nasty-text": (greeting(), option_reply(ERR_UNKNOWN, b"\x1b[2J\n\0\xff%s%n" * 50)),
    "unknown-error": (greeting(), option_reply(0xFFFFFFFF, b"?")),
    "unsup-then-close": (greeting(), option_reply(ERR_UNSUP)),
}


def reply(cookie, data=b"", error=0, magic=REPLY):
    return struct.pack(">IIQ", magic, error, cookie) + data


def live_longer(conn, cookie, data):
    conn.sendall(reply(cookie, data + b"\xab" * 5000))


def live_shorter(conn, cookie, data):
    conn.sendall(reply(cookie, data[: len(data) // 2]))
    conn.close()


def live_short_then_next(conn, cookie, data):
    conn.sendall(reply(cookie, data[:512]) + reply(cookie ^ 1) * 400)
    time.sleep(0.5)
    conn.close()


def live_stall(conn, cookie, data):
    conn.sendall(reply(cookie, data[:100]))
    time.sleep(60)


def live_header_stall(conn, cookie, _data):
    conn.sendall(reply(cookie)[:9])
    time.sleep(60)


def live_no_reply(_conn, _cookie, _data):
    time.sleep(60)


def live_split(conn, cookie, data):
    """Not a fault: every byte of the header, then odd pieces, in segments of their own."""
    whole = reply(cookie, data)
    for i in range(0, 20):
        conn.sendall(whole[i : i + 1])
        time.sleep(0.005)
    for i in range(20, len(whole), 1001):
        conn.sendall(whole[i : i + 1001])


LIVE = {
    "magic": lambda c, k, d: c.sendall(reply(k, d, magic=0x11223344)),
    "unknown-cookie": lambda c, k, d: c.sendall(reply(k ^ 0xDEADBEEF00000000, d)),
    "cookie-zero": lambda c, k, d: c.sendall(reply(0, d)),
    "cookie-max": lambda c, k, d: c.sendall(reply((1 << 64) - 1, d)),
    "twice": lambda c, k, d: c.sendall(reply(k, d) * 2),
    "structured": lambda c, k, d: c.sendall(struct.pack(">IHHQI", 0x668E33EF, 1, 1, k, 8 + len(d)) + bytes(8) + d),
    "garbage": lambda c, k, d: c.sendall(os.urandom(100000)),
    "zeros": lambda c, k, d: c.sendall(bytes(100000)),
    "longer": live_longer,
    "shorter": live_shorter,
    "short-then-next": live_short_then_next,
    "stall": live_stall,
    "header-stall": live_header_stall,
    "no-reply": live_no_reply,
    "split": live_split,
    "reset": lambda c, k, d: (c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)), c.close()),
}


class Limited:
    """A connection that stops sending after so many bytes"""

    def __init__(self, conn, limit, cut):
        self.conn, self.limit, self.cut = conn, limit, cut

    def sendall(self, data):
        self.conn.sendall(data[: self.limit])
        if len(data) > self.limit:
            if not self.cut:
                while self.conn.recv(4096):
                    pass
            raise EOFError
        self.limit -= len(data)


class Dripping:
    """A connection that sends a byte now and then"""

    def __init__(self, conn):
        self.conn = conn

    def sendall(self, data):
        for i in range(len(data)):
            self.conn.sendall(data[i : i + 1])
            time.sleep(0.2)


def receive(conn, n):
    data = b""
    while len(data) < n:
        piece = conn.recv(n - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def answer_option(conn, out, answer):
    """One option; true once transmission begins"""
    _magic, option, length = struct.unpack(">QII", receive(conn, 16))
    receive(conn, length)
    if option == OPT_GO:
        pieces = [answer] if isinstance(answer, bytes) else answer
        for piece in pieces:
            out.sendall(piece)
        return True
    if option == OPT_EXPORT_NAME:
        out.sendall(struct.pack(">QH", SIZE, FLAGS))
        return True
    out.sendall(option_reply(ACK if option == OPT_ABORT else ERR_UNSUP, option=option))
    return False


def transmit(conn, fault):
    reads = 0
    while True:
        magic, _flags, kind, cookie, offset, length = struct.unpack(">IHHQQI", receive(conn, 28))
        if magic != REQUEST:
            raise EOFError
        if kind == 0:
            reads += 1
            data = bytes(DISK[offset : offset + length])
            if fault and reads == 3:
                act, fault[0] = fault[0], None
                if act:
                    act(conn, cookie, data)
                    continue
            conn.sendall(reply(cookie, data))
        elif kind == 1:
            DISK[offset : offset + length] = receive(conn, length)
            conn.sendall(reply(cookie))
        elif kind == 2:
            return
        else:
            conn.sendall(reply(cookie))


def serve(conn, slot):
    mode, arg, fault = MODES.get(slot, ("live", "none", [None]))
    hello, answer, out = greeting(), good_go(), conn
    if mode == "hand":
        hello, answer = HANDSHAKE[arg]
    elif mode in ("silent", "cut"):
        out = Limited(conn, int(arg), mode == "cut")
    elif mode == "drip":
        out = Dripping(conn)
    try:
        out.sendall(hello)
        receive(conn, 4)
        while not answer_option(conn, out, answer):
            pass
        transmit(conn, fault)
    except (EOFError, OSError, struct.error):
        pass
    finally:
        conn.close()


def listen(address, port, handler, *args):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family, backlog=64) as server:
        while True:
            conn, _ = server.accept()
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=handler, args=(conn, *args), daemon=True).start()


def control(conn):
    with conn, conn.makefile("rw") as line:
        for words in map(str.split, line):
            slot, mode, arg = int(words[0]), words[1], words[2] if len(words) > 2 else ""
            MODES[slot] = (mode, arg, [LIVE[arg]] if mode == "live" and arg != "none" else [None])
            line.write("ok\n")
            line.flush()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    address, port = sys.argv[1], int(sys.argv[2])
    for slot in range(16):
        threading.Thread(target=listen, args=(address, port + 1 + slot, serve, slot), daemon=True).start()
    listen(address, port, control)


main()
