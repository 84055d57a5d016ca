# SPDX-License-Identifier: GPL-2.0-or-later
"""What the server tells of itself: counters, the control socket, metrics, the log.

server_monitor.py PROGRAM DIRECTORY, see serve.py.  Root, and a python that has libnbd's module.
"""

import json
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time

import nbd
from serve import *  # pylint: disable=wildcard-import,unused-wildcard-import
from wire import *  # pylint: disable=wildcard-import,unused-wildcard-import

SIZE = 16 << 20
CONTROL = os.path.join(DIR, "control")
ESCAPED = 'q"\\x'  # the name of an export that metrics must escape


def ctl(*words, status=0, path=CONTROL):
    p = subprocess.run([PROGRAM, "ctl", "--socket", path, *words], check=False,
                       capture_output=True, text=True, timeout=30)
    assert p.returncode == status, (p.returncode, p.stdout, p.stderr)
    return p.stdout if not status else p.stderr


def ask(*words):
    return json.loads(ctl(*words, "--json"))


def start(more="", exports=None, **args):
    args.setdefault("port", free_port())
    return Server(f"control = {CONTROL}\nallowlist = true\n{more}" +
                  (exports or export("x") + export("y")), **args)


def libnbd(s, name="x"):
    h = nbd.NBD()
    h.add_meta_context("base:allocation")
    h.set_export_name(name)
    h.set_strict_mode(0)
    h.connect_tcp("127.0.0.1", str(s.port))
    return h


def refused(call, *args):
    try:
        call(*args)
    except nbd.Error:
        return
    raise AssertionError("not refused")


def commands(*rows):
    return {name: {"requests": requests, "bytes": size, "errors": errors}
            for name, requests, size, errors in rows}


def drive(s):
    """Some of each command; what must have been counted."""
    h = libnbd(s)
    for i in range(20):
        h.pwrite(b"w" * 8192, i * 8192)
    for i in range(33):
        h.pread(4096, i * 512)
    h.aio_pread(nbd.Buffer(1 << 20), 0)
    while h.aio_in_flight():
        h.poll(-1)
    h.flush()
    h.flush()
    h.trim(65536, 1 << 20)
    h.zero(4096, 2 << 20)
    h.zero(4096, 3 << 20, nbd.CMD_FLAG_NO_HOLE)
    h.cache(8192, 0)
    h.block_status(1 << 20, 0, lambda *_: 0)
    refused(h.pread, 512, SIZE)
    refused(h.pwrite, b"12345", SIZE - 4)
    refused(h.trim, 512, SIZE)
    return h, commands(
        ("read", 35, 33 * 4096 + (1 << 20), 1),
        ("write", 21, 20 * 8192, 1),
        ("write-zeroes", 2, 8192, 0),
        ("trim", 2, 65536, 1),
        ("flush", 2, 0, 0),
        ("cache", 1, 8192, 0),
        ("block-status", 1, 1 << 20, 0))


def exact():
    """counters: every request, byte and error, by export and by client; a latency for each"""
    for io in ("auto", "threads"):
        s = start(f"loops = 2\nio = {io}\n")
        h, expected = drive(s)
        other = s.connected(b"x")
        assert other.read(0, 512) and other.request(77) == EINVAL
        x, = ask("counters")
        mine = dict(expected, read=dict(expected["read"], requests=36,
                                        bytes=expected["read"]["bytes"] + 512),
                    other={"requests": 1, "bytes": 0, "errors": 1})
        assert x == {"name": "x", "clients": 2, "in_flight": 0, "dropped": 0, "commands": mine}, x

        second, first = ask("clients")
        assert first["id"] == 1 and second["id"] == 2
        assert first["commands"] == expected, first
        assert second["commands"] == commands(("read", 1, 512, 0), ("other", 1, 0, 1))
        assert first["export"] == second["export"] == "x" and first["state"] == "serving"
        assert first["peer"].startswith("127.0.0.1 port ") and first["session"] is None
        assert abs(time.time() - first["since"]) < 60

        latency, = ask("latency")
        bounds = latency["bounds_us"]
        assert bounds == [1 << i for i in range(26)]
        assert {k: v["requests"] for k, v in latency["commands"].items()} == \
               {k: v["requests"] for k, v in mine.items()}
        for histogram in latency["commands"].values():
            assert len(histogram["buckets"]) == 27
            assert sum(histogram["buckets"]) == histogram["requests"]
            assert 0 < histogram["total_us"] < 60e6 * histogram["requests"]
        # What has gone is still counted with its export
        h.shutdown()
        other.sock.close()
        end = time.monotonic() + 10
        while ask("status")["clients"]:
            assert time.monotonic() < end
        x, = ask("counters")
        assert x["clients"] == 0 and x["commands"] == mine and not ask("clients")
        s.stop()


