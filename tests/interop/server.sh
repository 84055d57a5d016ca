#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Our server against the clients people use, and against a client that sends
# what proper ones never do.  SERVER=PATH tests another build.  TAP output.
# Root: it needs mounts, a loop device and a user to change to.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
SERVER=${SERVER:-$top/build/san/nbd-server}
[ -x "$SERVER" ] || SERVER=$top/build/bin/nbd-server
[ -x "$SERVER" ] || { echo "Bail out! no nbd-server in build: run make tests first"; exit 1; }
# The system's python first: libnbd's module is made for it
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH

dir=$(mktemp -d /var/tmp/nbd-server-test.XXXXXX)
# Whatever a sanitizer finds, also in a server that is killed or whose log nobody reads; a server
# that is another user writes there too
chmod 711 "$dir"
mkdir -m 1777 "$dir/found"
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$dir/found/asan"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}log_path=$dir/found/ubsan"
export TSAN_OPTIONS="${TSAN_OPTIONS:+$TSAN_OPTIONS:}log_path=$dir/found/tsan"
server_pid=
child_pid=
n=0
failed=0

cleanup() {
	trap - EXIT INT TERM HUP
	for pid in $child_pid $server_pid; do
		kill "$pid" 2> /dev/null || :
		wait "$pid" 2> /dev/null || :
	done
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'cleanup; exit 130' INT TERM HUP

# Number a result: report ok|not ok TEXT
report() {
	n=$((n + 1))
	if [ "$1" = ok ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		failed=$((failed + 1))
	fi
}

# check TEXT COMMAND...: what the command prints is shown only when it fails
check() {
	text=$1
	shift
	if "$@" > "$dir/out" 2>&1; then
		report ok "$text"
	else
		report 'not ok' "$text"
		sed 's/^/# /' "$dir/out"
	fi
}

# script PYTHON-FILE ARGUMENT...: its lines are results without numbers
script() {
	python3 -B "$@" > "$dir/results" 2> "$dir/script-errors" &
	child_pid=$!
	status=0
	wait "$child_pid" || status=$?
	child_pid=
	bad=0
	while IFS= read -r line; do
		case $line in
		'ok - '*) report ok "${line#ok - }" ;;
		'not ok - '*) report 'not ok' "${line#not ok - }"; bad=1 ;;
		*) echo "$line" ;;
		esac
	done < "$dir/results"
	if [ "$status" != 0 ] && [ $bad = 0 ]; then
		sed 's/^/# /' "$dir/script-errors"
		report 'not ok' "${1##*/} ran to its end"
	fi
}

free_port() {
	python3 -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

port=$(free_port)
size=67108864
truncate -s $size "$dir/disk" "$dir/disk2"
truncate -s 8M "$dir/ro"
cat > "$dir/config" << EOF
[generic]
	listenaddr = 127.0.0.1, ::1
	port = $port
	unixsock = $dir/sock
	duallisten = true
	allowlist = true
	handshake_timeout = 5
[rw]
	exportname = $dir/disk
[ro]
	exportname = $dir/ro
	readonly = true
	description = not to be written
[plain]
	exportname = $dir/disk2
	flush = false
	fua = false
	trim = false
	rotational = true
EOF
: > "$dir/log"
"$SERVER" -n -C "$dir/config" 2> "$dir/log" &
server_pid=$!
i=0
until grep -q serving "$dir/log"; do
	i=$((i + 1))
	if [ $i -gt 200 ] || ! kill -0 $server_pid; then
		echo "Bail out! the server does not start"
		sed 's/^/# /' "$dir/log"
		exit 1
	fi
	sleep 0.05
done
uri=nbd://127.0.0.1:$port
unix="nbd+unix:///rw?socket=$dir/sock"
head -c $size /dev/urandom > "$dir/random"

info() {
	nbdinfo --json "$uri/rw" > "$dir/json"
	jq -e '.protocol == "newstyle-fixed" and (.exports[0] |
		."export-size" == '$size' and .can_flush and .can_fua and .can_trim and
		.can_zero and .can_multi_conn and (.is_read_only | not) and
		(.is_rotational | not) and .can_df and .can_cache and
		.can_fast_zero and .contexts == ["base:allocation"] and .block_size_minimum == 1 and
		.block_size_preferred == 4096 and .block_size_maximum == 33554432)' "$dir/json"
	nbdinfo --json "$uri/plain" > "$dir/json"
	jq -e '.exports[0] | (.can_flush or .can_fua or .can_trim | not) and .is_rotational and
		.can_zero' "$dir/json"
	nbdinfo --json "$uri/ro" > "$dir/json"
	jq -e '.exports[0] | .is_read_only and (.can_trim or .can_zero | not) and
		."export-size" == 8388608 and .description == "not to be written"' "$dir/json"
}
check 'nbdinfo: size, flags and block sizes' info

