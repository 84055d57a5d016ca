# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2154
#
# NBD servers outside the guest, in the run's namespace.  Each serves one file
# as one export on one port and can be killed and started again.  A server is a
# directory $WORK/server/EXPORT with its start command, process id and log.

# A file of SIZE (K, M, G) that occupies nothing yet
disk() {
	rm -f "$1"
	truncate -s "$2" "$1"
}

# server_define EXPORT FILE PORT [CONFIG-LINE...]: write the start command.
# EXPORT@TAG is one more server of the same export.
server_define() {
	_s=$WORK/server/$1
	mkdir -p "$_s"
	_export=${1%@*} _file=$2 _port=$3
	shift 3
	echo "$_port" > "$_s/port"
	: > "$_s/config"
	case $SERVER in
	nbswap | nbd-server)
		{
			printf '[generic]\nport = %s\nallowlist = true\n' "$_port"
			printf '[%s]\nexportname = %s\nflush = true\nfua = true\ntrim = true\n' \
				"$_export" "$_file"
			[ $# = 0 ] || printf '%s\n' "$@"
		} > "$_s/config"
		;;
	esac
	case $SERVER in
	nbswap) echo "'$TOP/build/bin/nbd-server' -n -C '$_s/config'" ;;
	nbd-server) echo "/usr/bin/nbd-server -C '$_s/config' -p '$_s/daemon.pid'" ;;
	nbdkit) echo "nbdkit -f -p $_port file '$_file'" ;;
	qemu-nbd) echo "qemu-nbd -t -f raw -x '$_export' -p $_port -e 32 --discard=unmap '$_file'" ;;
	esac > "$_s/command"
}

listening() {
	[ -n "$(ip netns exec "$NS" ss -Hltn "sport = :$1")" ]
}

# server_up EXPORT: start a defined server and wait until it listens
server_up() {
	_s=$WORK/server/$1
	rm -f "$_s/daemon.pid"
	# A session of its own, so that what it forks dies with it
	setsid ip netns exec "$NS" sh -c "exec $(cat "$_s/command")" >> "$_s/log" 2>&1 < /dev/null &
	echo $! > "$_s/pid"
	_n=0
	until listening "$(cat "$_s/port")"; do
		_n=$((_n + 1))
		if [ $_n -gt 100 ]; then
			not_ok "server of export '$1' does not listen"
			sed 's/^/#   /' "$_s/log" >> "$REPORT"
			return 1
		fi
		sleep 0.1
	done
	# Debian's nbd-server goes into the background by itself
	! grep -q daemon.pid "$_s/command" || until_true 10 test -s "$_s/daemon.pid"
	[ ! -s "$_s/daemon.pid" ] || cp "$_s/daemon.pid" "$_s/pid"
}

# serve EXPORT FILE [PORT [CONFIG-LINE...]]
serve() {
	_port=${3:-$PORT}
	_e=$1 _f=$2
	shift 2
	[ $# = 0 ] || shift
	server_define "$_e" "$_f" "$_port" "$@"
	server_up "$_e"
}

# server_signal EXPORT SIGNAL: to the server and all it forked
server_signal() {
	_pid=$(cat "$WORK/server/$1/pid" 2> /dev/null) || return 0
	kill -s "$2" -- "-$_pid" 2> /dev/null || kill -s "$2" "$_pid" 2> /dev/null || :
}

# server_kill EXPORT: as a crash would, and wait until it is gone
server_kill() {
	server_signal "$1" KILL
	until_true 5 server_gone "$1" || :
}

server_gone() {
	_pid=$(cat "$WORK/server/$1/pid" 2> /dev/null) || return 0
	! kill -s 0 -- "-$_pid" 2> /dev/null
}

# server_stop EXPORT: orderly
server_stop() {
	server_signal "$1" TERM
	until_true 5 server_gone "$1" || server_kill "$1"
	rm -rf "$WORK/server/$1"
}

servers_stop() {
	for _d in "$WORK"/server/*; do
		[ ! -f "$_d/pid" ] || server_kill "${_d##*/}"
	done
	rm -rf "$WORK/server"
}
