# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
#
# A network namespace of the run's own, with a tap device for the guest.  The
# server and QEMU run in it; nothing of it touches the machine's network.

HOST4=10.77.0.1
GUEST4=10.77.0.2
HOST6=fd77::1
GUEST6=fd77::2
PORT=10809

net_up() {
	NS=nbswap-$$
	ip netns add "$NS" || die "cannot make network namespace $NS: run as root"
	ip -n "$NS" link set lo up
	ip -n "$NS" tuntap add mode tap name tap0
	ip netns exec "$NS" sysctl -qw net.ipv6.conf.tap0.accept_dad=0 2> /dev/null || :
	ip -n "$NS" addr add $HOST4/24 dev tap0
	ip -n "$NS" addr add $HOST6/64 dev tap0 nodad
	ip -n "$NS" link set tap0 up
}

net_down() {
	# Nothing of the run's own may outlive its namespace
	[ -z "${NS:-}" ] || ip netns pids "$NS" 2> /dev/null | while read -r _pid; do
		kill -KILL "$_pid" 2> /dev/null || :
	done
	[ -z "${NS:-}" ] || ip netns del "$NS" 2> /dev/null || :
	NS=
}

# in_ns COMMAND...: run in the namespace, replacing nothing
in_ns() {
	ip netns exec "$NS" "$@"
}

# link_down, link_up: the host's end of the cable.  IPv4 addresses stay; those of
# IPv6 go with the link.
link_down() {
	ip -n "$NS" link set tap0 down
}

link_up() {
	ip -n "$NS" link set tap0 up
	ip -n "$NS" addr replace $HOST6/64 dev tap0 nodad
}

# The bad wire of a scenario with relay=y: a guest's frames pass stress/src/netem.c
relay_prepare() {
	rm -f "$RUN/netem.in"
	mkfifo "$RUN/netem.in"
	# Frames of a socket pair are datagrams, of which only ten may wait by default
	in_ns sysctl -qw net.unix.max_dgram_qlen=1000
}

# netem SETTING: `clear`, `blackhole`, or any of `loss P`, `delay MS`, `reorder P`,
# `duplicate P`.  NETEM_SAYS is what became of the frames under the setting before.
netem() {
	_lines=$(wc -l < "$RUN/qemu.log")
	printf '%s\n' "$1" 1<> "$RUN/netem.in"
	until_true 5 netem_answered || {
		not_ok "the relay takes the setting '$1'"
		return 0
	}
	NETEM_SAYS=$(tail -n 1 "$RUN/qemu.log")
	case $NETEM_SAYS in
	*': frames='*) note "wire: $NETEM_SAYS" ;;
	*) not_ok "the relay takes the setting '$1': $NETEM_SAYS" ;;
	esac
}

netem_answered() {
	[ "$(wc -l < "$RUN/qemu.log")" -gt "$_lines" ]
}

# netem_count NAME: of frames, lost, doubled, reordered in NETEM_SAYS
netem_count() {
	echo "$NETEM_SAYS" | sed -n "s/.* $1=\([0-9]*\).*/\1/p"
}
