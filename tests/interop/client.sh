#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Our client as far as it goes without a driver: lists and handshakes against
# four servers and hostile ones, errors, exit codes, documentation.  What needs
# a driver is tested in virtual machines.  CLIENT=PATH and SERVER=PATH test
# other builds.  TAP output.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
CLIENT=${CLIENT:-$top/build/san/nbd-client}
SERVER=${SERVER:-$top/build/san/nbd-server}
for program in "$CLIENT" "$SERVER"; do
	[ -x "$program" ] || { echo "Bail out! no $program: run make tests first"; exit 1; }
done
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
# What a sanitizer finds must not look like an exit code of ours
export ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=exitcode=99

dir=$(mktemp -d /tmp/nbd-client-test.XXXXXX)
pids=
n=0
failed=0

# stop PID...: those who have ended are no error
stop() {
	for _pid in "$@"; do
		kill "$_pid" 2> /dev/null || :
		wait "$_pid" 2> /dev/null || :
	done
}

cleanup() {
	trap - EXIT INT TERM HUP
	# shellcheck disable=SC2086 # a list of numbers
	stop $pids
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'cleanup; exit 130' INT TERM HUP

report() {
	n=$((n + 1))
	if [ "$1" = ok ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		failed=$((failed + 1))
		sed 's/^/# /' "$dir/out" "$dir/err"
	fi
}

# expect TEXT CODE PATTERN ARGUMENT...: exit code, and a pattern (empty: none) in a
# line of what is printed on standard output (code 0 and 1) or standard error
expect() {
	_text=$1 _code=$2 _pattern=$3
	shift 3
	_rc=0
	timeout 30 "$CLIENT" "$@" > "$dir/out" 2> "$dir/err" < /dev/null || _rc=$?
	_where=$dir/err
	[ "$_code" -gt 1 ] || _where=$dir/out
	if [ "$_rc" = "$_code" ] && { [ -z "$_pattern" ] || grep -qE -e "$_pattern" "$_where"; }; then
		report ok "$_text"
	else
		echo "exit code $_rc, not $_code, or no line with: $_pattern" >> "$dir/err"
		report 'not ok' "$_text"
	fi
}

# check TEXT COMMAND...
check() {
	_text=$1
	shift
	if "$@" > "$dir/out" 2> "$dir/err"; then
		report ok "$_text"
	else
		report 'not ok' "$_text"
	fi
}

# start COMMAND...: a server; its pid in $pid
start() {
	"$@" > "$dir/server.log" 2>&1 < /dev/null &
	pid=$!
	pids="$pids $pid"
}

# wait_for COMMAND...: at most 10 s
wait_for() {
	_i=0
	until "$@" > /dev/null 2>&1; do
		_i=$((_i + 1))
		[ $_i -lt 100 ] || return 1
		sleep 0.1
	done
}

free_port() {
	python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])'
}

# json EXPRESSION: true of the JSON in $dir/out, called j?
json() {
	python3 -c 'import json, sys; j = json.load(open(sys.argv[1])); assert eval(sys.argv[2]), j' \
		"$dir/json" "$1"
}

list_json() {
	rm -f "$dir/json"
	timeout 30 "$CLIENT" list "$@" --json > "$dir/json" 2> "$dir/json.err" || :
}

truncate -s 1048576 "$dir/disk"
chmod 644 "$dir/disk"

# --- the command line -------------------------------------------------------

expect 'help on standard output, exit 0' 0 systemd-mark --help
expect 'help names -L' 0 '-L, ' -h
expect 'version' 0 '^nbd-client \(nbswap\) [0-9]' -V
expect 'no words' 3 'no host is given'
expect 'unknown option' 3 "'-frobnicate' is unknown" -frobnicate
expect 'value of an option' 3 "'17' is no value for -connections" -C 17 h nb0
expect 'TLS is refused' 3 'has no TLS' -enable-tls h nb0
expect 'sockets direct is refused' 3 'not supported' h nb0 -sdp
expect 'a device that is none' 3 "'/dev/sda' is no NBD device" h /dev/sda
expect '-c of a device that is none' 2 'no NBD device' -c /dev/sda
expect '-c of a device that is not there' 1 '' -c /dev/nbd1048575
NBDTAB=$dir/nbdtab
export NBDTAB
expect 'no nbdtab' 3 "cannot read $dir/nbdtab" nb7
printf 'nbd7 bad..name disk frob,_local\nnb8 h\n' > "$NBDTAB"
expect 'nbdtab: host of the line' 7 "'bad..name' has no address" nb7
expect 'nbdtab: unknown option is warned of' 7 "warning: option 'frob'" nb7
check 'nbdtab: local option is not' sh -c "! grep _local '$dir/err'"
expect 'nbdtab: short line' 3 'nbdtab:2: a line needs device, host and export' nb8
expect 'nbdtab: no line' 3 'has no line for nb9' nb9