def disk_errors():
    """an error of the disk is counted as one"""
    full = os.path.join(DIR, "full.img")
    with open(full, "wb") as f:
        f.truncate(1 << 20)
    s = start(exports=export("x", full))
    c = s.connected(b"x")
    os.truncate(full, 0)
    assert c.request(READ, 0, 4096) == EIO
    x, = ask("counters")
    assert x["commands"] == commands(("read", 1, 0, 1))
    latency, = ask("latency")
    assert latency["commands"]["read"]["requests"] == 1
    s.stop()


def status():
    """status: what the server is and has done"""
    s = start("loops = 1\n")
    _, expected = drive(s)
    now = ask("status")
    assert now["pid"] == s.process.pid and now["exports"] == 2 and now["clients"] == 1
    assert now["loops"] == 1 and now["io"] in ("uring", "threads") and not now["stopping"]
    assert now["requests"] == sum(c["requests"] for c in expected.values())
    assert now["errors"] == 3 and now["in_flight"] == 0
    assert now["bytes_read"] == expected["read"]["bytes"]
    assert now["bytes_written"] == expected["write"]["bytes"]
    assert 0 <= now["uptime"] < 60 and abs(time.time() - now["started"] - now["uptime"]) < 5
    text = ctl("status")
    assert f"process {s.process.pid}" in text and "1 now, 1 since the start" in text
    text = ctl("counters").splitlines()
    assert text[0].split() == ["EXPORT", "COMMAND", "REQUESTS", "ERRORS", "BYTES"]
    assert text[1].split() == ["x", "read", "35", "1", "1.1", "MiB"], text
    assert len({len(line) for line in text}) == 1, "the columns are not aligned"
    assert "export x, flush: 2 requests" in ctl("latency")
    s.stop()


def swap():
    """swap: each file of swap exports, who has it, and what they come to; by name in what is counted"""
    with tempfile.TemporaryDirectory(dir=DIR) as where:
        port = free_port()
        s = start(f"metrics = 127.0.0.1:{port}\n",
                  exports=export("x") + f"[swap-*]\nswapdir = {where}\nswapsize = 1m\nquota = 3m\n"
                  "swapgrace = 100\n")
        session = os.urandom(16)
        c = s.client()
        assert c.session(session) == ACK
        c.start(b"swap-a")
        assert c.write(0, b"s" * 4096) == 0
        libnbd(s, "swap-b").shutdown()
        end = time.monotonic() + 10
        while ask("status")["clients"] != 1:
            assert time.monotonic() < end
        a, b = ask("swap")
        assert a == {"name": "swap-a", "section": "swap-*", "size": 1 << 20, "clients": 1,
                     "session": session.hex(), "removed_in": None}, a
        assert b["name"] == "swap-b" and b["clients"] == 0 and b["session"] is None
        assert 80 < b["removed_in"] <= 100, b
        assert ask("status")["swap"] == [{"section": "swap-*", "files": 2, "in_use": 1,
                                          "promised": 2 << 20, "quota": 3 << 20}]
        assert "[swap-*] 2 files, 1 in use; 2.0 MiB promised of 3.0 MiB" in ctl("status")
        text = ctl("swap").splitlines()
        assert text[1].split()[:6] == ["swap-a", "swap-*", "1.0", "MiB", "1", session.hex()[:8]], text
        # Under the name the client gave, not the section's
        assert [x["export"] for x in ask("clients")] == ["swap-a"]
        counted = {x["name"]: x for x in ask("counters")}
        assert counted["swap-a"]["commands"]["write"]["bytes"] == 4096 and "swap-*" not in counted
        page = scrape(port)[1]
        for line in ("files{section=\"swap-*\"} 2", "files_in_use{section=\"swap-*\"} 1",
                     f"promised_bytes{{section=\"swap-*\"}} {2 << 20}",
                     f"quota_bytes{{section=\"swap-*\"}} {3 << 20}"):
            assert f"\nnbd_server_swap_{line}\n" in page, line
        s.stop()


