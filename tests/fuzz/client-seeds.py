#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Write the seeds of fuzz_client, one conversation a file, to corpus/client beside this file."""

import os
import struct

FIXED, NO_ZEROES = 1, 2
LIST, INFO, GO = 3, 6, 7
ACK, SERVER, REP_INFO = 1, 2, 3
UNSUP, POLICY, TLS_REQD, UNKNOWN = (0x80000000 + n for n in (1, 2, 5, 6))
# What the first byte makes the client want
WANT_GO, WANT_EXPORT_NAME, WANT_LIST, NETLINK = (bytes([n]) for n in range(4))


def greeting(flags=FIXED | NO_ZEROES):
    return b"NBDMAGICIHAVEOPT" + struct.pack(">H", flags)


def reply(option, kind, data=b"", length=None):
    return struct.pack(">QIII", 0x3e889045565a9, option, kind,
                       len(data) if length is None else length) + data


def export(option, size=1 << 30, flags=0x1ff):
    return reply(option, REP_INFO, struct.pack(">HQH", 0, size, flags))


def blocks(option, least=512, preferred=4096, most=32 << 20):
    return reply(option, REP_INFO, struct.pack(">HIII", 3, least, preferred, most))


def text(option, kind, words):
    return reply(option, REP_INFO, struct.pack(">H", kind) + words)


def server(name, description=b"", length=None):
    return reply(LIST, SERVER, struct.pack(">I", len(name) if length is None else length) +
                 name + description)


def old(size=4096, flags=1, zeroes=b""):
    return struct.pack(">QH", size, flags) + zeroes


def attr(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def u32(kind, value):
    return attr(kind, struct.pack("=I", value))


def u64(kind, value):
    return attr(kind, struct.pack("=Q", value))


COUNTERS = b"".join(u64(n, n) for n in range(1, 14))
LINK = (u32(1, 0) + u32(2, 3) + attr(3, struct.pack("=H", 2) + b"\x2a\x39\xc0\0\2\1" + b"\0" * 8) +
        u64(4, 1234) + u32(5, 1) + attr(6, b"reset by peer\0") + attr(7, COUNTERS))
DEVICE = (u32(1, 3) + attr(2, b"nb3\0") + u32(3, 2) + attr(4, b"swap\0") + u64(5, 1 << 30) +
          u32(6, 512) + u32(9, 0x1ff) + attr(11, b"\1") + attr(18, COUNTERS) + attr(19, LINK) +
          attr(19, LINK) + attr(21, b"\0") + attr(22, b"no reserve\0"))

SEEDS = {
    "go": WANT_GO + greeting() + blocks(GO) + text(GO, 2, b"hello") + text(GO, 77, b"?") +
    export(GO) + reply(GO, ACK),
    "go-unknown": WANT_GO + greeting() + reply(GO, UNKNOWN, b"no such export"),
    "go-tls": WANT_GO + greeting() + reply(GO, TLS_REQD),
    "go-fallback": WANT_GO + greeting() + reply(GO, UNSUP) + old(),
    "go-not-fixed": WANT_GO + greeting(0) + old(zeroes=b"\0" * 124),
    "go-bad-blocks": WANT_GO + greeting() + blocks(GO, 3),
    "go-long": WANT_GO + greeting() + reply(GO, REP_INFO, b"", 0xffffffff),
    "go-huge": WANT_GO + greeting() + export(GO, 1 << 63) + reply(GO, ACK),
    "export-name": WANT_EXPORT_NAME + greeting() + old(),
    "oldstyle": WANT_GO + b"NBDMAGIC" + struct.pack(">QH", 0x420281861253, 0),
    "list": WANT_LIST + greeting() + server(b"one") + server(b"", b"a description") +
    reply(LIST, ACK) + export(INFO) + blocks(INFO) + reply(INFO, ACK) +
    reply(INFO, POLICY, b"never"),
    "list-bad": WANT_LIST + greeting() + server(b"one", length=0xfffffffc),
    "list-forbidden": WANT_LIST + greeting() + reply(LIST, POLICY),
    "netlink-device": NETLINK + struct.pack("=BBH", 64, 1, 0) + attr(134, DEVICE),
    "netlink-status": NETLINK + struct.pack("=BBH", 5, 1, 0) +
    attr(9, attr(1, u32(1, 0) + attr(2, b"\1")) + attr(1, u32(1, 1) + attr(2, b"\0"))),
    "netlink-ack": NETLINK + struct.pack("=iIHHII", -16, 16, 33, 5, 1, 0) + attr(1, b"busy\0"),
}


def main():
    directory = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "client")
    os.makedirs(directory, exist_ok=True)
    for name, data in SEEDS.items():
        with open(os.path.join(directory, name + ".seed"), "wb") as file:
            file.write(data)


main()