# --- servers that cannot be reached -------------------------------------------

port=$(free_port)
expect 'refused port' 7 "127.0.0.1:$port: Connection refused" -l 127.0.0.1 "$port"
expect 'refused port, IPv6' 7 "\[::1\]:$port: Connection refused" -l "[::1]:$port"
expect 'unknown host' 7 "'bad..name' has no address" -l bad..name
expect 'unknown host, connecting' 7 "'bad..name' has no address" bad..name nb0
expect 'socket that is not there' 7 'unix:/nonexistent: No such file' -l -u /nonexistent

# Without a driver nothing can be connected; with one these are tested elsewhere
if [ ! -e /sys/module/nbd ]; then
	expect 'no driver: connect' 4 'modprobe nbd' 127.0.0.1 "$port" nb0
	expect 'no driver: disconnect' 4 'modprobe nbd' -d nb0
	expect 'no driver: status' 4 'modprobe nbd' status
else
	expect 'driver: status' 0 '' status
fi

# --- our server ---------------------------------------------------------------

port=$(free_port)
start "$SERVER" "127.0.0.1@$port" "$dir/disk" -n
check 'nbswap: answers' wait_for "$CLIENT" -l 127.0.0.1 "$port"
expect 'nbswap: -l' 0 '^$' -l 127.0.0.1 "$port"
list_json 127.0.0.1 "$port"
check 'nbswap: size' json 'j["exports"][0]["size"] == 1048576'
check 'nbswap: block sizes' json 'j["exports"][0]["min_block_size"] >= 1'
expect 'nbswap: second host of the list' 0 '^$' -l "bad..name,127.0.0.1:$port"
expect 'nbswap: URI' 0 '^$' -l "nbd://127.0.0.1:$port"
# The handshake of -nonetlink is done before the device is touched
expect 'nbswap: GO, size too large' 8 'more than the export has: 1048576' \
	-L 127.0.0.1 "$port" nb0 -B 2M
expect 'nbswap: EXPORT_NAME, size too large' 8 'more than the export has: 1048576' \
	-L 127.0.0.1 "$port" nb0 -B 2M -g
stop "$pid"

# --- Debian's nbd-server ------------------------------------------------------

port=$(free_port)
cat > "$dir/config" <<-END
	[generic]
	listenaddr = 127.0.0.1
	port = $port
	allowlist = true
	[one]
	exportname = $dir/disk
	[two]
	exportname = $dir/disk
	readonly = true
END
/usr/bin/nbd-server -C "$dir/config" -p "$dir/pid" > "$dir/server.log" 2>&1
check 'nbd-server: starts' wait_for test -s "$dir/pid"
debian=$(cat "$dir/pid")
pids="$pids $debian"
check 'nbd-server: answers' wait_for "$CLIENT" -l 127.0.0.1 "$port"
expect 'nbd-server: -l' 0 '^two$' -l 127.0.0.1 "$port"
check 'nbd-server: names alone' test "$(wc -l < "$dir/out")" = 2
list_json 127.0.0.1 "$port"
check 'nbd-server: flags' json '"read-only" in j["exports"][1]["flags"]'
expect 'nbd-server: unknown export by GO' 8 "cannot open export 'three'" \
	-L 127.0.0.1 "$port" nb0 -N three
expect 'nbd-server: unknown export by EXPORT_NAME' 8 'closed the connection' \
	-L 127.0.0.1 "$port" nb0 -N three -g
