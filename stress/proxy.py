#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A proxy between NBD clients and their server that loses connections to order.

usage: proxy.py ADDRESS PORT TARGET-ADDRESS TARGET-PORT

Clients connect to PORT + 1.  A line to PORT is a command:

  option on|off      pass the session option on (the default), or answer it with
                     ERR_UNSUP as a server would that does not know it
  hold whole|half OFFSET [DELAY]
                     the next WRITE that begins at OFFSET is received and kept,
                     or sent to the server but for its second half; the client's
                     connection is reset, the one to the server stays.  With
                     DELAY what is kept is released so many seconds later
  release            send what is kept; answered "written" once the server has
                     replied to it, "lost" when the server has closed the
                     connection, "nothing" when nothing is kept
  storm PERIOD DELAY hold a WRITE of each connection PERIOD seconds after its
                     first request, one way and the other in turn, and release it
                     DELAY seconds after the first request of the next; "storm 0 0"
                     ends it
  cut N              reset N of the connections, picked at random
  down, up           refuse new connections, or accept them again
  tally              answered "held=N written=N lost=N cut=N open=N"

The others are answered "ok".
"""

import random
import socket
import struct
import sys
import threading
import time

REQUEST, REPLY, IHAVEOPT = 0x25609513, 0x67446698, 0x49484156454F5054
OPT_REPLY, ERR_UNSUP = 0x0003E889045565A9, 0x80000001
OPT_EXPORT_NAME, OPT_X_SESSION = 1, 0x6E625301
READ, WRITE = 0, 1
PIECE = 1 << 18


class State:
    """What the commands have set, and what came of it"""

    def __init__(self):
        self.lock = threading.Lock()
        self.option = True
        self.hold = None  # (how, offset, delay)
        self.kept = None  # the connection that keeps a WRITE
        self.storm = (0.0, 0.0)
        self.turn = 0
        self.begun = 0.0  # when a connection had its first request, the newest
        self.connections = set()
        self.tally = {"held": 0, "written": 0, "lost": 0, "cut": 0}


STATE = State()


def receive(conn, n):
    data = bytearray()
    while len(data) < n:
        piece = conn.recv(min(n - len(data), PIECE))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def reset(conn):
    """Close with RST"""
    try:
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Wakes whoever is reading from it, who must not hold it open
        conn.shutdown(socket.SHUT_RD)
    except OSError:
        pass
    conn.close()


class Connection:
    """A client, its connection to the server, and a thread for each direction"""

    def __init__(self, client, target):
        self.client = client
        self.server = socket.create_connection(target, timeout=10)
        self.server.settimeout(None)
        for conn in (self.client, self.server):
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = None  # of a WRITE that is kept
        self.begun = 0.0  # when its first request came
        self.released = threading.Event()
        self.ended = threading.Event()  # the server has closed
        self.outcome = None
        with STATE.lock:
            STATE.connections.add(self)
        threading.Thread(target=self.downstream, daemon=True).start()
        threading.Thread(target=self.upstream, daemon=True).start()

    def downstream(self):
        try:
            while data := self.server.recv(PIECE):
                # After a hold nobody but the one reply matters
                if self.rest is None:
                    self.client.sendall(data)
                elif self.released.is_set():
                    self.outcome = "written"
        except OSError:
            pass
        self.ended.set()
        if self.rest is None:
            self.close()

    def upstream(self):
        try:
            self.server.sendall(receive(self.client, 4))
            while self.option():
                pass
            while self.request():
                pass
            return
        except (EOFError, OSError, struct.error):
            pass
        if self.rest is None:
            self.close()

    def close(self):
        with STATE.lock:
            STATE.connections.discard(self)
        reset(self.client)
        reset(self.server)

    def option(self):
        """One option; false once a request has come instead"""
        head = receive(self.client, 8)
        if struct.unpack(">I", head[:4])[0] == REQUEST:
            return self.request(head) and False
        magic, number, length = struct.unpack(">QII", head + receive(self.client, 8))
        if magic != IHAVEOPT:
            raise EOFError
        data = receive(self.client, length)
        if number == OPT_X_SESSION and not STATE.option:
            self.client.sendall(struct.pack(">QIII", OPT_REPLY, number, ERR_UNSUP, 0))
            return True
        self.server.sendall(struct.pack(">QII", magic, number, length) + data)
        return number != OPT_EXPORT_NAME

    def request(self, head=b""):
        """One request; false when it was kept"""
        head += receive(self.client, 28 - len(head))
        magic, _flags, kind, _cookie, offset, length = struct.unpack(">IHHQQI", head)
        if magic != REQUEST:
            raise EOFError
        if not self.begun:
            self.begun = STATE.begun = time.time()
        if kind != WRITE:
            self.server.sendall(head)
            return True
        data = head + receive(self.client, length)
        order = wanted(self, offset)
        if not order:
            self.server.sendall(data)
            return True
        self.keep(data, 0 if order[0] == "whole" else 28 + length // 2, order[1])
        return False

    def keep(self, data, sent, delay):
        """Lose the connection to the client; release after delay, unless that is None"""
        self.rest = data[sent:]
        self.server.sendall(data[:sent])
        # Replies to what came before: the client shall not see them either way
        time.sleep(0.05)
        reset(self.client)
        if delay is None:
            return
        if STATE.storm[0]:
            # Not before there is something to spoil, or nobody comes any more
            end = time.time() + 30
            while STATE.begun <= self.begun and time.time() < end:
                time.sleep(0.05)
        time.sleep(delay)
        self.release()

    def release(self):
        """Send what is kept and see what comes of it"""
        self.released.set()
        try:
            self.server.sendall(self.rest)
            # A reply, or the end; a reply to an older request cannot come so late
            end = time.time() + 10
            while self.outcome is None and not self.ended.is_set() and time.time() < end:
                time.sleep(0.01)
        except OSError:
            pass
        outcome = self.outcome or ("lost" if self.ended.is_set() else "silent")
        with STATE.lock:
            STATE.tally[outcome] = STATE.tally.get(outcome, 0) + 1
            STATE.connections.discard(self)
        reset(self.server)
        return outcome


def wanted(connection, offset):
    """Is this WRITE to be kept?  (how, delay), or None"""
    with STATE.lock:
        order = None
        if STATE.hold and STATE.hold[1] == offset:
            order = (STATE.hold[0], STATE.hold[2])
            STATE.hold = None
            # Only what nobody else releases
            STATE.kept = connection if order[1] is None else None
        elif STATE.storm[0] and time.time() >= connection.begun + STATE.storm[0]:
            STATE.turn += 1
            order = (("whole", "half")[STATE.turn % 2], STATE.storm[1])
        if order:
            STATE.tally["held"] += 1
        return order


class Door:
    """The listening socket, which can be closed and opened"""

    def __init__(self, address, target):
        self.address, self.target = address, target
        self.open()

    def open(self):
        self.socket = socket.create_server(self.address, backlog=64)
        threading.Thread(target=self.accept, args=(self.socket,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                Connection(client, self.target)
            except OSError:
                reset(client)

    def close(self):
        # close() alone would leave the thread in accept()
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def cut(count):
    with STATE.lock:
        some = [c for c in STATE.connections if c.rest is None]
        some = random.sample(some, min(count, len(some)))
        STATE.tally["cut"] += len(some)
    for connection in some:
        connection.close()


def release():
    with STATE.lock:
        kept, STATE.kept = STATE.kept, None
    return kept.release() if kept else "nothing"


def obey(words, door):
    if words[0] == "option":
        STATE.option = words[1] == "on"
    elif words[0] == "hold":
        STATE.hold = (words[1], int(words[2]), float(words[3]) if len(words) > 3 else None)
    elif words[0] == "release":
        return release()
    elif words[0] == "storm":
        STATE.storm = (float(words[1]), float(words[2]))
    elif words[0] == "cut":
        cut(int(words[1]))
    elif words[0] == "down":
        door.close()
    elif words[0] == "up":
        door.open()
    elif words[0] == "tally":
        return " ".join(f"{k}={v}" for k, v in STATE.tally.items()) + f" open={len(STATE.connections)}"
    else:
        return "what?"
    return "ok"


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    address, port, target = sys.argv[1], int(sys.argv[2]), (sys.argv[3], int(sys.argv[4]))
    door = Door((address, port + 1), target)
    with socket.create_server((address, port), backlog=16) as server:
        while True:
            conn, _ = server.accept()
            try:
                with conn, conn.makefile("rw") as line:
                    for words in map(str.split, line):
                        line.write(obey(words, door) + "\n")
                        line.flush()
            except (OSError, ValueError, IndexError):
                pass


main()
