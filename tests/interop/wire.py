# SPDX-License-Identifier: GPL-2.0-or-later
"""NBD by hand, over a plain socket: what proper clients never send can be sent."""

import socket
import struct

FIXED, NO_ZEROES = 1, 2
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED = 1, 2, 3, 5, 6, 7, 8
LIST_META, SET_META, EXTENDED = 9, 10, 11
X_SESSION = 0x6e625301
ACK, SERVER, REP_INFO, REP_META = 1, 2, 3, 4
ERR_UNSUP, ERR_POLICY, ERR_INVALID = 0x80000001, 0x80000002, 0x80000003
ERR_TLS_REQD, ERR_UNKNOWN, ERR_SHUTDOWN, ERR_TOO_BIG = \
    0x80000005, 0x80000006, 0x80000007, 0x80000009
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = 1, 2, 4, 8, 16, 32
ERR_X_BUSY = 0x80000000 + X_SESSION
EPERM, EIO, EINVAL, ENOSPC, ENOTSUP, ESHUTDOWN = 1, 5, 22, 28, 95, 108


class Closed(Exception):
    """The server has hung up."""


class Client:
    def __init__(self, address, flags=FIXED | NO_ZEROES, timeout=20, source=None):
        family = socket.AF_UNIX if isinstance(address, str) else \
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        if source:
            self.sock.bind((source, 0))
        self.sock.connect(address)
        self.cookie = 0x5151515100000000
        if flags is not None:
            assert self.recv(18) == b"NBDMAGICIHAVEOPT\0\3"
            self.send(struct.pack(">I", flags))

    def send(self, data):
        self.sock.sendall(data)

    def recv(self, n):
        data = b""
        while len(data) < n:
            try:
                piece = self.sock.recv(n - len(data))
            except ConnectionError as e:
                raise Closed from e
            if not piece:
                raise Closed
            data += piece
        return data

    def closed(self):
        """Has the server hung up, with nothing more to say?"""
        try:
            return self.sock.recv(1) == b""
        except ConnectionError:
            return True

    def option(self, number, data=b"", length=None):
        """Send an option and return its replies as (type, data), up to the final one."""
        self.send(b"IHAVEOPT" + struct.pack(">II", number,
                                            len(data) if length is None else length) + data)
        replies = []
        while True:
            magic, opt, kind, n = struct.unpack(">QIII", self.recv(20))
            assert magic == 0x3e889045565a9 and opt == number
            replies.append((kind, self.recv(n)))
            if kind == ACK or kind & 0x80000000:
                return replies

    def go(self, name=b"", wants=(), number=GO):
        return self.option(number, struct.pack(">I", len(name)) + name +
                           struct.pack(f">H{len(wants)}H", len(wants), *wants))

    def session(self, ident, link=0):
        """Announce a session; the type of the reply."""
        (kind, _), = self.option(X_SESSION, ident + struct.pack(">I", link))
        return kind

    def meta(self, number, name=b"", queries=(b"base:allocation",)):
        return self.option(number, struct.pack(">I", len(name)) + name +
                           struct.pack(">I", len(queries)) +
                           b"".join(struct.pack(">I", len(q)) + q for q in queries))

    def chunk(self):
        """The next reply, a chunk that is the only one of its reply: its type and payload."""
        magic, flags, kind, cookie, length = struct.unpack(">IHHQI", self.recv(20))
        assert magic == 0x668e33ef and flags == 1 and cookie == self.cookie
        return kind, self.recv(length)

    def extended(self, kind, offset=0, length=0, flags=0, data=b""):
        """A request with an extended header; its answer: type and payload of the one chunk."""
        self.cookie += 1
        self.send(struct.pack(">IHHQQQ", 0x21e41c71, flags, kind, self.cookie, offset, length) +
                  data)
        magic, done, kind, cookie, start, length = struct.unpack(">IHHQQQ", self.recv(32))
        assert magic == 0x6e8a278c and done == 1 and cookie == self.cookie and start == offset
        return kind, self.recv(length)

    def start(self, name=b""):
        """GO; the export's size and flags."""
        replies = self.go(name)
        if replies[-1][0] != ACK:
            raise Closed
        info = [d for k, d in replies if k == REP_INFO and d[:2] == b"\0\0"]
        return struct.unpack(">QH", info[0][2:])

    def header(self, kind, offset=0, length=0, flags=0, magic=0x25609513):
        self.cookie += 1
        return struct.pack(">IHHQQI", magic, flags, kind, self.cookie, offset, length)

    def reply(self, length=0, cookie=None):
        """The next reply: its error, and the data of a good READ of that length."""
        magic, error, got = struct.unpack(">IIQ", self.recv(16))
        assert magic == 0x67446698
        assert got == (self.cookie if cookie is None else cookie)
        return error, self.recv(length) if not error else b""

    def request(self, kind, offset=0, length=0, flags=0, data=b""):
        """Send one request and return its error."""
        self.send(self.header(kind, offset, length, flags) + data)
        return self.reply(length if kind == READ else 0)[0]

    def read(self, offset, length):
        self.send(self.header(READ, offset, length))
        error, data = self.reply(length)
        assert not error, f"read: error {error}"
        return data

    def write(self, offset, data, flags=0):
        return self.request(WRITE, offset, len(data), flags, data)
