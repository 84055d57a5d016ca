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
	[ -z "${NS:-}" ] || ip netns del "$NS" 2> /dev/null || :
	NS=
}

# in_ns COMMAND...: run in the namespace, replacing nothing
in_ns() {
	ip netns exec "$NS" "$@"
}