def freeze(mount, on):
    subprocess.run(["fsfreeze", "-f" if on else "-u", mount], check=on, stderr=subprocess.DEVNULL)


def in_flight():
    """requests that wait are in flight; those of an ended connection are dropped; latency is theirs"""
    with ext4() as mount:
        s = start("max_threads = 1\n", exports=export("x", mount + "/f", "filesize = 1m\n"))
        c = s.client()
        assert c.session(b"s" * 16) == ACK
        c.start(b"x")
        assert c.write(0, b"w" * 8192) == 0
        freeze(mount, True)
        thaw = threading.Timer(20, freeze, (mount, False))
        thaw.start()
        try:
            c.send(c.header(WRITE, 0, 4096) + b"1" * 4096)
            wait_in_flight(1)
            time.sleep(1.1)
            freeze(mount, False)
            assert c.reply() == (0, b"")
            latency, = ask("latency")
            write = latency["commands"]["write"]
            assert write["requests"] == 2 and write["total_us"] > 1e6
            assert sum(write["buckets"][21:]) == 1, write
            freeze(mount, True)
            for i in range(3):
                c.send(c.header(WRITE, i * 4096, 4096) + b"2" * 4096)
            wait_in_flight(3)
            assert ask("status")["in_flight"] == 3
            client, = ask("clients")
            assert client["in_flight"] == 3 and client["commands"]["write"]["requests"] == 2
            newer = s.client()
            newer.send(b"IHAVEOPT" + struct.pack(">II", X_SESSION, 20) + b"s" * 16 + b"\0" * 4)
            assert c.closed()
            assert ask("status")["fencing"] == 1
        finally:
            thaw.cancel()
            thaw.join()
            freeze(mount, False)
        assert struct.unpack(">QIII", newer.recv(20))[2] == ACK
        x, = ask("counters")
        assert x["in_flight"] == 0 and x["dropped"] == 3, x
        assert x["commands"] == commands(("write", 2, 12288, 0)), x
        latency, = ask("latency")
        assert latency["commands"]["write"]["requests"] == 2
        s.stop()


def wait_in_flight(n):
    end = time.monotonic() + 10
    while ask("counters")[0]["in_flight"] != n:
        assert time.monotonic() < end, ask("counters")


def sessions():
    """clients: the session a client has told"""
    s = start()
    c = s.client()
    assert c.session(bytes(range(16)), 3) == ACK
    c.start(b"y")
    client, = ask("clients")
    assert client["session"] == {"id": bytes(range(16)).hex(), "link": 3}
    assert "00010203/3" in ctl("clients")
    idle = s.client()
    end = time.monotonic() + 10
    while len(ask("clients")) < 2:
        assert time.monotonic() < end
    assert ask("clients")[0]["state"] == "handshake"
    idle.sock.close()
    s.stop()


def log_level():
    """log-level changes what is logged from then on, and a reload takes it back"""
    s = start()
    assert ask("log-level") == {"log_level": "info"}
    assert ctl("log-level", "error") == "error\n"
    assert ask("status")["log_level"] == "error"
    s.connected(b"x").read(0, 1)
    assert "uses export" not in s.log()
    assert ctl("log-level", "debug") == "debug\n"
    c = s.connected(b"x")
    assert c.request(READ, SIZE, 1) == EINVAL
    s.wait_for("uses export")
    assert "connects" in s.log() and "command 0 with flags 0x0, 1 bytes" in s.log()
    assert "expected error, warning, info or debug" in ctl("log-level", "loud", status=1)
    s.process.send_signal(signal.SIGHUP)
    s.wait_for("configuration reloaded")
    assert ask("log-level") == {"log_level": "info"}
    s.stop()


