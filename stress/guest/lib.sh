# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154 # variables come from /etc/env
#
# What the guest part of a scenario may use.  Its standard output is the report.

ok() {
	echo "ok $*"
}

not_ok() {
	echo "not ok $*"
	return 0
}

note() {
	echo "# $*"
}

metric() {
	echo "# metric $1"
}

# check TEXT COMMAND...: COMMAND must succeed
check() {
	_text=$1
	shift
	if "$@" > /tmp/out 2>&1; then
		ok "$_text"
	else
		_rc=$?
		not_ok "$_text"
		note "'$*' ended with status $_rc"
		sed 's/^/#   /' /tmp/out
	fi
}

# refuse TEXT PATTERN COMMAND...: COMMAND must fail and say something like PATTERN;
# with an empty PATTERN it may say nothing
refuse() {
	_text=$1
	_pattern=$2
	shift 2
	_rc=0
	"$@" > /tmp/out 2>&1 || _rc=$?
	if [ $_rc != 0 ] && [ $_rc -lt 126 ] && { [ -z "$_pattern" ] || grep -qE -e "$_pattern" /tmp/out; }; then
		ok "$_text"
	else
		not_ok "$_text"
		note "'$*' ended with status $_rc; wanted a failure that says '$_pattern'"
		sed 's/^/#   /' /tmp/out
	fi
}

# same TEXT FOUND WANTED
same() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		not_ok "$1"
		note "found '$2', wanted '$3'"
	fi
}

# until_true SECONDS COMMAND...: poll COMMAND until it succeeds
until_true() {
	_end=$(($(date +%s) + $1 * SLOW))
	shift
	until "$@" > /dev/null 2>&1; do
		[ "$(date +%s)" -lt $_end ] || return 1
		sleep 0.2
	done
}

# patched: the kernel has the network patches; as on the host
patched() {
	[ -e /proc/mem_reserve ]
}

# Tell the host a word, wait for a word of the host
say() {
	echo "say $1"
}

await() {
	while read -r _verb _word; do
		[ "$_verb" != go ] || [ "$_word" != "$1" ] || return 0
	done
	return 1
}

# Seconds with three digits since boot
uptime_s() {
	cut -d' ' -f1 /proc/uptime
}

# attach N EXPORT [OPTION...]: connect device N to an export of the default server
attach() {
	_dev=/dev/$PREFIX$1
	_export=$2
	shift 2
	if [ "$DRIVER" = nbswap ]; then
		nbd-client "$HOST4" "$PORT" "$_dev" -N "$_export" "$@" 2>&1 | sed 's/^/# /'
	else
		nbd-client "$HOST4" "$PORT" "$_dev" -N "$_export" -persist -t 10 "$@" 2>&1 | sed 's/^/# /'
	fi
	until_true 10 test -e "/sys/block/$PREFIX${_dev##*"$PREFIX"}/pid"
}

# more_free: what a packet takes of the reserve is reckoned for kernels as they are used;
# under KASAN slab objects are larger.  /sys/kernel/debug/kmemleak is on debug kernels.
more_free() {
	[ -e /sys/kernel/debug/kmemleak ] && [ ! -e /tmp/more_free ] || return 0
	echo $(($(cat /proc/sys/vm/min_free_kbytes) + 8192)) > /proc/sys/vm/min_free_kbytes
	: > /tmp/more_free
}

# swap_on N: make device N the swap of the guest
swap_on() {
	mkswap "/dev/$PREFIX$1" > /dev/null
	more_free
	swapon "/dev/$PREFIX$1"
}

# swap_off N: end that and disconnect the device
swap_off() {
	check 'swapoff' swapoff "/dev/$PREFIX$1"
	check 'disconnect' nbd-client -d "/dev/$PREFIX$1"
}

# hog_result COMMAND...: what memhog's status says
hog_result() {
	if "$@"; then
		ok 'every page comes back as it was written'
	else
		not_ok 'every page comes back as it was written'
	fi
}

# hog OPTION...: memhog; every page must come back
hog() {
	hog_result memhog "$@"
}

# vmstat NAME: a counter of the kernel
vmstat() {
	sed -n "s/^$1 //p" /proc/vmstat
}

# hog_mb MB: MB, for a guest that has its full size; another gets what is more than it
# has by 40 MB
hog_mb() {
	if [ "$MEM_MB" -ge 128 ]; then
		echo "$1"
	else
		awk '$1 == "MemAvailable:" { print int($2 / 1024) + 40 }' /proc/meminfo
	fi
}

