#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Write the seeds of fuzz_server, one conversation a file, to corpus/server beside this file."""

import os
import struct

FIXED, NO_ZEROES = 1, 2
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED = 1, 2, 3, 5, 6, 7, 8
X_SESSION = 0x6e625301
LIST_META, SET_META, EXTENDED = 9, 10, 11
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = 1, 2, 4, 8, 16, 32


def flags(f=FIXED | NO_ZEROES):
    return struct.pack(">I", f)


def option(number, data=b"", length=None):
    return b"IHAVEOPT" + struct.pack(">II", number, len(data) if length is None else length) + data


def go(name=b"disk", wants=(), number=GO, name_len=None, count=None):
    data = struct.pack(">I", len(name) if name_len is None else name_len) + name
    data += struct.pack(">H", len(wants) if count is None else count)
    return option(number, data + b"".join(struct.pack(">H", w) for w in wants))


def session(ident=b"sixteen.bytes.id", link=0):
    return option(X_SESSION, ident + struct.pack(">I", link))


def meta(number, name=b"disk", queries=(b"base:allocation",)):
    return option(number, struct.pack(">I", len(name)) + name + struct.pack(">I", len(queries)) +
                  b"".join(struct.pack(">I", len(q)) + q for q in queries))


def request(kind, offset=0, length=0, flag=0, data=b"", cookie=0x1234567890abcdef):
    return struct.pack(">IHHQQI", 0x25609513, flag, kind, cookie, offset, length) + data


def write(offset, data, flag=0):
    return request(WRITE, offset, len(data), flag, data)


def extended(kind, offset=0, length=0, flag=0, data=b""):
    return struct.pack(">IHHQQQ", 0x21e41c71, flag, kind, 0xfedcba0987654321, offset, length) + data


EVERYTHING = (request(READ, 0, 512) + write(512, b"w" * 600) + write(0, b"f" * 100, FUA) +
              request(FLUSH) + request(TRIM, 1024, 1024) + request(ZEROES, 4096, 4096, NO_HOLE) +
              request(ZEROES, 0, 65536, FUA) + request(CACHE, 0, 512))
REFUSED = (request(READ, 65536, 1) + write(65000, b"x" * 1000) + write(0, b"y" * 9000) +
           request(READ, 0, 8193) + request(TRIM, 2**64 - 1, 2) + request(77, 0, 0) +
           request(READ, 0, 1, 0x8000) + request(FLUSH, 1, 1) + write(4096, b"z" * 8))

STRUCTURED_ONLY = (request(STATUS, 0, 65536) + request(STATUS, 3, 40, REQ_ONE) +
                   request(STATUS, 0, 0) + request(READ, 0, 512, DF) + request(CACHE, 0, 65536) +
                   request(ZEROES, 0, 512, FAST_ZERO) + request(ZEROES, 0, 512, FAST_ZERO | NO_HOLE))

WITH = PAYLOAD_LEN
EXTENDED_ONLY = (extended(READ, 0, 512) + extended(WRITE, 512, 600, WITH, b"e" * 600) +
                 extended(FLUSH) + extended(TRIM, 0, 65536, FUA) + extended(STATUS, 0, 65536) +
                 extended(STATUS, 3, 40, REQ_ONE) + extended(ZEROES, 4096, 4096, NO_HOLE) +
                 extended(CACHE, 0, 65536) + extended(READ, 0, 2**32 + 512) +
                 extended(TRIM, 1, 2**64 - 1) + extended(WRITE, 0, 9000, WITH, b"l" * 9000) +
                 extended(READ, 0, 100, WITH, b"p" * 100) + extended(WRITE, 0, 0) +
                 extended(STATUS, 0, 20, WITH, b"q" * 20) + extended(77))

