#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A server that misbehaves: client_hostile.py HOW PORT-FILE.

Listens on a free port of 127.0.0.1, writes its number to PORT-FILE, serves
each client in the way HOW says, until it is killed.
"""

import os
import socket
import struct
import sys
import time

GREETING = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)
LIST, GO = 3, 7


def reply(option, kind, data=b"", length=None):
    return struct.pack(">QIII", 0x3e889045565a9, option, kind,
                       len(data) if length is None else length) + data


def trickle(client):
    """A byte now and then must not extend the deadline."""
    for byte in GREETING * 100:
        client.sendall(bytes([byte]))
        time.sleep(0.1)


def endless(client):
    client.sendall(GREETING)
    item = reply(LIST, 2, struct.pack(">I", 1) + b"x") * 1000
    while True:
        client.sendall(item)


HOW = {
    "silent": lambda c: time.sleep(60),
    "http": lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"),
    "close": lambda c: None,
    "oldstyle": lambda c: c.sendall(b"NBDMAGIC" + struct.pack(">QQI", 0x420281861253, 4096, 1) +
                                    b"\0" * 124),
    "trickle": trickle,
    "endless": endless,
    "escape": lambda c: c.sendall(GREETING + reply(LIST, 2, struct.pack(">I", 8) +
                                                   b"\x1b[2Jevil") + reply(LIST, 1)),
    "long": lambda c: c.sendall(GREETING + reply(LIST, 2, b"", 0xffffffff)),
}


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    with open(sys.argv[2] + ".new", "w") as file:
        file.write(str(listener.getsockname()[1]))
    os.rename(sys.argv[2] + ".new", sys.argv[2])
    while True:
        client, _ = listener.accept()
        try:
            HOW[sys.argv[1]](client)
        except OSError:
            pass
        client.close()


main()
