# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='data of a lost connection reaches the server after its replay and a newer write: fenced off, or it would win'
servers='nbswap nbd-server nbdkit'
mem=256
boot=shared
programs=iohammer
modules=loop
timeout=200

PROXY=11200

prepare() {
	disk "$WORK/raw" 16M
	serve raw "$WORK/raw"
	_s=$WORK/server/proxy
	mkdir -p "$_s"
	echo $PROXY > "$_s/port"
	echo "/usr/bin/python3 '$STRESS/proxy.py' $HOST4 $PROXY $HOST4 $PORT" > "$_s/command"
	server_up proxy
}

# order COMMAND...: to the proxy; what it answers
order() {
	echo "$@" | nc "$HOST4" $PROXY -w 20
}

through() {
	nbd-client "$HOST4" $((PROXY + 1)) /dev/nb0 -N raw "$@" | sed 's/^/# /'
}

# block FILE: write it to the first 64 KiB, past every cache
block() {
	dd if="$1" of=/dev/nb0 bs=64k count=1 oflag=direct conv=notrunc 2> /dev/null
}

# stale NAME HOW [DELAY]: the old connection's write of "old" is kept, its replay and "new"
# follow; FOUND is what is there after the proxy has let the first one go, RELEASED
# what became of that
stale() {
	block /tmp/zero
	# shellcheck disable=SC2086 # one word or none
	order hold "$2" 0 ${3:-} > /dev/null
	check "$1: the write of the lost connection is sent again" block /tmp/old
	check "$1: and another over it" block /tmp/new
	RELEASED=$(order release)
	dd if=/dev/nb0 of=/tmp/found bs=64k count=1 iflag=direct 2> /dev/null
	FOUND=neither
	! cmp -s /tmp/found /tmp/old || FOUND=old
	! cmp -s /tmp/found /tmp/new || FOUND=new
	nbd-client status nb0 --json > /tmp/status
	FENCE=$(sed -n 's/.*"fence": *"\([^"]*\)".*/\1/p' /tmp/status | head -n 1)
}

# tally NAME: so many writes that were kept are that: held, written, lost
tally() {
	order tally > /tmp/tally
	sed "s/.*$1=\([0-9]*\).*/\1/" /tmp/tally
}

# What was kept has all been released
settled() {
	[ "$(tally held)" = $(($(tally written) + $(tally lost))) ]
}

# The server ends the old connection before it serves the new one
with_session() {
	order option on > /dev/null
	through
	for _how in whole half; do
		stale "session, $_how" $_how
		same "session, $_how: the server took nothing more from the old connection" "$RELEASED" lost
		same "session, $_how: the newer data stands" "$FOUND" new
		same "session, $_how: the status says what the order rests on" "$FENCE" session
	done
	order storm 0.5 0.5 > /dev/null
	if iohammer -n 4 -t 20 /dev/nb0 > /tmp/hammer; then
		ok 'session: every read returns what was written, losing a connection again and again'
	else
		not_ok 'session: every read returns what was written, losing a connection again and again'
	fi
	order storm 0 0 > /dev/null
	grep -E '^# (iohammer|metric)' /tmp/hammer || :
	until_true 40 settled
	note "digest $(sed -n 's/^digest //p' /tmp/hammer)"
	say settled
	await compared
	note "tally $(cat /tmp/tally)"
	check 'disconnect' nbd-client -d /dev/nb0
}

# Without it, and without a pause: what is prevented must be seen here
without_fence() {
	order option off > /dev/null
	through -fence-delay 0
	for _how in whole half; do
		stale "no fence, $_how" $_how
		same "no fence, $_how: the server took it" "$RELEASED" written
		same "no fence, $_how: the older data wins: this is what the session prevents" "$FOUND" old
	done
	check 'disconnect' nbd-client -d /dev/nb0
}

# Without it, with a pause longer than the old data take
with_delay() {
	order option off > /dev/null
	through -fence-delay 3s
	for _how in whole half; do
		_written=$(tally written)
		stale "delay, $_how" $_how 0.5
		same "delay, $_how: the server took the old data in the meantime" "$(tally written)" $((_written + 1))
		same "delay, $_how: the newer data stands" "$FOUND" new
		same "delay, $_how: the status says what the order rests on" "$FENCE" delay
	done
	check 'disconnect' nbd-client -d /dev/nb0
}

guest() {
	dd if=/dev/zero of=/tmp/zero bs=64k count=1 2> /dev/null
	tr '\0' O < /tmp/zero > /tmp/old
	tr '\0' N < /tmp/zero > /tmp/new
	[ "$SERVER" != nbswap ] || with_session
	without_fence
	with_delay
}

host() {
	[ "$SERVER" = nbswap ] || return 0
	report_wait '^say settled' "$FROM" 150 || return 0
	check 'session: the raw file holds it when all that was kept has been let go' \
		"$TOP/build/stress/bin/iohammer" -n 4 \
		-c "$(report_since "$FROM" | sed -n 's/^# digest //p')" "$WORK/raw"
	vm_say 'go compared'
}

after() {
	[ "$SERVER" = nbswap ] || return 0
	_tally=$(report_since "$FROM" | sed -n 's/^# tally //p')
	_held=$(echo "$_tally" | sed 's/.*held=\([0-9]*\).*/\1/')
	[ -n "$_held" ] || return 0
	_lost=$(echo "$_tally" | sed 's/.*lost=\([0-9]*\).*/\1/')
	metric "writes_held=$_held"
	check 'at least five connections were lost with a write' test "${_held:-0}" -ge 5
	same_on_host "$_held" "$_lost"
}

same_on_host() {
	if [ "$1" = "$2" ]; then
		ok 'not one of them was taken after its connection was lost'
	else
		not_ok "of $1 writes that were held $2 were not taken"
	fi
}
