#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# stress/report: counts, medians, the same text whatever the order, and a
# sentence for what it cannot use.  TAP output.

set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
. "$top/tests/lib/tap.sh"

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
# Runs with the whole series and without a patch
result e aaaa patched-6.12 nbswap pass 100
result f aaaa patched-6.12-without-0013 nbswap fail 10
sed -i 's/"checks": \[\]/"checks": [{"ok": true, "text": "fine"}, {"ok": false, "text": "swap | on"}]/' "$dir/f.json"
printf '# comment\n0013\tswap\tvirtio\n0014\tswap\tvirtio\n' > "$dir/tests"
# shellcheck disable=SC2016 # backquotes of the page
printf 'before\n<!-- evidence: made by `make results`, do not edit -->\nold\n<!-- end of evidence -->\n<!-- cost: made by `make results`, do not edit -->\n<!-- end of cost -->\nafter\n' > "$dir/page"
evidence() {
	"$report" --output "$dir/five" --evidence "$dir/tests" "$dir/page" "$@" && grep -qx before "$dir/page" &&
		grep -qx after "$dir/page" && ! grep -qx old "$dir/page" &&
		grep -qxF '| 0013 | 6.12 | swap, virtio | 1 of 1 passed | 0 of 1 passed | swap \| on |' "$dir/page" &&
		! grep -q 0014 "$dir/page"
}
check '--evidence: a line for a patch that was left out' evidence "$dir/e.json" "$dir/f.json"
"$report" --keep "$dir/kept.jsonl" --output "$dir/six" "$dir/e.json" "$dir/f.json"
check 'what failed is kept with the runs' evidence "$dir/kept.jsonl"
# The network of all others with the series and without it
result g aaaa patched-6.12 nbswap pass 80
result h aaaa unpatched-6.12 nbswap pass 100
sed -i 's/"swap"/"network"/; s/"in_per_s"/"tcp_in_per_s"/' "$dir/g.json" "$dir/h.json"
cost() {
	evidence "$dir/e.json" "$dir/f.json" "$dir/g.json" "$dir/h.json" &&
		grep -qxF '| 6.12 | virtio | tcp_in_per_s | 80 | 100 | 0.8 |' "$dir/page"
}
check '--evidence: what the series costs' cost
check 'a page without a place for it is named' \
	sh -c "! '$report' --evidence '$dir/tests' '$dir/one' '$dir/e.json' > /dev/null 2> '$dir/err' && grep -q 'no place' '$dir/err'"
echo '{' > "$dir/broken.json"
check 'a broken file is named' sh -c "! '$report' '$dir/broken.json' 2> '$dir/err' && grep -q broken.json '$dir/err'"
check 'no results are no report' sh -c "! '$report' --commit cc '$dir/a.json' 2> '$dir/err' && grep -q 'no results' '$dir/err'"
echo "1..$n"