# What the file system says of a file's holes, and what nbdinfo does
map() {
	truncate -s 0 "$dir/disk2" && truncate -s $size "$dir/disk2"
	dd if="$dir/random" of="$dir/disk2" bs=1M count=1 seek=3 conv=notrunc status=none
	nbdinfo --map --json "$uri/plain" > "$dir/json"
	jq -e '[.[] | [.offset, .length, .type]] ==
		[[0, 3145728, 3], [3145728, 1048576, 0], [4194304, '$((size - 4194304))', 3]]' "$dir/json"
	qemu-img map --output=json -f raw "$uri/plain" > "$dir/json"
	jq -e '[.[] | select(.data) | [.start, .length]] == [[3145728, 1048576]]' "$dir/json"
}
check 'nbdinfo --map and qemu-img map: holes and data' map
sparse() {
	nbdcopy --destination-is-zero "$uri/plain" "$dir/back" && cmp "$dir/back" "$dir/disk2" &&
		[ "$(stat -c %b "$dir/back")" -lt 4096 ]
}
check 'nbdcopy keeps holes' sparse

list() {
	nbdinfo --list --json "$uri" > "$dir/json"
	jq -e '[.exports[]."export-name"] == ["rw", "ro", "plain"]' "$dir/json"
}
check 'nbdinfo --list' list

# nbd-client's list ends with its own words; it takes no IPv6 or Unix socket here
client_list() {
	nbd-client -l 127.0.0.1 "$port" > "$dir/list"
	for name in rw ro plain; do
		grep -qx "$name.*" "$dir/list" || return 1
	done
}
check 'nbd-client -l' client_list

copy() {
	nbdcopy "$dir/random" "$1" && cmp "$dir/random" "$dir/disk" &&
		nbdcopy "$1" "$dir/back" && cmp "$dir/random" "$dir/back"
}
check 'nbdcopy, there and back' copy "$uri/rw"
truncate -s 0 "$dir/disk" && truncate -s $size "$dir/disk"
check 'nbdcopy over a Unix socket' copy "$unix"
truncate -s 0 "$dir/disk" && truncate -s $size "$dir/disk"
check 'nbdcopy over IPv6' copy "nbd://[::1]:$port/rw"
check 'nbdcopy from one export to another' sh -c \
	"nbdcopy '$uri/rw' '$uri/plain' && cmp '$dir/random' '$dir/disk2'"

qemu_io() {
	qemu-io -f raw -c 'write -P 0xa1 0 1M' -c 'write -f -P 0xa2 1M 64k' -c 'aio_write 2M 4M' \
		-c 'aio_read 0 1M' -c aio_flush -c 'read -P 0xa1 0 1M' -c 'read -P 0xa2 1M 64k' \
		-c 'write -z 512k 256k' -c 'read -P 0 512k 256k' -c 'write -z -u 0 256k' \
		-c 'read -P 0 0 256k' -c 'discard 1M 64k' -c flush "$1" > "$dir/io" || return 1
	cat "$dir/io"
	! grep -iE 'fail|error|differ' "$dir/io"
}
check 'qemu-io: writes, zeroes, discard, flush, verified' qemu_io "$uri/rw"
check 'qemu-io over a Unix socket' qemu_io "$unix"
check 'qemu-img compare' qemu-img compare -f raw -F raw "$dir/disk" "$uri/rw"
convert() {
	qemu-img convert -n -f raw -O raw "$dir/random" "$uri/rw" && cmp "$dir/random" "$dir/disk" &&
		qemu-img convert -f raw -O qcow2 "$uri/rw" "$dir/qcow2" &&
		qemu-img compare -f qcow2 -F raw "$dir/qcow2" "$dir/random"
}
check 'qemu-img convert, both ways' convert

run_fio() {
	(cd "$dir" && fio --name=verify --ioengine=nbd --uri="$1" --rw=randrw --bsrange=512-128k \
		--size=32M --io_size=64M --iodepth=32 --verify=crc32c --verify_fatal=1 --fsync=50)
}
check "fio's nbd engine, random sizes, verified" run_fio "$uri/rw"

