# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
#
# The live line of --live: made of memhog's report once a second and of what
# the driver tells the console of its link.  On a terminal it stays in place.

live_start() {
	: >> "$RUN/report.log"
	: >> "$RUN/console.log"
	tail --pid=$$ -n 0 -q -F "$RUN/report.log" "$RUN/console.log" 2> /dev/null | live_show >&2 &
	LIVE_PID=$!
}

live_line() {
	_text=$(printf '%4s s  swap %4s MB  in %5s/s  out %5s/s  link %-4s  worst fault %6s ms  bad pages %s' \
		"$_t" "$_used" "$_in" "$_out" "$_link" "$_worst" "$_bad")
	if [ -t 2 ]; then
		printf '\r%s\033[K' "$_text"
	else
		printf '%s\n' "$_text"
	fi
}

live_event() {
	[ ! -t 2 ] || printf '\r\033[K'
	printf '%4s s  -- %s\n' "${_t:-0}" "$1"
}

live_show() {
	_t=0 _link=up
	while read -r _line; do
		case $_line in
		'# live '*)
			for _kv in $_line; do
				case $_kv in
				t=*) _t=${_kv#*=} ;;
				used_mb=*) _used=${_kv#*=} ;;
				swapin=*) _in=${_kv#*=} ;;
				swapout=*) _out=${_kv#*=} ;;
				worst_ms=*) _worst=${_kv#*=} ;;
				bad=*) _bad=${_kv#*=} ;;
				esac
			done
			live_line
			;;
		*': link '*' lost'*)
			_link=DOWN
			live_event "driver: ${_line#*] }"
			;;
		*': link '*' is back'*)
			_link=up
			live_event "driver: ${_line#*] }"
			;;
		'# event '*) live_event "${_line#\# event }" ;;
		esac
	done
}