SEEDS = {
    "extended": (8, flags() + option(EXTENDED) + meta(SET_META) + go() + EXTENDED_ONLY +
                 extended(DISC)),
    "extended-again": (5, flags() + option(EXTENDED, b"x") + option(STRUCTURED) + option(EXTENDED) +
                       option(STRUCTURED) + option(EXTENDED) + go(b"ro") + EXTENDED_ONLY),
    "extended-no-flag": (8, flags() + option(EXTENDED) + go() + extended(WRITE, 0, 512) + EVERYTHING),
    "extended-huge": (8, flags() + option(EXTENDED) + go() +
                      extended(WRITE, 0, 2**32, PAYLOAD_LEN) + EXTENDED_ONLY),
    "extended-compact": (8, flags() + option(EXTENDED) + go() + EVERYTHING),
    "extended-name": (8, flags() + option(EXTENDED) + option(EXPORT_NAME, b"disk")),
    "structured": (11, flags() + option(STRUCTURED) + meta(LIST_META, queries=()) +
                   meta(SET_META) + go() + STRUCTURED_ONLY + EVERYTHING + REFUSED),
    "structured-no-context": (8, flags() + option(STRUCTURED) + meta(SET_META, b"ro") + go() +
                              STRUCTURED_ONLY),
    "meta-bad": (11, flags() + meta(SET_META) + option(STRUCTURED, b"x") + option(STRUCTURED) +
                 meta(SET_META, b"none") + meta(SET_META, queries=(b"base:", b"x" * 300, b"")) +
                 option(SET_META, b"\0\0\0\0\0\0\0\1\xff\xff\xff\xffx") +
                 option(LIST_META, b"\0\0\0\4disk\xff\xff\xff\xff") + option(SET_META, b"y" * 9000) +
                 meta(LIST_META, queries=(b"base:",)) + go() + STRUCTURED_ONLY),
    "go": (11, flags() + go() + EVERYTHING + request(DISC)),
    "go-refused": (11, flags() + go(b"", (0, 1, 2, 3)) + REFUSED + EVERYTHING),
    "go-bytes": (0, flags() + go(b"disk", (3,)) + EVERYTHING + REFUSED + request(DISC)),
    "go-28": (6, flags() + go(b"disk", (3, 3, 9)) + EVERYTHING),
    "go-29": (7, flags() + go(b"ro") + EVERYTHING + REFUSED),
    "export-name": (11, flags() + option(EXPORT_NAME, b"disk") + EVERYTHING + request(DISC)),
    "export-name-zeroes": (9, flags(FIXED) + option(EXPORT_NAME, b"") + EVERYTHING),
    "export-name-old": (9, flags(0) + option(EXPORT_NAME, b"ro") + EVERYTHING),
    "export-name-unknown": (11, flags() + option(EXPORT_NAME, b"none")),
    "list": (11, flags() + option(LIST) + option(LIST, b"x") + option(ABORT)),
    "list-policy": (10, flags() + option(LIST) + option(ABORT, b"now")),
    "info-go": (8, flags() + go(number=INFO, wants=(1, 2, 3)) + go(wants=(1, 2, 3)) + EVERYTHING),
    "refused-names": (8, flags() + go(b"none") + go(b"policy") + go(b"di\0k") + go() + EVERYTHING),
    "unknown-options": (8, flags() + option(STARTTLS) + option(STARTTLS, b"1") +
                        option(STRUCTURED) + option(99, b"data" * 50) + option(4) + option(9) +
                        option(10, b"\0" * 12) + option(11) + go() + EVERYTHING),
    "bad-lengths": (11, flags() + go(name_len=0xffffffff) + go(name_len=5) + go(count=0xffff) +
                    option(GO) + option(GO, b"12345") + option(INFO, b"\0" * 6) + go()),
    "long-option": (11, flags() + option(GO, b"L" * 7000) + go(b"n" * 4096) + go(b"n" * 4097) +
                    option(EXPORT_NAME, b"", 0xffffffff)),
    "shutdown-option": (0x80 | 11, flags() + go(b"none") + go(number=INFO) + go() + option(ABORT)),
    "shutdown-request": (0x80 | 11, flags() + go() + EVERYTHING * 2 + write(0, b"q" * 500)),
    "session": (11, flags() + session() + go() + EVERYTHING),
    "session-busy": (1, flags() + session(link=0x20000) + session(link=0x20000) + session() +
                     session(b"another.session.", 0x20000) + session(link=0x20000) + go() +
                     EVERYTHING),
    "session-twice": (8, flags() + session() + session() + session(b"short") + option(X_SESSION) +
                      session(b"L" * 17) + option(EXPORT_NAME, b"disk") + EVERYTHING),
    "session-not-offered": (7, flags() + session() + option(X_SESSION) + go() + EVERYTHING),
    "session-not-fixed": (11, flags(0) + session() + go()),
    "session-shutdown": (0x80 | 11, flags() + session(link=0x10000) + session(link=0x10000) + go()),
    "tls": (11, flags() + option(STRUCTURED) + session() + option(STARTTLS) +
            session(b"another.session.") + go() + EVERYTHING),
    "tls-required": (14, flags() + go() + option(LIST) + session() + option(STARTTLS, b"1") +
                     option(STARTTLS) + option(STARTTLS) + go() + EVERYTHING),
    "tls-behind": (8, flags() + option(STARTTLS) + option(STRUCTURED) + go()),
    "bad-magic": (11, flags() + go() + request(READ, 0, 1) + b"\0" * 28),
    "bad-flags": (11, flags(7)),
}


def main():
    where = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "server")
    for name, (first, stream) in SEEDS.items():
        with open(os.path.join(where, name + ".seed"), "wb") as f:
            f.write(bytes([first]) + stream)


main()