def log_json():
    """log_format = json: every line is an object, with client and export apart"""
    s = start("log_format = json\nlog_level = debug\n")
    c = s.connected(b"x")
    c.read(0, 1)
    refuse = s.client()
    assert refuse.go(b'no "such"')[-1][0] == ERR_UNKNOWN
    s.wait_for("refused")
    s.stop()
    lines = [json.loads(line) for line in s.log().splitlines()]
    for line in lines:
        assert {"time", "level", "message"} <= set(line) <= \
               {"time", "level", "message", "client", "export"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
        assert line["level"] in ("error", "warning", "info", "debug")
    uses, = [line for line in lines if "uses export" in line["message"]]
    assert uses["export"] == "x" and uses["client"].startswith("127.0.0.1 port ")
    bad, = [line for line in lines if "refused" in line["message"]]
    assert bad["export"] == 'no "such"' and bad["level"] == "warning"
    # And on the command line, before the file is read
    p = subprocess.run([PROGRAM, "-n", "-C", "/nonexistent", "--log-format", "json"], check=False,
                       capture_output=True, text=True, timeout=20)
    assert json.loads(p.stderr)["level"] == "error" and p.returncode == 3


def permissions():
    """the control socket has mode 0600, is removed at the end, and so is nobody else's"""
    # Where anyone may go: what keeps others out is the socket's own mode
    with tempfile.TemporaryDirectory(dir="/var/tmp") as parent:
        os.chmod(parent, 0o755)
        path = os.path.join(parent, "made", "control")
        s = start(f"control = {path}\nuser = nobody\n")
        st = os.stat(path)
        assert stat.S_ISSOCK(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o600
        assert st.st_uid == 0 and os.stat(os.path.dirname(path)).st_uid == 65534
        p = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c",
                            "import socket, sys\n"
                            "socket.socket(socket.AF_UNIX).connect(sys.argv[1])", path],
                           check=False, capture_output=True, text=True)
        assert "PermissionError" in p.stderr, p.stderr
        assert "process" in ctl("status", path=path)
        s.stop()
        assert not os.path.exists(path)
    # Another's that has taken its place stays
    s = start()
    os.unlink(CONTROL)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(CONTROL)
        s.stop()
    assert os.path.exists(CONTROL)
    os.unlink(CONTROL)


def stale():
    """a dead server's socket is replaced; with one that lives, or a file, no server starts"""
    s = start()
    s.process.kill()
    s.end()
    assert os.path.exists(CONTROL)
    assert "no server answers" in ctl("status", status=3)
    s = start()
    assert ask("status")["pid"] == s.process.pid
    second = [PROGRAM, "-n", f"127.0.0.1@{free_port()}", DISK, "--control", CONTROL]
    p = subprocess.run(second, check=False, capture_output=True, text=True, timeout=20)
    assert p.returncode == 4 and "another server answers there" in p.stderr, p.stderr
    assert ask("status")["pid"] == s.process.pid
    s.stop()
    assert "no server answers" in ctl("status", status=3)
    with open(CONTROL, "w", encoding="utf-8") as f:
        f.write("precious")
    p = subprocess.run(second, check=False, capture_output=True, text=True, timeout=20)
    assert p.returncode == 4 and "it is no socket" in p.stderr, p.stderr
    with open(CONTROL, encoding="utf-8") as f:
        assert f.read() == "precious"
    os.unlink(CONTROL)
    for bad in ("relative", "/" + "x" * 120):
        config = os.path.join(DIR, "bad.conf")
        with open(config, "w", encoding="utf-8") as f:
            f.write(f"[generic]\nlistenaddr = 127.0.0.1\nport = {free_port()}\n"
                    f"control = {bad}\n" + export("x"))
        p = subprocess.run([PROGRAM, "-n", "-C", config], check=False, capture_output=True,
                           text=True, timeout=20)
        assert p.returncode == 4 and bad in p.stderr, p.stderr


def visitor(address=CONTROL):
    v = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    v.settimeout(30)
    v.connect(address)
    return v


def everything(v):
    """What a visitor is sent until the server hangs up."""
    data = b""
    while True:
        try:
            piece = v.recv(65536)
        except ConnectionError:
            return data
        if not piece:
            return data
        data += piece


def busy(c, seconds):
    """A client reads and writes for some time; the longest it had to wait."""
    end = time.monotonic() + seconds
    worst = 0
    while time.monotonic() < end:
        begin = time.monotonic()
        assert c.write(8192, b"b" * 4096) == 0 and c.read(8192, 4096) == b"b" * 4096
        worst = max(worst, time.monotonic() - begin)
    return worst