# shellcheck disable=SC2016 # python, not shell
commands='
assert h.get_size() == 67108864 and not h.is_read_only() and h.can_multi_conn()
h.pwrite(b"1" * 100000, 7, nbd.CMD_FLAG_FUA)
assert h.pread(100000, 7) == bytearray(b"1" * 100000)
h.zero(50000, 10, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.zero(1000, 60000)
assert h.pread(50000, 10) == bytearray(50000) and h.pread(1000, 60000) == bytearray(1000)
h.trim(65536, 131072, nbd.CMD_FLAG_FUA)
h.flush()
h.zero(67108864, 0)
assert h.pread(32 << 20, 0) == bytearray(32 << 20)
h.set_strict_mode(0)
for code, call in ((22, lambda: h.pread(1, 67108864)), (28, lambda: h.pwrite(b"x", 67108864)),
                   (28, lambda: h.zero(2, 67108863)), (22, lambda: h.trim(2, 67108863)),
                   (22, lambda: h.cache(1, 67108864)),
                   (22, lambda: h.trim(1, 0, nbd.CMD_FLAG_DF))):
    try:
        call()
        raise AssertionError(code)
    except nbd.Error as e:
        assert e.errnum == code, e
h.cache(67108864, 0)
h.pwrite(b"c" * 4096, 4096)
assert h.pread(4096, 4096, nbd.CMD_FLAG_DF) == bytearray(b"c" * 4096)
h.zero(4096, 4096, nbd.CMD_FLAG_FAST_ZERO)
assert h.pread(512, 4096) == bytearray(512)
h.shutdown()
'
check 'nbdsh: each command and error' nbdsh -u "$uri/rw" -c "$commands"
check 'nbdsh: TLS is refused, and only when it is required' nbdsh -c "
try:
    h.set_tls(nbd.TLS_REQUIRE)
    h.connect_tcp('127.0.0.1', '$port')
    raise AssertionError
except nbd.Error:
    pass
h = nbd.NBD()
h.set_tls(nbd.TLS_ALLOW)
h.set_export_name('rw')
h.connect_tcp('127.0.0.1', '$port')
assert not h.get_tls_negotiated() and len(h.pread(1, 0)) == 1"

script "$here/server_wire.py" "$port" $size
script "$here/server_life.py" "$SERVER" "$dir"
script "$here/server_session.py" "$SERVER" "$dir"
script "$here/server_engine.py" "$SERVER" "$dir"
script "$here/server_swap.py" "$SERVER" "$dir"
script "$here/server_tls.py" "$SERVER" "$dir"
script "$here/server_files.py" "$SERVER" "$dir"
script "$here/server_monitor.py" "$SERVER" "$dir"

# Once more with threads in place of io_uring
printf '#!/bin/sh\nexec "%s" --io threads "$@"\n' "$SERVER" > "$dir/threads"
chmod 755 "$dir/threads"
script "$here/server_session.py" "$dir/threads" "$dir"
script "$here/server_files.py" "$dir/threads" "$dir"

# The manual pages must know what the program knows
documented() {
	man=$top/Documentation/man
	sed 's/\\-/-/g' "$man/nbd-server.1" > "$dir/man.1"
	for option in $("$SERVER" --help | grep -oE '^  (-., )? *--[a-z-]+' | grep -oE '\-\-.*'); do
		grep -qF -e "$option" "$dir/man.1" || { echo "$option is not in nbd-server.1"; return 1; }
	done
	# shellcheck disable=SC2013 # words are what is wanted
	for key in $(sed -n 's/^\t{ "\([a-z_]*\)", KEY_.*/\1/p' "$top/server/config.c"); do
		grep -qw "$key" "$man/nbd-server.5" || { echo "$key is not in nbd-server.5"; return 1; }
	done
}
check 'manual pages: every option and every key' documented

check 'the server is still there' nbdinfo --size "$uri/rw"
quit() {
	kill $server_pid
	status=0
	wait $server_pid || status=$?
	server_pid=
	[ $status = 0 ] && [ ! -e "$dir/sock" ] && ! grep -E 'Sanitizer|runtime error' "$dir/log"
}
check 'it ends with status 0, leaves no socket, and the sanitizers are silent' quit

silent() {
	for f in "$dir"/found/*; do
		[ ! -e "$f" ] || head -n 60 "$f"
	done
	[ -z "$(ls "$dir/found")" ]
}
check 'the sanitizers have found nothing in any of the servers' silent

echo "1..$n"
[ $failed = 0 ]
