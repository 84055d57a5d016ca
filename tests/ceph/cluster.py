# SPDX-License-Identifier: GPL-2.0-or-later
"""A Ceph cluster of one monitor, one manager and one OSD in a directory, all of them our children.

It listens on free ports of 127.0.0.1 and reads no file outside of its directory.
"""

import ctypes
import os
import signal
import socket
import subprocess
import time
import uuid

CONFIG = """\
# SPDX-License-Identifier: GPL-2.0-or-later
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{port}/0]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
keyring = {dir}/$name.keyring
run_dir = {dir}
log_file = {dir}/$name.log
mon_cluster_log_file = {dir}/cluster.log
admin_socket = {dir}/$name.$pid.asok
crash_dir = {dir}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_crush_chooseleaf_type = 0
mon_allow_pool_delete = true
auth_allow_insecure_global_id_reclaim = false
[mon]
mon_data = {dir}/mon
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_data_avail_crit = 1
mon_osd_full_ratio = .99
mon_osd_backfillfull_ratio = .985
mon_osd_nearfull_ratio = .98
[mgr]
mgr_data = {dir}/mgr
mgr_module_path = /usr/share/ceph/mgr
[osd]
osd_data = {dir}/osd
osd_objectstore = bluestore
bluestore_block_size = 4294967296
osd_memory_target = 939524096
osd_class_update_on_start = true
# A stopped one is to be waited for, as one that nobody has noticed yet
osd_heartbeat_grace = 600
"""


def die_with_parent():
    """However this script ends, nothing of it stays behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    def __init__(self, directory):
        os.mkdir(directory)
        self.dir = directory
        self.conf = os.path.join(directory, "ceph.conf")
        self.daemons = {}
        self.fsid = str(uuid.uuid4())
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(CONFIG.format(fsid=self.fsid, port=free_port(), dir=directory))
        # Of the commands below too, whatever this machine has otherwise
        os.environ.update(CEPH_CONF=self.conf, CEPH_ARGS="")

    def run(self, *command, timeout=120, **more):
        """The command's output; what it complains of when it fails is the exception's text."""
        p = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, **more)
        if p.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit status {p.returncode}: {p.stderr}")
        return p.stdout

    def ceph(self, *args, **more):
        return self.run("ceph", "--connect-timeout", "60", *args, **more)

    def rbd(self, *args, **more):
        return self.run("rbd", *args, **more)

    def keyring(self, name, *caps):
        path = os.path.join(self.dir, f"{name}.keyring")
        args = [x for c in caps for x in ("--cap", *c)]
        self.run("ceph-authtool", "--create-keyring", path, "--gen-key", "-n", name, *args)
        return path

    def daemon(self, program, name, *args):
        path = os.path.join(self.dir, f"{name}.out")
        with open(path, "a", encoding="utf-8") as out:
            self.daemons[name] = subprocess.Popen(
                [program, "-f", "-c", self.conf, *args],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=die_with_parent)

    def wait(self, what, condition, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            for name, p in self.daemons.items():
                assert p.poll() is None, f"{name} has ended, see {self.dir}/{name}.log"
            assert time.monotonic() < end, f"{what}: not within {seconds} s"
            time.sleep(0.2)

    def start(self):
        monmap = os.path.join(self.dir, "monmap")
        keys = os.path.join(self.dir, "mon.keyring")
        with open(self.conf, encoding="utf-8") as f:
            address = [x for x in f if x.startswith("mon_host")][0].split("=")[1].strip()
        mon = self.keyring("mon.", ("mon", "allow *"))
        admin = self.keyring(
            "client.admin", ("mon", "allow *"), ("osd", "allow *"), ("mgr", "allow *"))
        os.rename(mon, keys)
        self.run("ceph-authtool", keys, "--import-keyring", admin)
        self.run("monmaptool", "--create", "--addv", "a", address, "--fsid", self.fsid, monmap)
        for name in ("mon", "mgr", "osd"):
            os.mkdir(os.path.join(self.dir, name))
        self.run("ceph-mon", "-c", self.conf, "--mkfs", "-i", "a", "--monmap", monmap,
                 "--keyring", keys)
        self.daemon("ceph-mon", "mon.a", "-i", "a")
        self.auth("mgr.x", "mon", "allow profile mgr", "osd", "allow *", "mds", "allow *")
        self.daemon("ceph-mgr", "mgr.x", "-i", "x")
        self.auth("osd.0", "mon", "allow profile osd", "osd", "allow *", "mgr",
                  "allow profile osd")
        osd = str(uuid.uuid4())
        self.ceph("osd", "new", osd)
        self.run("ceph-osd", "-c", self.conf, "-i", "0", "--mkfs", "--osd-uuid", osd)
        self.daemon("ceph-osd", "osd.0", "-i", "0")
        self.wait("the OSD is up", lambda: "1 up" in self.ceph("osd", "stat"))

    def auth(self, name, *caps):
        with open(os.path.join(self.dir, f"{name}.keyring"), "w", encoding="utf-8") as f:
            f.write(self.ceph("auth", "get-or-create", name, *caps))

    def pool(self, name):
        self.ceph("osd", "pool", "create", name, "8")
        self.rbd("pool", "init", name)

    def signal(self, name, number):
        self.daemons[name].send_signal(number)

    def stop(self):
        """None of them has anything that is to be kept."""
        for p in self.daemons.values():
            p.kill()  # also one that has been stopped
            p.wait()
        self.daemons.clear()
