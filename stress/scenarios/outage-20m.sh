# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC1091,SC2034,SC2154
. "${STRESS:-}/scenarios/outage-200s.sh"
uses=outage-200s
desc='the same for 20 minutes'
manual=y
OUTAGE=1200
timeout=$((OUTAGE + 300))
# More patience than the default of 600 s
[ "${DRIVER:-}" = mainline ] || params=oom_patience=3600
