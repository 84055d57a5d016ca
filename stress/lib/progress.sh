# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
#
# Does memhog get on?  And the verdict on a negative control.

# moved N: memhog has touched more pages than N
moved() {
	_p=$(live pages)
	[ "${_p:-0}" -gt "$1" ]
}

# progress SECONDS TEXT: memhog touches 200 pages more within SECONDS; RECOVERED
# is how many seconds that took
progress() {
	_before=$(live pages)
	_began=$(date +%s)
	if until_true "$1" moved $((${_before:-0} + 200)); then
		RECOVERED=$(($(date +%s) - _began))
		ok "$2"
	else
		RECOVERED=$1
		not_ok "$2"
	fi
}

# is_swapping MB: memhog's pages in swap
is_swapping() {
	_mb=$(live used_mb)
	[ "${_mb:-0}" -ge "$1" ] || ! vm_alive
}

# swapping [MB]: wait until the guest has said so and as much (20) is in swap
swapping() {
	report_wait '^say swapping' "$FROM" 60 && until_true 90 is_swapping "${1:-20}" && vm_alive
}

# hog_enough: tell the guest part that it has run long enough, once all memory has
# been filled
hog_enough() {
	! vm_alive || report_wait '^# live .*filled=1' "$FROM" 150 || not_ok 'memory is filled'
	hog_over
}

# pages_in SECONDS: how many pages memhog touches in that time
pages_in() {
	_p0=$(live pages)
	sleep "$1"
	_p1=$(live pages)
	echo $((${_p1:-0} - ${_p0:-0}))
}

# finding WHO must|may [SYMPTOM]: what guest and host reported is no failure but a
# finding about WHO, who must fail, or the scenario proves nothing; or who may, and
# what comes of it is recorded.  SYMPTOM: a failure the scenario has seen itself.
finding() {
	report_since "$FROM" | sed -E "s/^((not )?ok )/# $1: \\1/" > "$RUN/finding"
	truncate -s "$FROM" "$REPORT"
	cat "$RUN/finding" >> "$REPORT"
	_seen=${3:+, $3}
	for _what in 'I/O error' '-error on swap' 'Kernel panic' 'Out of memory' 'blocked for more'; do
		! console_has "$_what" || _seen="$_seen, $_what"
	done
	! grep -qE '^# live .* sigbus=[1-9]' "$RUN/finding" || _seen="$_seen, SIGBUS"
	! grep -qE '^# (live|metric) .*bad(_pages)?=[1-9]' "$RUN/finding" || _seen="$_seen, bad pages"
	! grep -qE '^# (guest: |memhog: not one page)' "$RUN/finding" || _seen="$_seen, hang"
	rm -f "$RUN/finding"
	case $2-$_seen in
	*-) metric "survived=1" ;;
	*) metric "survived=0" ;;
	esac
	case $2-$_seen in
	must-) not_ok "$1 fails as expected: it did not fail, so the scenario proves nothing" ;;
	must-*) ok "$1 fails as expected: ${_seen#, }" ;;
	may-) ok "$1 gets through" ;;
	may-*) ok "$1 does not get through, which is recorded: ${_seen#, }" ;;
	esac
}

# control_ends: is this the reference driver?  Once it has failed there is nothing
# to wait for
control_ends() {
	[ "$DRIVER" = mainline ] || return 1
	! until_true 20 console_has 'I/O error|-error on swap|Kernel panic' || vm_kill
}

# control_verdict must|may [SYMPTOM]: the same about the reference driver, if it runs
control_verdict() {
	[ "$DRIVER" = mainline ] || return 0
	report_since "$FROM" | grep -q '^# live ' || _never=y
	finding mainline "$@"
	# A control that never came to swap shows nothing
	[ -z "${_never:-}" ] || not_ok 'memhog ran'
}
