# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='what drivers register of the reserve raises the watermarks by just that, is refused when too much, and goes again'
mem=192
symbols=mem_reserve_add
kmods=registrar
servers=nbswap

prepare() {
	:
}

ADD=/sys/module/registrar/parameters/add
PAGE=4096

# register BYTES
register() {
	echo "$1" > $ADD
}

# A line of /proc/mem_reserve, kB
kept() {
	sed -n "s/^$1: *\([0-9]*\) kB/\1/p" /proc/mem_reserve
}

# Pages of the min watermarks that stand where $1 pages are kept: eight thirds of them,
# rounded up; the share of each zone is rounded down
expected() {
	echo $((BEFORE + ($1 * 8 + 2) / 3))
}

min_pages() {
	awk '$1 == "min" { n += $2 } END { print n }' /proc/zoneinfo
}

zones() {
	awk '/^Node/ { z = 0 } $1 == "managed" && $2 > 0 { n++ } END { print n }' /proc/zoneinfo
}

# raised PAGES: the watermarks are what they are to be, but for the rounding of shares
raised() {
	_off=$(($(expected "$1") - $(min_pages)))
	[ "${_off#-}" -le "$ZONES" ]
}

# amounts BYTES...: registered one by one, each rounded up to pages
amounts() {
	_pages=0
	for _b in "$@"; do
		check "$_b bytes are taken" register "$_b"
		_pages=$((_pages + (_b + PAGE - 1) / PAGE))
		same "and $((_pages * 4)) kB registered" "$(kept Registered)" $((_pages * 4))
		check 'the watermarks are raised by eight thirds of it' raised $_pages
		# Of each zone, rounded down
		_floor=$(kept Floor)
		check "and what only the entitled get, $_floor kB, has room for it" \
			test $((_floor + 4 * ZONES * 2)) -ge $((_pages * 4))
	done
}

refusals() {
	_min=$(min_pages)
	_had=$(kept Registered)
	# A quarter of this machine's memory is less than 64 MB, and 24 MB raise by that
	refuse '24 MB are too much for this machine' 'No space' register $((24 << 20))
	refuse 'nor does a sum overflow' 'No space' register 9223372036854775807
	refuse 'more than was added is not taken back' 'Invalid' register $((-(_had * 1024 + 1)))
	refuse 'however much more' 'Invalid' register -9223372036854775807
	same 'and nothing has changed' "$(kept Registered) $(min_pages)" "$_had $_min"
}

guest() {
	BEFORE=$(min_pages)
	ZONES=$(zones)
	_sysctl=$(cat /proc/sys/vm/min_free_kbytes)
	same 'nothing is registered' "$(kept Registered)" 0
	amounts 1 4096 4097 1000000 3145728
	refusals
	_all=$(kept Registered)
	same 'vm.min_free_kbytes is the administrator'"'"'s' "$(cat /proc/sys/vm/min_free_kbytes)" "$_sysctl"
	echo $((_sysctl + 1024)) > /proc/sys/vm/min_free_kbytes
	BEFORE=$((BEFORE + 256))
	check 'what is registered stays when it is written' raised $((_all / 4))
	echo "$_sysctl" > /proc/sys/vm/min_free_kbytes
	BEFORE=$((BEFORE - 256))
	for _b in 3145728 1000000 4097 4096 1; do
		register -$_b || not_ok "$_b bytes are taken back"
	done
	same 'all is taken back' "$(kept Registered)" 0
	same 'and the watermarks are what they were' "$(min_pages)" "$BEFORE"
	register 8192
	rmmod registrar
	same 'what is left goes with the module' "$(kept Registered) $(min_pages)" "0 $BEFORE"
}
