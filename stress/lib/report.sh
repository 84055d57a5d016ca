# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
#
# The report of a boot: one file to which guest and host append their lines.
# `ok TEXT`, `not ok TEXT`, `# TEXT`, `# metric NAME=VALUE`; the rest of what
# the guest sends (ready, say WORD, end NAME STATUS) only synchronises.

# A guest that is slow on purpose (a debug kernel) gets so many times as long
SLOW=${NBSWAP_SLOW:-1}

# What the kernel must never say, whoever made it say so
ALARM='WARNING:|BUG:|Oops|Kernel panic|general protection|kernel BUG at|INFO: lockdep|DEBUG_LOCKS|inconsistent lock|INFO: task .* blocked for more|hung task|INFO: rcu|soft lockup|refcount_t|KASAN|UBSAN|ODEBUG|kmemleak: [1-9]|list_(add|del) corruption|suspicious RCU|INFO: trying|possible (circular|recursive) locking|Unexpected reply|I/O error|Write-error on swap|Read-error on swap|Out of memory|oom-kill|page allocation failure|segfault at|trap .* ip:'

ok() {
	echo "ok $*" >> "$REPORT"
}

not_ok() {
	echo "not ok $*" >> "$REPORT"
}

note() {
	echo "# $*" >> "$REPORT"
}

metric() {
	echo "# metric $1" >> "$REPORT"
}

# check TEXT COMMAND...
check() {
	_text=$1
	shift
	if "$@" > "$RUN/out" 2>&1; then
		ok "$_text"
	else
		not_ok "$_text"
		note "'$*' failed:"
		sed 's/^/#   /' "$RUN/out" >> "$REPORT"
	fi
}

# now_s: seconds since the host has booted, in NOW_S; makes no process, since what is
# asked ten times a second would take the guest's time
now_s() {
	read -r NOW_S _ < /proc/uptime
	NOW_S=${NOW_S%.*}
}

# until_true SECONDS COMMAND...
until_true() {
	now_s
	_end=$((NOW_S + $1 * SLOW))
	shift
	until "$@"; do
		now_s
		[ "$NOW_S" -lt $_end ] || return 1
		sleep 0.1
	done
}

report_size() {
	stat -c %s "$REPORT"
}

# report_since FROM: the complete lines after byte FROM
report_since() {
	tail -c "+$(($1 + 1))" "$REPORT" | tr -d '\r'
}

# reported LINE: the scenario under way has, in just these words
reported() {
	report_since "$FROM" | grep -qxF -e "$1"
}

# report_wait PATTERN FROM SECONDS: 0 it came, 1 the guest died or time is up,
# 2 the guest fell silent
report_wait() {
	now_s
	_until=$((NOW_S + $3 * SLOW))
	_heard=$NOW_S _size=
	while :; do
		_had=$_size
		_size=$(report_size)
		now_s
		if [ "$_size" != "$_had" ]; then
			! report_since "$2" | grep -qE -e "$1" || return 0
			_heard=$NOW_S
		fi
		if ! vm_alive; then
			sleep 0.5
			report_since "$2" | grep -qE -e "$1" && return 0
			return 1
		fi
		[ "$NOW_S" -lt $_until ] || return 1
		[ $((NOW_S - _heard)) -lt $((SILENCE * SLOW)) ] || return 2
		sleep 0.2
	done
}

# The newest `# live` value of NAME in this scenario
live() {
	_new=$(($(report_size) - FROM))
	[ $_new -lt 4000 ] || _new=4000
	tail -c $_new "$REPORT" | sed -n "/^# live .* $1=\([0-9]*\).*/ { s//\1/; h; }; \$ { x; p; }"
}

verbose_start() {
	: >> "$RUN/report.log"
	: >> "$RUN/console.log"
	tail -n +1 -q -F "$RUN/report.log" "$RUN/console.log" >&2 2> /dev/null &
	TAIL_PID=$!
}