expect 'nbd-server: GO' 8 'more than the export has: 1048576' \
	-L 127.0.0.1 "$port" nb0 -N one -B 2M
stop "$debian"

# --- nbdkit -------------------------------------------------------------------

socket=$dir/nbdkit
start nbdkit -f -U "$socket" --exportname disk file "$dir/disk"
check 'nbdkit: answers' wait_for "$CLIENT" -l -u "$socket"
list_json "nbd+unix:///?socket=$socket"
check 'nbdkit: size' json 'j["exports"][0]["size"] == 1048576'
check 'nbdkit: flags' json 'set(j["exports"][0]["flags"]) >= {"flush", "fua", "multi-conn"}'
check 'nbdkit: block sizes are not told' json 'j["exports"][0]["min_block_size"] is None'
expect 'nbdkit: list as text' 0 '^"": 1 MiB$' list -u "$socket"
expect 'nbdkit: GO' 8 'more than the export has: 1048576' -L -u "$socket" nb0 -B 2M
stop "$pid"

socket=$dir/tls
echo "user:$(printf '%064d' 7)" > "$dir/psk"
start nbdkit -f -U "$socket" --tls=require --tls-psk="$dir/psk" memory 1M
wait_for test -S "$socket"
expect 'nbdkit: demands TLS, listing' 8 'demands TLS' -l -u "$socket"
expect 'nbdkit: demands TLS, connecting' 8 'demands TLS' -L -u "$socket" nb0
stop "$pid"

socket=$dir/single
start nbdkit -f -U "$socket" --filter=noparallel --filter=multi-conn memory 1M \
	multi-conn-mode=disable
wait_for test -S "$socket"
expect 'nbdkit: no second connection' 8 'use -connections 1' -L -C 2 -u "$socket" nb0
stop "$pid"

# --- qemu-nbd -----------------------------------------------------------------

socket=$dir/qemu
start qemu-nbd -t -r -f raw -k "$socket" -x disk -D 'a "disk"' "$dir/disk"
check 'qemu-nbd: answers' wait_for "$CLIENT" -l -u "$socket"
expect 'qemu-nbd: -l' 0 '^disk$' -l -u "$socket"
list_json -u "$socket"
check 'qemu-nbd: description' json 'j["exports"][0]["description"] == "a \"disk\""'
check 'qemu-nbd: block sizes' json 'j["exports"][0]["preferred_block_size"] == 4096'
check 'qemu-nbd: flags' json '"read-only" in j["exports"][0]["flags"]'
expect 'qemu-nbd: unknown export' 8 "cannot open export 'none': .* not present" \
	-L -u "$socket" nb0 -N none
expect 'qemu-nbd: GO' 8 'more than the export has: 1048576' -L -u "$socket" nb0 -N disk -B 2M
stop "$pid"

# --- hostile servers ------------------------------------------------------------

# hostile HOW TEXT CODE PATTERN ARGUMENT...: the port comes last
hostile() {
	_how=$1
	shift
	rm -f "$dir/port"
	start python3 -B "$here/client_hostile.py" "$_how" "$dir/port"
	wait_for test -s "$dir/port"
	port=$(cat "$dir/port")
	expect "$@" "$port"
	stop "$pid"
}

hostile silent 'silence ends in time' 7 'does not answer in time' \
	-connect-timeout 300ms -l 127.0.0.1
hostile trickle 'a byte now and then ends in time' 7 'does not answer in time' \
	-connect-timeout 500ms -l 127.0.0.1
hostile http 'not an NBD server' 8 'no NBD server: check host and port' -l 127.0.0.1
hostile close 'closed at once' 8 'closed the connection at once' -l 127.0.0.1
hostile oldstyle 'oldstyle' 8 'oldstyle' -l 127.0.0.1
hostile endless 'endless list' 8 'more than 4096 exports' -l 127.0.0.1
hostile long 'huge length' 8 'reply of 4294967295 bytes' -l 127.0.0.1
hostile escape 'control characters are shown, not sent to the terminal' 0 '^\\x1b\[2Jevil$' \
	-l 127.0.0.1

echo "1..$n"
[ $failed = 0 ]