# swap_hog OPTION...: swap on device 0, memhog with these options until the host
# says `over`, and everything put away again
swap_hog() {
	hog_start "$@"
	await over
	hog_end
}

hog_start() {
	attach 0 swap -swap
	swap_on 0
	say swapping
	memhog "$@" &
	_hog=$!
}

hog_end() {
	kill -TERM "$_hog"
	hog_result wait "$_hog"
	nobody_killed
	swap_off 0
}

nobody_killed() {
	metric "oom_kills=$(vmstat oom_kill)"
	same 'nobody is killed for memory' "$(vmstat oom_kill)" 0
}

# no_leaks: on a kernel with kmemleak, no memory that nobody points to.  The first
# pass may come upon a pointer that is on its way; an object younger than 5 s is let
# pass.  What a scenario says in kernel_leaks is a pattern of functions in backtraces
# of leaks that are known to be the kernel's own.
no_leaks() {
	_leak=/sys/kernel/debug/kmemleak
	[ -e $_leak ] || return 0
	sleep 5
	echo scan > $_leak
	echo scan > $_leak
	cat $_leak > /tmp/leaks.all
	_known=$(awk -v known="${kernel_leaks:-}" -v rest=/tmp/leaks '
	function flush() {
		if (known != "" && object ~ known)
			n++
		else
			printf "%s", object > rest
		object = ""
	}
	/^unreferenced object/ { flush() }
	{ object = object $0 "\n" }
	END { flush(); print n + 0 }' /tmp/leaks.all)
	[ "$_known" = 0 ] || metric "leaks_of_the_kernel=$_known"
	if [ -s /tmp/leaks ]; then
		not_ok 'no memory is leaked'
		head -n 40 /tmp/leaks | sed 's/^/#   /'
	else
		ok 'no memory is leaked'
	fi
	echo clear > $_leak
}

# hog_begin OPTION..., hog_finish: the parts of it where the swap is another device,
# or something is to be done in between
hog_begin() {
	memhog "$@" -t 3600 &
	_hog=$!
}

hog_finish() {
	await over
	kill -TERM "$_hog"
	hog_result wait "$_hog"
}

# starved_guest HOLD: memhog swaps, then for HOLD seconds eater holds free memory at a
# fifth of the min watermarks: not even an atomic request gets a page then, down to three
# eighths it would.  Nor does a page fault, so memhog waits for the end of the hold;
# ioprobe, on a part of the device behind the swap, needs no page.
starved_guest() {
	_hold=$1
	attach 0 swap -swap
	probe_begin $((50 * SLOW + _hold))
	_level=$(($(min_watermarks) / 5))
	metric "hold_kb=$_level"
	exec 3<&0
	(
		await hold
		echo "$_level $_hold" > /sys/module/eater/parameters/hold
	) <&3 &
	say swapping
	hog -n 4 -m "$(hog_mb 220)" -t $((30 * SLOW + _hold)) -s $((90 * SLOW))
	probe_end 60
	swap_off 0
}

# probe_begin SECONDS: ioprobe on the last part of device 0, swap on what is before it
probe_begin() {
	(
		_rc=0
		ioprobe -t "$1" "/dev/${PREFIX}0" 950 4 || _rc=$?
		echo "$_rc" > /tmp/probe.end
	) &
	await filled
	mkswap "/dev/${PREFIX}0" 921600 > /dev/null
	more_free
	swapon "/dev/${PREFIX}0"
}

# probe_end SECONDS: ioprobe is done by then
probe_end() {
	until_true "$1" test -s /tmp/probe.end || :
	same 'ioprobe: every page was right and none failed' "$(cat /tmp/probe.end)" 0
}

# The min watermarks of all zones together, kB
min_watermarks() {
	awk '$1 == "min" { n += $2 } END { print n * 4 }' /proc/zoneinfo
}

# levelled_guest SECONDS COMMAND...: memhog swaps, and ioprobe runs for so long; when the
# host says so COMMAND holds free memory at levels, with the switch of the test patch
levelled_guest() {
	probe_begin "$1"
	shift
	say swapping
	memhog -n 4 -m "$(hog_mb 220)" -t 3600 -s $((120 * SLOW)) &
	_hog=$!
	await hold
	"$@"
	await over
	kill -TERM "$_hog"
	hog_result wait "$_hog"
	nobody_killed
	probe_end 120
}

# levels SECONDS LEVEL_KB...: one after the other.  What holdlevels says goes out directly:
# a file would need pages.
levels() {
	_seconds=$1 _rc=0
	shift
	holdlevels -t "$_seconds" "$@" || _rc=$?
	same 'every level is held' "$_rc" 0
}
