# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC1091,SC2034,SC2154
. "${STRESS:-}/scenarios/outage-200s.sh"
uses=outage-200s
desc='the same for 20 minutes'
manual=y
OUTAGE=1200
PATIENCE=3600
timeout=$((OUTAGE + 300))
[ "${DRIVER:-}" = mainline ] || params="oom_patience=$PATIENCE"