def bad_visitors():
    """control: junk, silence and who does not read are dropped, others are served meanwhile"""
    s = start()
    c = s.connected(b"x")
    junk = visitor()
    junk.sendall(b"\0\xff\n")
    assert everything(junk) == b""
    junk = visitor()
    junk.sendall(b"what\nstatus\n")
    answer, = everything(junk).splitlines()
    assert "expected status, clients" in json.loads(answer)["error"]
    for piece in (b"x" * 100000, b"x" * 300 + b"\n"):
        long = visitor()
        try:
            long.sendall(piece)
        except ConnectionError:
            pass
        assert everything(long) == b""
    # One that goes on asking and never reads; as many as there is room for
    begin = time.monotonic()
    deaf = [visitor() for _ in range(4)]
    for v in deaf:
        v.setblocking(False)
        try:
            while True:
                v.send(b"status\n" * 100)
        except BlockingIOError:
            pass
    silent = [visitor() for _ in range(8)]
    silent[0].sendall(b"stat")
    assert busy(c, 2) < 1
    assert ask("status")["clients"] == 1
    for v in silent:
        assert everything(v) == b""
    assert time.monotonic() - begin < 20
    for v in deaf:
        v.settimeout(1)
        end = time.monotonic() + 20
        while True:
            # Room for more answers is made only after the server must have given up
            try:
                v.send(b"status\n")
                assert time.monotonic() < end, "not dropped"
                time.sleep(0.2)
            except (BlockingIOError, TimeoutError):
                assert time.monotonic() < end, "not dropped"
            except ConnectionError:
                break
    # Several questions on one connection, one after the other
    v = visitor()
    v.sendall(b"log-level\nlog-level\r\n")
    assert v.makefile().readline() == '{"log_level":"info"}\n'
    v.sendall(b"nonsense\n")
    everything(v)
    assert busy(c, 0.2) < 1
    s.stop()


LINE = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-z_]+="(\\[\\"n]|[^\\"\n])*"'
                  r'(,[a-z_]+="(\\[\\"n]|[^\\"\n])*")*\})? ([0-9.]+|\+Inf)')


