#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tests/bench/server: every part of it once, in short, with every server.  What it
# measures here is not looked at: that it does is.  TAP output.

set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
bench=$top/tests/bench/server
dir=$(mktemp -d /var/tmp/nbd-bench-test.XXXXXX)
trap 'rm -rf "$dir"' EXIT
. "$top/tests/lib/tap.sh"

# says STATUS TEXT OPTION...: the bench ends so, with the text
says() {
	status=$1 said=$2
	shift 2
	rc=0
	"$bench" "$@" > "$dir/text" 2>&1 || rc=$?
	[ "$rc" = "$status" ] && grep -q "$said" "$dir/text" && return
	cat "$dir/text"
	return 1
}

# figure FILTER: the filter finds something in every server's results
figure() {
	jq -e "[.results[] | select(.server != \"echo\" and ($1)) | .server] | unique | length == 4" "$dir/all.json"
}

none_left() {
	! pgrep -f "$dir" > "$dir/left" || { cat "$dir/left"; return 1; }
	[ -z "$(find "$dir" -mindepth 1 -name 'nbd-bench-*')" ]
}

"$top/build/bin/nbd-server" --version > /dev/null
check 'every part, with every server, over a Unix socket and TCP' "$bench" --seconds 1 --rounds 1 \
	--transports unix,tcp --media disk --directory "$dir" --connections 2 --idle 5 \
	--jobs read-4k-32,write-4k-1 --json "$dir/all.json"
cp "$dir/out" "$dir/table"
check 'requests a second, with their CPU time' figure \
	'.job == "read-4k-32" and .transport == "tcp" and .iops > 0 and .mean_us > 0 and .cpu_us_per_request > 0'
check 'writes, too' figure '.job == "write-4k-1" and .transport == "unix" and .iops > 0'
check 'latency of one request at a time' figure '.job == "latency-read" and .p99_us >= .p50_us and .p50_us > 0'
check 'and of an echo' jq -e \
	'[.results[] | select(.server == "echo" and .job == "latency-write" and .mean_us > 0)] | length == 2' \
	"$dir/all.json"
check 'connections a second' figure '.job == "setup" and .per_s > 0'
check 'reads beside writes' figure '.job == "mixed" and .p99_us > 0 and .written_mb_per_s > 0'
check 'memory with idle connections' figure '.job == "idle" and .connections == 5 and .memory_kb > 100'
check 'the ratio is to the best of the others' jq -e '[.summary[] | select(.job == "setup") |
	.ratio * (.values | del(.nbswap) | [.[]] | max) / .values.nbswap | . > 0.999 and . < 1.001] |
	length == 2 and all' "$dir/all.json"
check 'a table has a line for each' test "$(grep -c '^| ' "$dir/table")" = 15
check 'it leaves no server and no file behind' none_left
check 'an unknown job is named' says 2 'read-5k: no such job' --jobs read-5k
check 'so is a number that is none' says 2 'many: expected numbers' --connections many
check 'what cannot be measured is said, and the rest goes on' says 1 \
	'idle, unix, disk: .*raise ulimit -n\|idle .*no more than' --parts idle,setup --seconds 1 --rounds 1 \
	--transports unix --media disk --directory "$dir" --idle 100000000 --servers nbswap
echo "1..$n"
