# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS: certificates, pre-shared keys, and what is refused without; see serve.py."""

import os
import random
import re
import signal
import ssl
import subprocess
import time

import nbd

from serve import DIR, Server, run_checks, running
from wire import (ABORT, ACK, DISC, ERR_INVALID, ERR_POLICY, ERR_TLS_REQD, ERR_UNKNOWN, EXPORT_NAME,
                  EXTENDED, GO, INFO, LIST, READ, SERVER, SET_META, STARTTLS, STRUCTURED, WRITE, X_SESSION,
                  Client, Closed)

HERE = os.path.join(DIR, "tls")
SIZE = 32 << 20
IMAGE = os.path.join(HERE, "disk")
PSK = os.path.join(HERE, "psk", "keys.psk")
RANDOM = os.path.join(DIR, "random-tls")
SESSION = b"sixteen.bytes.id"


def path(*names):
    return os.path.join(HERE, *names)


def run(*args, **kwargs):
    return subprocess.run(args, check=True, capture_output=True, text=True, timeout=120, **kwargs)


def fails(*args):
    """What a command says that must not succeed."""
    done = subprocess.run(args, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode, done.stdout
    return done.stdout + done.stderr


def authority(name):
    """A directory with a certificate authority of this name."""
    os.makedirs(path(name))
    run("certtool", "--generate-privkey", "--key-type=ecdsa", "--outfile", path(name, "ca-key.pem"))
    with open(path("template"), "w", encoding="utf-8") as f:
        f.write(f"cn = {name}\nca\ncert_signing_key\nexpiration_days = 2\n")
    run("certtool", "--generate-self-signed", "--load-privkey", path(name, "ca-key.pem"),
        "--template", path("template"), "--outfile", path(name, "ca-cert.pem"))


def certificate(ca, name, kind, purpose):
    """KIND-cert.pem and KIND-key.pem in a directory with a copy of the authority's certificate."""
    os.makedirs(path(name), exist_ok=True)
    key, cert = path(name, kind + "-key.pem"), path(name, kind + "-cert.pem")
    run("certtool", "--generate-privkey", "--key-type=ecdsa", "--outfile", key)
    with open(path("template"), "w", encoding="utf-8") as f:
        f.write(f"cn = {name}\ndns_name = localhost\nip_address = 127.0.0.1\nsigning_key\n"
                f"{purpose}\nexpiration_days = 2\n")
    run("certtool", "--generate-certificate", "--load-privkey", key,
        "--load-ca-privkey", path(ca, "ca-key.pem"),
        "--load-ca-certificate", path(ca, "ca-cert.pem"),
        "--template", path("template"), "--outfile", cert)
    run("cp", path(ca, "ca-cert.pem"), path(name, "ca-cert.pem"))


def make_keys():
    os.makedirs(path("psk"))
    for name in "alice", "bob":
        run("psktool", "-u", name, "-p", PSK)
    run("psktool", "-u", "alice", "-p", path("psk", "wrong"))
    run("psktool", "-u", "mallory", "-p", path("psk", "wrong"))
    authority("good")
    authority("bad")
    certificate("good", "server", "server", "tls_www_server")
    certificate("good", "server2", "server", "tls_www_server")
    certificate("good", "node1", "client", "tls_www_client")
    certificate("good", "posing", "client", "tls_www_server")
    certificate("bad", "stranger", "client", "tls_www_client")
    # Trusts the right server, and is trusted by nobody
    run("cp", path("good", "ca-cert.pem"), path("stranger", "ca-cert.pem"))
    os.makedirs(path("anyone"))
    run("cp", path("good", "ca-cert.pem"), path("anyone", "ca-cert.pem"))
    os.makedirs(path("misled"))
    run("cp", path("bad", "ca-cert.pem"), path("misled", "ca-cert.pem"))


X509 = f"certfile = {path('server', 'server-cert.pem')}\n" \
       f"keyfile = {path('server', 'server-key.pem')}\n"
VERIFY = f"cacertfile = {path('good', 'ca-cert.pem')}\n"
BY_PSK = f"pskfile = {PSK}\n"
ANY = f"[any]\nexportname = {IMAGE}\n"
MIXED = f"allowlist = true\n{X509}[any]\nexportname = {IMAGE}\n" \
        f"[secret]\nexportname = {IMAGE}\nforce_tls = true\n" \
        f"[open]\nexportname = {IMAGE}\ntls = off\n"


def uri(server, name="any", user=None, keys=PSK):
    who = f"{user}@" if user else ""
    more = f"?tls-psk-file={keys}" if user else ""
    return f"nbds://{who}localhost:{server.port}/{name}{more}"


def connect(server, certs=None, psk=None, name="any", keys=PSK, structured=True):
    """A libnbd handle that uses TLS or fails."""
    h = nbd.NBD()
    h.set_tls(nbd.TLS_REQUIRE)
    if psk:
        h.set_tls_psk_file(keys)
        h.set_tls_username(psk)
    else:
        h.set_tls_certificates(path(certs))
        h.set_tls_verify_peer(True)
    h.set_export_name(name)
    h.set_request_structured_replies(structured)
    h.connect_tcp("localhost", str(server.port))
    assert h.get_tls_negotiated()
    return h


def refused(server, *args, **kwargs):
    try:
        # With TLS 1.3 a client learns only later that its certificate is not wanted
        h = connect(server, *args, **kwargs)
        h.pread(1, 0)
    except nbd.Error:
        return
    raise AssertionError("let in")


def secure(c, certs="anyone"):
    """STARTTLS and the handshake, by another TLS library, on a connection by hand."""
    assert c.option(STARTTLS)[0][0] == ACK
    context = ssl.create_default_context(cafile=path(certs, "ca-cert.pem"))
    if os.path.exists(path(certs, "client-cert.pem")):
        context.load_cert_chain(path(certs, "client-cert.pem"), path(certs, "client-key.pem"))
    c.sock = context.wrap_socket(c.sock, server_hostname="localhost")
    return c


def verify(h, seed):
    """Requests of all sizes, several at a time, against a copy in memory."""
    rnd = random.Random(seed)
    model = bytearray(h.pread(4 << 20, 0) + h.pread(4 << 20, 4 << 20))
    for _ in range(40):
        flying = []
        at = 0
        # None of these overlap, so their order does not matter
        while at < len(model):
            length = rnd.choice((1, 512, 4096, 4097, 16384, 65536, 300000, 1 << 20))
            length = min(length, len(model) - at)
            if rnd.random() < 0.1:
                if rnd.random() < 0.5:
                    data = rnd.randbytes(length)
                    model[at:at + length] = data
                    buf = nbd.Buffer.from_bytearray(bytearray(data))
                    flying.append((h.aio_pwrite(buf, at), None, at, length, buf))
                else:
                    buf = nbd.Buffer(length)
                    flying.append((h.aio_pread(buf, at), buf, at, length, buf))
            at += length
        while h.aio_in_flight():
            h.poll(-1)
        for cookie, buf, at, length, _ in flying:
            assert h.aio_command_completed(cookie)
            assert buf is None or buf.to_bytearray() == model[at:at + length], (at, length)
    for at in range(0, len(model), 2 << 20):
        assert h.pread(2 << 20, at) == model[at:at + (2 << 20)]


def sessions():
    """reads and writes of all sizes, verified, with both kinds of replies"""
    for io in "uring", "threads":
        server = Server(f"io = {io}\n{X509}{BY_PSK}{ANY}")
        for i, (certs, psk) in enumerate((("anyone", None), (None, "alice"))):
            for structured in True, False:
                h = connect(server, certs, psk, structured=structured)
                verify(h, i)
                h.shutdown()
        server.stop()


def copies():
    """nbdcopy, there and back, with certificates and with a key, both engines"""
    for io in "uring", "threads":
        server = Server(f"io = {io}\n{X509}{BY_PSK}{ANY}")
        for to in (uri(server, user="bob"),
                   uri(server) + f"?tls-certificates={path('anyone')}"):
            run("truncate", "-s", "0", IMAGE)
            run("truncate", "-s", str(SIZE), IMAGE)
            run("nbdcopy", RANDOM, to)
            run("cmp", RANDOM, IMAGE)
            run("nbdcopy", to, path("back"))
            run("cmp", RANDOM, path("back"))
        server.stop()


def by_the_kernel():
    """ktls = true: the kernel encrypts, or the log says that it has no TLS; data is the same"""
    server = Server(f"ktls = true\n{X509}{BY_PSK}{ANY}")
    for i, (certs, psk) in enumerate((("anyone", None), (None, "alice"))):
        h = connect(server, certs, psk)
        verify(h, 10 + i)
        h.shutdown()
    there = "ktls = true: the kernel has no TLS for TCP" not in server.log()
    assert there == ("sent by the kernel" in server.log()), server.log()
    # Not asked for, not used
    other = Server(X509 + ANY)
    connect(other, "anyone").shutdown()
    assert "sent by the kernel" not in other.log(), other.log()
    other.stop()
    server.stop()


def nbdinfo():
    """nbdinfo and nbdinfo --list over nbds://"""
    server = Server(f"allowlist = true\n{BY_PSK}{ANY}")
    out = run("nbdinfo", uri(server, user="alice")).stdout
    assert "with TLS" in out and f"export-size: {SIZE}" in out, out
    assert "base:allocation" in out
    out = run("nbdinfo", "--list", uri(server, user="alice", name="")).stdout
    assert 'export="any"' in out, out
    assert ", with TLS: " in server.log() and ", as alice" in server.log()
    # And without, since nothing says that it must be
    run("nbdinfo", f"nbd://localhost:{server.port}/any")
    server.stop()


def qemu():
    """qemu-img and qemu-io, with certificates and with a key"""
    server = Server(f"tls = required\n{X509}{VERIFY}{BY_PSK}{ANY}")
    for creds in (f"tls-creds-psk,id=t,endpoint=client,username=alice,dir={path('psk')}",
                  f"tls-creds-x509,id=t,endpoint=client,dir={path('node1')}"):
        image = f"driver=nbd,host=localhost,port={server.port},export=any,tls-creds=t"
        run("qemu-img", "convert", "-n", "--object", creds, "-f", "raw", RANDOM,
            "--target-image-opts", "driver=raw,file.driver=nbd,file.host=localhost,"
            f"file.port={server.port},file.export=any,file.tls-creds=t")
        run("cmp", RANDOM, IMAGE)
        run("qemu-img", "convert", "--object", creds, "--image-opts", image, "-O", "raw",
            path("back"))
        run("cmp", RANDOM, path("back"))
        out = run("qemu-io", "--object", creds, "--image-opts", "driver=raw,"
                  "file.driver=nbd,file.host=localhost,"
                  f"file.port={server.port},file.export=any,file.tls-creds=t",
                  "-c", "aio_write -P 7 0 4M", "-c", "aio_flush", "-c", "read -P 7 0 4M",
                  "-c", "write -z 64k 64k", "-c", "read -P 0 64k 64k", "-c", "discard 0 64k")
        assert not re.search("fail|error|differ", out.stdout + out.stderr), out
    fails("qemu-img", "info", f"nbd://localhost:{server.port}/any")
    server.stop()


def client_certificates():
    """cacertfile: only clients with a certificate of that authority, made for clients"""
    server = Server(f"tls = required\n{X509}{VERIFY}{ANY}")
    h = connect(server, "node1")
    assert len(h.pread(4096, 0)) == 4096
    h.shutdown()
    assert ", as CN=node1" in server.log(), server.log()
    for certs in "anyone", "stranger", "posing":
        refused(server, certs)
    assert "cacertfile" not in server.log(), server.log()
    assert server.log().count("uses export") == 1
    assert server.log().count("gone in the handshake: TLS: ") >= 2, server.log()
    server.stop()


def authority_for_some():
    """cacertfile: who may be served without TLS, and so without a certificate, is told at the start"""
    for mode, told in (("", 1), ("tls = optional\n", 0)):
        server = Server(f"{mode}{X509}{VERIFY}{ANY}")
        assert server.log().count("clients without TLS are asked for no certificate") == told
        server.stop()


def wrong_authority():
    """a client does not take a server whose certificate is another authority's"""
    server = Server(X509 + ANY)
    refused(server, "misled")
    assert connect(server, "anyone").pread(1, 0)
    server.stop()


def certificate_with_key():
    """keyfile alone: the certificate is in it too; certfile alone is an error"""
    both = path("both.pem")
    with open(both, "w", encoding="utf-8") as f:
        for kind in "cert", "key":
            with open(path("server", f"server-{kind}.pem"), encoding="utf-8") as part:
                f.write(part.read())
    server = Server(f"keyfile = {both}\n{ANY}")
    assert connect(server, "anyone").pread(1, 0)
    server.stop()
    for bad, text in ((X509.splitlines()[0] + "\n", "there is no keyfile"),
                      (X509.splitlines()[0] + f"\nkeyfile = {path('good', 'ca-key.pem')}\n",
                       "certfile and keyfile"),
                      ("tls = required\n", "give a keyfile")):
        try:
            Server(bad + ANY)
            raise SystemError("started")
        except AssertionError as e:
            assert text in str(e), e
        assert running.pop().process.wait(10) == 3


def wrong_keys():
    """a wrong key and an unknown name are refused, in the same way"""
    server = Server(BY_PSK + ANY)
    assert connect(server, psk="alice").pread(1, 0)
    for name in "alice", "mallory":
        refused(server, psk=name, keys=path("psk", "wrong"))
    gone = re.findall("gone in the handshake: (.*)", server.log())
    assert len(gone) == 2 and gone[0] == gone[1], gone
    assert server.log().count("uses export") == 1
    server.stop()


def required():
    """tls = required: STARTTLS and ABORT are answered without TLS, and nothing else is"""
    server = Server(f"tls = required\nallowlist = true\n{X509}{ANY}")
    c = server.client()
    for number in LIST, INFO, GO, STRUCTURED, SET_META, X_SESSION, 99:
        assert [k for k, _ in c.option(number)] == [ERR_TLS_REQD], number
        assert [k for k, _ in c.option(number, b"x" * 9000)] == [ERR_TLS_REQD], number
    assert c.go(b"any")[-1][0] == ERR_TLS_REQD
    assert secure(c).start(b"any")[0] == SIZE
    c = server.client()
    c.send(b"IHAVEOPT" + bytes((0, 0, 0, EXPORT_NAME, 0, 0, 0, 3)) + b"any")
    assert c.closed()
    c = server.client()
    assert c.option(ABORT)[0][0] == ACK and c.closed()
    fails("nbdinfo", f"nbd://localhost:{server.port}/any")
    server.stop()


def by_export():
    """exports with and without TLS side by side; LIST tells of those one can use"""
    server = Server(MIXED)
    c = server.client()

    def names(c):
        return [d[4:] for k, d in c.option(LIST) if k == SERVER]

    assert names(c) == [b"any", b"open"]
    # Whether there is a secret export, or any of another name, is not told
    secret, other = c.go(b"secret"), c.go(b"unheard")
    assert [k for k, _ in secret] == [ERR_TLS_REQD] and secret[0][0] == other[0][0]
    assert secret[0][1].replace(b"secret", b"unheard") == other[0][1]
    assert c.go(b"secret", number=INFO)[-1][0] == ERR_TLS_REQD
    c.option(STRUCTURED)
    assert c.meta(SET_META, b"secret")[-1][0] == ERR_TLS_REQD
    assert c.start(b"open")[0] == SIZE
    c = server.client()
    c.send(b"IHAVEOPT" + bytes((0, 0, 0, EXPORT_NAME, 0, 0, 0, 6)) + b"secret")
    assert c.closed()
    c = secure(server.client())
    assert names(c) == [b"any", b"secret"]
    assert c.go(b"unheard")[-1][0] == ERR_UNKNOWN
    assert c.go(b"open")[-1][0] == ERR_POLICY
    assert c.start(b"secret")[0] == SIZE
    assert server.client().start(b"any")[0] == SIZE
    server.stop()


def off():
    """tls = off: STARTTLS is refused, whatever certificates there are"""
    server = Server(f"tls = off\n{X509}{ANY}")
    c = server.client()
    assert c.option(STARTTLS)[0][0] == ERR_POLICY
    assert c.start(b"any")[0] == SIZE
    refused(server, "anyone")
    server.stop()


def pipelined():
    """what is sent behind STARTTLS, before its answer, ends the connection"""
    server = Server(X509 + ANY)
    for more in b"IHAVEOPT\0\0\0\x08\0\0\0\0", b"I", b"\x16\3\1", b"x" * 100000:
        c = server.client()
        try:
            c.send(b"IHAVEOPT\0\0\0\x05\0\0\0\0" + more)
            c.recv(20)
            while True:
                # An alert of TLS perhaps, but no answer of NBD's
                assert c.recv(1) != b"\0"
        except (Closed, OSError):
            pass
    server.wait_for("data behind STARTTLS, before its answer")
    assert "uses export" not in server.log()
    server.stop()


def plain_text():
    """NBD in the clear after STARTTLS is no TLS: nothing of it is answered"""
    server = Server(X509 + ANY)
    c = server.client()
    assert c.option(STARTTLS)[0][0] == ACK
    c.send(b"IHAVEOPT\0\0\0\x08\0\0\0\0" + b"IHAVEOPT\0\0\0\x03\0\0\0\0")
    said = b""
    try:
        while True:
            said += c.recv(1)
    except Closed:
        pass
    assert b"\0\3\xe8\x89" not in said and len(said) < 20, said
    server.wait_for("gone in the handshake: TLS: ")
    # And behind a handshake: what comes in the clear is not taken for protected
    c = server.client()
    raw = os.dup(c.sock.fileno())
    secure(c)
    os.write(raw, b"IHAVEOPT\0\0\0\x08\0\0\0\0" * 20)
    os.close(raw)
    try:
        assert c.sock.recv(20) == b""
    except OSError:
        pass
    server.stop()


def forgotten():
    """STARTTLS forgets what was said before: replies, metadata, the session, an export"""
    server = Server(X509 + ANY)
    c = server.client()
    c.option(STRUCTURED)
    assert c.option(EXTENDED)[0][0] == ACK
    assert c.meta(SET_META, b"any")[-1][0] == ACK
    assert c.session(SESSION) == ACK
    assert c.go(b"any", number=INFO)[-1][0] == ACK
    secure(c)
    assert c.option(STARTTLS)[0][0] == ERR_INVALID
    assert c.meta(SET_META, b"any")[-1][0] == ERR_INVALID
    # In no session: nobody who tells the same one ends it
    other = secure(server.client())
    assert other.session(SESSION) == ACK
    flags = c.start(b"any")[1]
    assert not flags & 1 << 7, hex(flags)
    assert c.write(0, b"w" * 5000) == 0 and c.read(0, 5000) == b"w" * 5000
    # And it may be in another
    c = secure(server.client())
    c.option(STRUCTURED)
    assert c.session(SESSION, 1) == ACK
    assert c.start(b"any")[1] & 1 << 7
    c.send(c.header(READ, 0, 100))
    assert c.chunk()[1][8:] == b"w" * 100
    server.stop()


def fenced():
    """a session over TLS is fenced as another is"""
    server = Server(X509 + ANY)
    a, b = (secure(server.client()) for _ in range(2))
    assert a.session(SESSION) == ACK
    a.start(b"any")
    assert a.write(0, b"a" * 4096) == 0
    assert b.session(SESSION) == ACK
    try:
        a.write(0, b"b" * 4096)
        raise SystemError("an ended connection is served")
    except (Closed, OSError, ssl.SSLError):
        pass
    b.start(b"any")
    assert b.read(0, 4096) == b"a" * 4096
    server.stop()


def silent():
    """a handshake of TLS that does not go on ends in time, and holds up nobody"""
    server = Server(f"loops = 1\nhandshake_timeout = 2\n{X509}{ANY}")
    begun = time.monotonic()
    stuck = [server.client() for _ in range(20)]
    for i, c in enumerate(stuck):
        assert c.option(STARTTLS)[0][0] == ACK
        c.send(b"\x16\3\1\2\0\1\0\1\xfc\3\3"[:i % 12])
    h = connect(server, "anyone")
    assert h.pread(4096, 0) and time.monotonic() - begun < 1.5
    for c in stuck:
        c.closed()
    assert 1.5 < time.monotonic() - begun < 5
    assert h.pread(4096, 0)
    server.stop()


def slow_reader():
    """a client that does not read its replies has them whole when it does"""
    server = Server(f"loops = 1\n{X509}{ANY}")
    run("cp", RANDOM, IMAGE)
    with open(RANDOM, "rb") as f:
        data = f.read(32 << 20)
    c = secure(server.client())
    c.start(b"any")
    for i in range(32):
        c.send(c.header(READ, i << 20, 1 << 20))
    time.sleep(0.5)
    assert connect(server, "anyone").pread(4096, 0) == data[:4096]
    cookie = c.cookie - 31
    # In their order or another
    left = set(range(32))
    for _ in range(32):
        magic = c.recv(16)
        assert magic[:8] == b"\x67\x44\x66\x98\0\0\0\0", magic
        i = int.from_bytes(magic[8:], "big") - cookie
        left.remove(i)
        got = c.recv(1 << 20)
        assert got == data[i << 20:i + 1 << 20], i
        time.sleep(0.01)
    assert not left
    server.stop()


def ends():
    """both sides end in good order: DISC, SIGTERM"""
    server = Server(X509 + ANY)
    c = secure(server.client())
    c.start(b"any")
    c.send(c.header(WRITE, 0, 3) + b"end" + c.header(DISC))
    assert c.reply(cookie=c.cookie - 1)[0] == 0
    # Python tells the end that TLS has told from one that has only been cut off
    assert c.sock.recv(1) == b""
    c = secure(server.client())
    c.start(b"any")
    assert c.read(0, 3) == b"end"
    server.term()
    assert c.sock.recv(1) == b""
    c.sock.close()
    assert server.end() == 0, server.log()


def reloaded():
    """SIGHUP: new certificates for new clients, none for what is wrong"""
    server = Server(X509 + ANY)
    old = secure(server.client())
    old.start(b"any")
    server.write(X509.replace(path("server"), path("server2")) + ANY)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("configuration reloaded")
    subject = secure(server.client()).sock.getpeercert()["subject"]
    assert subject == ((("commonName", "server2"),),), subject
    assert len(old.read(0, 1 << 20)) == 1 << 20
    server.write(X509.replace("-key.pem", "-none.pem") + ANY)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("configuration not reloaded")
    assert "server-none.pem: cannot be read" in server.log()
    secure(server.client()).start(b"any")
    # What one client has begun with is not what the next has to have
    server.write(f"{X509}tls = required\n{ANY}")
    half = server.client()
    server.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 10
    while server.log().count("configuration reloaded") < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert half.go(b"any")[-1][0] == ERR_TLS_REQD
    assert secure(half).start(b"any")[0] == SIZE
    server.stop()


def privileges():
    """keys that only root can read, and a server that is another user"""
    os.chmod(HERE, 0o711)
    os.chmod(IMAGE, 0o644)
    os.chmod(path("server", "server-key.pem"), 0o600)
    server = Server(f"user = nobody\n{X509}{ANY}readonly = true\n")
    assert connect(server, "anyone").pread(1, 0)
    server.stop()


CHECKS = (sessions, copies, by_the_kernel, nbdinfo, qemu, client_certificates, authority_for_some,
          wrong_authority, certificate_with_key, wrong_keys, required, by_export, off, pipelined, plain_text,
          forgotten, fenced, silent, slow_reader, ends, reloaded, privileges)


os.makedirs(HERE)
with open(RANDOM, "wb") as noise:
    noise.write(os.urandom(SIZE))
run("cp", RANDOM, IMAGE)
make_keys()
run_checks(CHECKS)