def scrape(port, request=b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n"):
    v = visitor(("127.0.0.1", port))
    v.sendall(request)
    head, _, body = everything(v).partition(b"\r\n\r\n")
    v.close()
    return head.decode(), body.decode()


def values(page):
    """{name{labels}: value} of a page whose every line has been looked at."""
    found, kind, done = {}, None, set()
    for line in page.splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in done, f"{name} comes twice"
            done.add(name)
        elif line.startswith("# TYPE "):
            assert line.split()[2] == name
            kind = line.split()[3]
            assert kind in ("counter", "gauge", "histogram")
            assert (kind == "counter") == name.endswith("_total")
        else:
            assert LINE.fullmatch(line), line
            key, value = line.rsplit(" ", 1)
            base = key.split("{")[0]
            assert base == name or (kind == "histogram" and base in (
                name + "_bucket", name + "_sum", name + "_count")), line
            assert key not in found, key
            found[key] = float(value)
    return found


def metrics():
    """metrics: the same numbers in Prometheus' format, and nothing unless asked for"""
    port = free_port()
    s = start(f"metrics = 127.0.0.1:{port}\n", exports=export("x") + export(ESCAPED))
    _, expected = drive(s)
    s.connected(ESCAPED.encode()).read(0, 512)
    head, page = scrape(port)
    assert head.startswith("HTTP/1.0 200 OK\r\n") and "text/plain; version=0.0.4" in head
    found = values(page)
    for name, c in expected.items():
        labels = f'{{export="x",command="{name}"'
        assert found[f"nbd_server_requests_total{labels}}}"] == c["requests"]
        assert found[f"nbd_server_request_errors_total{labels}}}"] == c["errors"]
        assert found[f"nbd_server_bytes_total{labels}}}"] == c["bytes"]
        name = "nbd_server_request_duration_seconds"
        buckets = [v for k, v in found.items() if k.startswith(f"{name}_bucket{labels},le=")]
        assert len(buckets) == 27 and buckets == sorted(buckets)
        assert buckets[-1] == found[f"{name}_count{labels}}}"] == c["requests"]
        assert f'{name}_bucket{labels},le="+Inf"}}' in found
        assert 0 < found[f"{name}_sum{labels}}}"] < 60
    assert found['nbd_server_requests_total{export="q\\"\\\\x",command="read"}'] == 1
    assert found['nbd_server_export_clients{export="x"}'] == 1
    assert found["nbd_server_clients"] == 2 and found["nbd_server_clients_total"] == 2
    # Another client than our own
    page = subprocess.run(["curl", "-sSf", f"http://127.0.0.1:{port}/metrics"], check=True,
                          capture_output=True, text=True, timeout=20).stdout
    assert values(page)["nbd_server_clients_total"] == 2
    assert scrape(port, b"HEAD /metrics HTTP/1.1\r\n\r\n")[1] == ""
    for request, answer in ((b"GET / HTTP/1.1\r\n\r\n", "404"), (b"junk\r\n", "400"),
                            (b"PUT /metrics HTTP/1.1\r\n\r\n", "405"),
                            (b"GET /metrics\r\n", "400")):
        head, body = scrape(port, request)
        assert head.startswith(f"HTTP/1.0 {answer} ") and "nbd_server" not in body
    s.stop()
    p = subprocess.run([PROGRAM, "-n", f"127.0.0.1@{free_port()}", DISK, "--metrics", "9"],
                       check=False, capture_output=True, text=True, timeout=20)
    assert p.returncode == 4 and "metrics = 9: expected ADDRESS:PORT" in p.stderr


def bad_scrapers():
    """metrics: junk and silence are dropped, and hold up neither scrapers nor I/O"""
    port = free_port()
    s = start(f"metrics = 127.0.0.1:{port}\n")
    c = s.connected(b"x")
    fds = len(os.listdir(f"/proc/{s.process.pid}/fd"))
    begin = time.monotonic()
    slow = [visitor(("127.0.0.1", port)) for _ in range(30)]
    for v in slow[:20]:
        v.sendall(b"GET /metrics HTTP/1.1\r\nX: y")
    endless = visitor(("127.0.0.1", port))
    try:
        for _ in range(100):
            endless.sendall(b"GET /metrics HTTP/1.1\r\n" + b"Header: value\r\n" * 1000)
    except ConnectionError:
        pass
    assert "nbd_server" not in everything(endless).decode()
    assert scrape(port)[0].startswith("HTTP/1.0 200 OK")
    assert busy(c, 2) < 1
    assert "process" in ctl("status")
    # A byte now and then does not buy more time
    drip = visitor(("127.0.0.1", port))
    try:
        while time.monotonic() - begin < 20:
            drip.sendall(b"G")
            time.sleep(0.5)
        raise AssertionError("not dropped")
    except ConnectionError:
        pass
    for v in slow:
        assert everything(v) == b""
    assert scrape(port)[0].startswith("HTTP/1.0 200 OK")
    end = time.monotonic() + 5
    while len(os.listdir(f"/proc/{s.process.pid}/fd")) > fds:
        assert time.monotonic() < end, "descriptors are left"
        time.sleep(0.1)
    s.stop()


def watching():
    """ctl --watch: again and again with rates, until the server ends"""
    s = start()
    c = s.connected(b"x")
    p = subprocess.Popen([PROGRAM, "ctl", "--socket", CONTROL, "counters", "--watch", "1"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        c.read(0, 512)
        time.sleep(0.01)
    s.stop()
    out, err = p.communicate(timeout=20)
    assert p.returncode == 3 and "no server answers" in err, (p.returncode, err)
    tables = out.split("\n\n")
    assert len(tables) >= 2 and "REQUESTS/S" not in tables[0] and "REQUESTS/S" in tables[1], out
    assert float(tables[1].splitlines()[1].split()[-3]) > 5, out


def exit_codes():
    """ctl: exit codes, and what it says"""
    assert "no server answers on" in ctl("status", status=3)
    assert "give a command" in ctl(status=2)
    assert "no such command" in ctl("sing", status=2)
    p = subprocess.run([PROGRAM, "ctl", "--help"], check=True, capture_output=True, text=True)
    assert "log-level" in p.stdout and "--watch" in p.stdout
    s = start()
    with open("/dev/full", "w", encoding="utf-8") as full:
        p = subprocess.run([PROGRAM, "ctl", "--socket", CONTROL, "status"], check=False,
                           stdout=full, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 1 and "cannot write" in p.stderr, p.stderr
    s.stop()
    # A server that is no server of ours
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(CONTROL)
        other.listen(1)
        p = subprocess.Popen([PROGRAM, "ctl", "--socket", CONTROL, "status"],
                             stderr=subprocess.PIPE, text=True)
        conn, _ = other.accept()
        conn.recv(100)
        conn.close()
        assert "broken off" in p.communicate(timeout=20)[1] and p.returncode == 1
    os.unlink(CONTROL)


CHECKS = (exact, disk_errors, status, swap, in_flight, sessions, log_level, log_json, permissions, stale,
          bad_visitors, metrics, bad_scrapers, watching, exit_codes)


def clean_up():
    with contextlib.suppress(FileNotFoundError):
        os.unlink(CONTROL)


with open(DISK, "wb") as disk:
    disk.truncate(SIZE)
run_checks(CHECKS, clean_up)
