#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# stress/report: counts, medians, the same text whatever the order, and a
# sentence for what it cannot use.  TAP output.

set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
n=0

# check TEXT COMMAND...
check() {
	text=$1
	shift
	n=$((n + 1))
	if "$@" > "$dir/out" 2>&1; then
		echo "ok $n - $text"
	else
		echo "not ok $n - $text"
		sed 's/^/# /' "$dir/out"
	fi
}

# result FILE COMMIT SERIES DRIVER RESULT RATE
result() {
	cat > "$dir/$1.json" <<-END
		{"date": "2026-01-02T03:04:05Z", "commit": "$2", "modified": false, "series": "$3",
		 "kernel": "${3#stock-}.0", "driver": "$4", "nic": "virtio", "server": "nbswap",
		 "scenarios": [{"scenario": "swap", "run": 1, "result": "$5", "seconds": 60,
		 "mem_mb": 128, "metrics": {"in_per_s": $6, "seed": 7}, "checks": []}]}
	END
}

result a aaaa stock-6.12 nbswap pass 100
result b aaaa stock-6.12 nbswap fail 300
result c aaaa stock-6.12 nbswap pass 200
result d bbbb stock-6.1 mainline pass 5.25
report=$top/stress/report
"$report" "$dir/a.json" "$dir/b.json" "$dir/c.json" "$dir/d.json" > "$dir/one"
"$report" "$dir/d.json" "$dir/c.json" "$dir/b.json" "$dir/a.json" > "$dir/two"

check 'the order of the files does not matter' cmp "$dir/one" "$dir/two"
check 'runs that passed are counted' grep -qxF '| swap | nbswap | nbswap |  | 2 of 3 |' "$dir/one"
check 'another driver has a line of its own' grep -qxF '| swap | mainline | nbswap | 1 of 1 |  |' "$dir/one"
check 'figures have median, least and most' \
	grep -qxF '| in_per_s | nbswap | nbswap |  | 200 (100 to 300) |' "$dir/one"
check 'a single figure stands alone' grep -qxF '| in_per_s | mainline | nbswap | 5.25 |  |' "$dir/one"
check 'commits and kernels are named' \
	sh -c "grep -qF '\`aaaa\`, \`bbbb\`' '$dir/one' && grep -qF '\`6.1.0\`, \`6.12.0\`' '$dir/one'"
"$report" --commit bb "$dir"/?.json > "$dir/three"
check '--commit leaves the others out' sh -c "! grep -q aaaa '$dir/three' && grep -q bbbb '$dir/three'"
"$report" --output "$dir/four" "$dir"/?.json
check '--output writes a file' cmp "$dir/one" "$dir/four"
echo '{' > "$dir/broken.json"
check 'a broken file is named' sh -c "! '$report' '$dir/broken.json' 2> '$dir/err' && grep -q broken.json '$dir/err'"
check 'no results are no report' sh -c "! '$report' --commit cc '$dir/a.json' 2> '$dir/err' && grep -q 'no results' '$dir/err'"
echo "1..$n"
