#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# How stress/kernel tells one build from another, and how it takes patches: without
# building one.  TAP output.
#
# shellcheck disable=SC1091 # the part of stress/kernel shares its variables

set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
. "$top/tests/lib/tap.sh"

# shellcheck disable=SC2034 # the part's
cache=$dir/cache
die() {
	echo "$*" >&2
	exit 1
}
. "$top/stress/lib/kernel.sh"

# patch_file NAME MESSAGE INDEX OLD NEW: one that turns line OLD of a.c into NEW
patch_file() {
	cat > "$dir/$1" <<-END
		Subject: [PATCH] $2

		diff --git a/a.c b/a.c
		index $3 100644
		--- a/a.c
		+++ b/a.c
		@@ -1,3 +1,3 @@
		 first
		-$4
		+$5
		 last
	END
}

same_key() {
	[ "$(kernel_key "$dir/config" "$dir/$1")" = "$(kernel_key "$dir/config" "$dir/$2")" ]
}

other_key() {
	! same_key "$@"
}

echo CONFIG_NET=y > "$dir/config"
echo CONFIG_NET=n > "$dir/other"
patch_file 1.patch 'a message' 111..222 old new
patch_file 2.patch 'another one' 333..444 old new
patch_file 3.patch 'a message' 111..222 old newer
check 'a patch whose message has changed makes no other kernel' same_key 1.patch 2.patch
check 'one that does something else does' other_key 1.patch 3.patch
check 'and so does another configuration' \
	test "$(kernel_key "$dir/config" "$dir/1.patch")" != "$(kernel_key "$dir/other" "$dir/1.patch")"

mkdir "$dir/series.d" "$dir/source"
printf '# comment\n0001-one.patch\n0002-two.patch\n0003-three.patch\n' > "$dir/series.d/series"
check 'a series is all of its patches in order' \
	test "$(kernel_patches "$dir/series.d" | xargs -n 1 basename | tr '\n' ' ')" = '0001-one.patch 0002-two.patch 0003-three.patch '
check 'but those left out' \
	test "$(kernel_patches "$dir/series.d" 0003,0001 | xargs -n 1 basename)" = 0002-two.patch
# In a process of its own, which it ends
if (kernel_patches "$dir/series.d" 0002,0009) > "$dir/out" 2> "$dir/err"; then
	check 'a number that is not there is an error' false
else
	check 'a number that is not there is an error' grep -q 'no patch .*0009' "$dir/err"
fi

printf 'first\nold\nlast\n' > "$dir/source/a.c"
(kernel_patch "$dir/source" "$dir/to" "$dir/1.patch")
check 'what is patched is a copy' grep -qx new "$dir/to/a.c"
check 'the original stays as it was' grep -qx old "$dir/source/a.c"
printf 'primary\nold\nlast\n' > "$dir/source/a.c"
if (kernel_patch "$dir/source" "$dir/fuzz" "$dir/1.patch") > "$dir/out" 2> "$dir/err"; then
	check 'a patch that needs fuzz is refused' false
else
	check 'a patch that needs fuzz is refused' grep -q 'derive it anew' "$dir/err"
fi
echo "1..$n"