# print_tap SCENARIO: report lines on stdin to numbered TAP, results kept for JSON
print_tap() {
	awk -v name="$1" -v n="$NUMBER" -v run="$RUN_NUMBER" -v results="$RESULTS" '
	/^(not )?ok / {
		bad = /^not /
		sub(/^(not )?ok (- )?/, "")
		n++
		if (bad) failed++
		print (bad ? "not " : "") "ok " n " - " name ": " $0
		print "check\t" name "\t" run "\t" (bad ? 0 : 1) "\t" $0 >> results
		next
	}
	/^# metric / {
		print
		split(substr($0, 10), kv, "=")
		print "metric\t" name "\t" run "\t" kv[1] "\t" kv[2] >> results
		next
	}
	/^# (beat|live |probe )/ { next }
	/^#/ { print }
	END { print "count\t" n "\t" failed + 0 >> results }'
	_count=$(grep '^count' "$RESULTS" | tail -n 1)
	NUMBER=$(echo "$_count" | cut -f2)
	FAILED=$((FAILED + $(echo "$_count" | cut -f3)))
}

# A scenario as a whole, as run_one leaves it in the results
scenario_result() {
	printf 'scenario\t%s\t%s\t%s\t%s\n' "$1" "$RUN_NUMBER" "$2" "$GROUP_MEM" >> "$RESULTS"
}

# The commit under test, and whether the tree differs from it
commit() {
	git -C "$TOP" rev-parse --short=12 HEAD 2> /dev/null || echo unknown
}

modified() {
	[ -z "$(git -C "$TOP" status --porcelain -uno 2> /dev/null)" ] && echo false || echo true
}

# One object: the run, its scenarios, their checks and metrics
write_json() {
	awk -F '\t' -v series="$(basename "$KERNEL")" -v kernel="$release" -v driver="$DRIVER" -v nic="$NIC" \
		-v server="$SERVER" -v accel="$ACCEL" -v slow="$SLOW" -v seed="$NBSWAP_SEED" \
		-v commit="$(commit)" -v modified="$(modified)" \
		-v started="$STARTED" -v date="$(date -u +%Y-%m-%dT%H:%M:%SZ)" '
	function str(s) {
		gsub(/\\/, "\\\\", s)
		gsub(/"/, "\\\"", s)
		gsub(/[[:cntrl:]]/, " ", s)
		return "\"" s "\""
	}
	function num(s) { return s ~ /^-?(0|[1-9][0-9]*)(\.[0-9]+)?$/ ? s : str(s) }
	function add(list, item) { return list (list == "" ? "" : ", ") item }
	{ key = $2 SUBSEP $3 }
	$1 == "check" {
		c[key] = add(c[key], "{\"ok\": " ($4 ? "true" : "false") ", \"text\": " str($5) "}")
		if (!$4) bad[key] = 1
	}
	$1 == "metric" { m[key] = add(m[key], str($4) ": " num($5)) }
	$1 == "scenario" { order[++k] = key; name[key] = $2; run[key] = $3; secs[key] = $4; mem[key] = $5 }
	END {
		printf "{\n  \"started\": %s, \"date\": %s,\n", str(started), str(date)
		printf "  \"commit\": %s, \"modified\": %s,\n", str(commit), modified
		printf "  \"series\": %s, \"kernel\": %s, \"driver\": %s, \"nic\": %s, \"server\": %s,\n", \
			str(series), str(kernel), str(driver), str(nic), str(server)
		printf "  \"accel\": %s, \"slow\": %s, \"seed\": %s,\n", str(accel), slow, num(seed)
		printf "  \"scenarios\": ["
		for (i = 1; i <= k; i++) {
			s = order[i]
			printf "%s\n    {\"scenario\": %s, \"run\": %s, \"result\": %s, \"seconds\": %s, \"mem_mb\": %s,\n", \
				(i > 1 ? "," : ""), str(name[s]), run[s], (bad[s] ? "\"fail\"" : "\"pass\""), \
				secs[s], mem[s]
			printf "     \"metrics\": {%s},\n     \"checks\": [%s]}", m[s], c[s]
		}
		printf "\n  ]\n}\n"
	}' "$RESULTS"
}

# How often each scenario passed, when there was more than one run
repeat_sum() {
	awk -F '\t' '
	$1 == "check" && !$4 { bad[$2, $3] = 1 }
	$1 == "scenario" {
		if (!runs[$2]++) order[++k] = $2
		passed[$2] += !(($2, $3) in bad)
	}
	END { for (i = 1; i <= k; i++) printf "# %s: %d of %d passed\n", order[i], passed[order[i]], runs[order[i]] }
	' "$RESULTS"
}
