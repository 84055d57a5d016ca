# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='a server that lies, stalls and babbles costs a link and a message, nothing more'
boot=shared
mem=256
servers=nbswap
modules=loop
timeout=300
# What a server can make the driver say of it
expect='I/O error'

HOSTILE=11000

prepare() {
	_s=$WORK/server/hostile
	mkdir -p "$_s"
	echo $HOSTILE > "$_s/port"
	echo "/usr/bin/python3 '$STRESS/hostile.py' $HOST4 $HOSTILE" > "$_s/command"
	server_up hostile
}

# mode SLOT MODE [ARGUMENT]
mode() {
	[ "$(echo "$@" | nc "$HOST4" $HOSTILE -w 5)" = ok ]
}

# attempt SLOT MODE: connecting must fail by itself, in time and with a sentence
attempt() {
	_t0=$(uptime_s)
	_rc=0
	nbd-client "$HOST4" $((HOSTILE + 1 + $1)) "/dev/nb$1" -connect-timeout 1000ms \
		> "/tmp/attempt.$1" 2>&1 || _rc=$?
	_ms=$(echo "$_t0 $(uptime_s)" | awk '{ printf "%d", ($2 - $1) * 1000 }')
	case $_rc in
	[1-8]) ;;
	*) echo "$2: status $_rc: $(cat "/tmp/attempt.$1")" ;;
	esac >> /tmp/wrong
	[ "$_ms" -lt $((8000 * SLOW)) ] || echo "$2: took $_ms ms" >> /tmp/wrong
	grep -q . "/tmp/attempt.$1" || echo "$2: says nothing" >> /tmp/wrong
	! grep -q '[^[:print:]]' "/tmp/attempt.$1" || echo "$2: control characters in the message" >> /tmp/wrong
	if [ -e "/sys/block/nb$1/pid" ]; then
		echo "$2: left the device configured" >> /tmp/wrong
		nbd-client -d "/dev/nb$1" -force > /dev/null 2>&1 || :
	fi
}

verdict() {
	if [ -s /tmp/wrong ]; then
		not_ok "$1"
		sed 's/^/#   /' /tmp/wrong
	else
		ok "$1"
	fi
	: > /tmp/wrong
}

# every_byte MODE: the good handshake has 104 bytes; stop after each of them
every_byte() {
	_n=0
	while [ $_n -lt 104 ]; do
		for _slot in 0 1 2 3 4 5 6 7; do
			mode $_slot "$1" $((_n + _slot)) || echo "cannot set $1" >> /tmp/wrong
			attempt $_slot "$1 $((_n + _slot))" &
			_pids="${_pids:-} $!"
		done
		# shellcheck disable=SC2086 # a list of words
		wait $_pids
		_pids=
		_n=$((_n + 8))
	done
	verdict "handshake ends after any byte: $1"
}

bad_handshakes() {
	for _h in "$@"; do
		mode 0 hand "$_h" || echo "cannot set $_h" >> /tmp/wrong
		attempt 0 "$_h"
		note "$_h: $(head -n 1 /tmp/attempt.0)"
		verdict "handshake: $_h"
	done
}

# What a careful client may accept: no crash, and if it connects, it disconnects
odd_handshakes() {
	for _h in "$@"; do
		mode 0 hand "$_h"
		check "handshake: $_h comes to an end" timeout $((20 * SLOW)) sh -c \
			"nbd-client $HOST4 $((HOSTILE + 1)) /dev/nb0 -connect-timeout 1000ms -t 1; true"
		nbd-client -d /dev/nb0 -force > /dev/null 2>&1 || :
		check "handshake: $_h leaves nothing" until_true 5 test ! -e /sys/block/nb0/pid
	done
}

# A fault in a reply: the data must be right all the same, over a new link
live_faults() {
	for _f in "$@"; do
		mode 1 live "$_f" || echo "cannot set $_f" >> /tmp/wrong
		nbd-client "$HOST4" $((HOSTILE + 2)) /dev/nb1 -t 3 > /tmp/out 2>&1 ||
			cat /tmp/out >> /tmp/wrong
		timeout $((30 * SLOW)) dd if=/dev/nb1 bs=64k iflag=direct 2> /tmp/dd | md5sum > /tmp/sum
		[ "$(cut -c1-32 /tmp/sum)" = "$WANTED" ] || {
			echo "$_f: wrong data, $(cat /tmp/sum)" >> /tmp/wrong
			cat /tmp/dd >> /tmp/wrong
		}
		nbd-client status nb1 --json > /tmp/status
		_losses=$(sed -n 's/.*"losses": *\([0-9]*\).*/\1/p' /tmp/status | head -n 1)
		case $_f in
		split) [ "$_losses" = 0 ] || echo "$_f: link lost" >> /tmp/wrong ;;
		*) [ "$_losses" -ge 1 ] || echo "$_f: no link lost" >> /tmp/wrong ;;
		esac
		nbd-client -d /dev/nb1 > /tmp/out 2>&1 || cat /tmp/out >> /tmp/wrong
		verdict "live link: $_f"
	done
}

guest() {
	: > /tmp/wrong
	mode 1 live none
	nbd-client "$HOST4" $((HOSTILE + 2)) /dev/nb1 > /dev/null
	WANTED=$(md5sum < /dev/nb1 | cut -c1-32)
	nbd-client -d /dev/nb1 > /dev/null
	every_byte cut
	every_byte silent
	mode 0 drip
	attempt 0 drip
	verdict 'handshake: a byte now and then'
	bad_handshakes wrong-magic oldstyle no-newstyle garbage text reply-magic other-option \
		reply-garbage huge-reply huge-error huge-info endless-info endless-unknown-info \
		endless-server ack-only short-export block-3 block-0 block-64k \
		tls-required unknown-export nasty-text unknown-error
	odd_handshakes size-zero no-has-flags ack-with-data empty-info long-export short-block size-max size-odd preferred-0 \
		payload-512 unsup-then-close
	live_faults split magic unknown-cookie cookie-zero cookie-max twice structured garbage \
		zeros longer shorter short-then-next stall header-stall no-reply reset
	mode 2 live none
	check 'a good server is served after all that' sh -c \
		"nbd-client $HOST4 $((HOSTILE + 3)) /dev/nb2 && nbd-client -d /dev/nb2"
}
