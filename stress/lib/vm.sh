# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
#
# The virtual machine.  Its console, its control line and QEMU's monitor are
# pipes; what comes out of each is appended to a file, so that waiting is
# looking into a file and can never block.

# pipe NAME LOG: NAME.in and NAME.out for QEMU; what comes out goes to LOG.
# QEMU holds both ends open, so the copier ends when QEMU does.
vm_pipe() {
	rm -f "$1.in" "$1.out"
	mkfifo "$1.in" "$1.out"
	cat "$1.out" >> "$2" &
	echo $! >> "$RUN/vm.pids"
}

vm_nic() {
	case $NIC in
	virtio) echo "virtio-net-pci,netdev=n0,romfile=" ;;
	*) echo "$NIC,netdev=n0,romfile=" ;;
	esac
}

# vm_boot MEM INITRAMFS CONSOLE-LOG: until the guest says ready
vm_boot() {
	: > "$RUN/vm.pids"
	VM_CONSOLE=$3
	: >> "$REPORT"
	: >> "$VM_CONSOLE"
	vm_pipe "$RUN/console" "$VM_CONSOLE"
	vm_pipe "$RUN/control" "$REPORT"
	vm_pipe "$RUN/monitor" "$RUN/monitor.log"
	_wire='' _netdev=tap,id=n0,ifname=tap0,script=no,downscript=no
	if [ -n "$GROUP_RELAY" ]; then
		relay_prepare
		_wire="$TOP/build/stress/bin/netem tap0 $RUN/netem.in $((NBSWAP_SEED + RUN_NUMBER - 1)) 30"
		_netdev=dgram,id=n0,local.type=fd,local.str=30
	fi
	_from=$(report_size)
	_cpu=qemu64
	[ "$ACCEL" = kvm ] && _cpu=host
	# The kernel patches itself while it boots, and emulation may run into text
	# that another CPU is patching (Oops: int3): /init starts the second CPU
	[ "$ACCEL" = tcg ] && _accel=tcg,thread=multi || _accel=$ACCEL
	# shellcheck disable=SC2086 # none or several words
	ip netns exec "$NS" $_wire qemu-system-x86_64 -M q35 -accel "$_accel" -cpu "$_cpu" -smp 2 -m "$1" \
		-nodefaults -no-user-config -display none -no-reboot \
		-kernel "$image" -initrd "$2" \
		-append "console=ttyS0 loglevel=8 panic=1 mitigations=off maxcpus=1 rcupdate.rcu_cpu_stall_timeout=60 slub_debug=- ${VM_APPEND:-}" \
		-chardev "pipe,id=con,path=$RUN/console" -serial chardev:con \
		-chardev "pipe,id=ctl,path=$RUN/control" -serial chardev:ctl \
		-chardev "pipe,id=mon,path=$RUN/monitor" -mon chardev=mon,mode=readline \
		-netdev "$_netdev" -device "$(vm_nic)" \
		-object rng-random,id=r0,filename=/dev/urandom -device virtio-rng-pci,rng=r0 \
		> "$RUN/qemu.log" 2>&1 < /dev/null &
	VM_PID=$!
	echo $VM_PID > "$RUN/vm.pid"
	if ! report_wait '^ready' "$_from" "$BOOT_TIMEOUT"; then
		cat "$RUN/qemu.log" >&2
		return 1
	fi
	echo "# metric boot_s=$(($(date +%s) - VM_START))" >> "$REPORT"
}

vm_alive() {
	[ -s "$RUN/vm.pid" ] && read -r _vm < "$RUN/vm.pid" && kill -0 "$_vm" 2> /dev/null
}

# vm_say LINE: to the guest; a dead guest does not stop us
vm_say() {
	! vm_alive || printf '%s\n' "$1" 1<> "$RUN/control.in"
}

vm_monitor() {
	! vm_alive || printf '%s\n' "$1" 1<> "$RUN/monitor.in"
}

# vm_sysrq KEY: a break on the console, then the key
vm_sysrq() {
	vm_alive || return 0
	vm_monitor 'chardev-send-break con'
	sleep 0.3
	printf '%s' "$1" 1<> "$RUN/console.in"
	sleep 3
}

# What the guest's kernel was doing when it stopped answering
vm_autopsy() {
	vm_alive || return 0
	note "no answer: asking the kernel for its memory and its tasks (see the console log)"
	for _key in m w t l; do
		vm_sysrq $_key
	done
	vm_monitor 'info registers -a'
}

# vm_quit: power off; kill what does not
vm_quit() {
	vm_say quit
	until_true 15 vm_dead || vm_kill
	wait "$(cat "$RUN/vm.pid" 2> /dev/null)" 2> /dev/null || :
	rm -f "$RUN/vm.pid"
}

vm_dead() {
	! vm_alive
}

vm_kill() {
	[ ! -s "$RUN/vm.pid" ] || kill -KILL "$(cat "$RUN/vm.pid")" 2> /dev/null || :
}

# For the way out: nothing may be left
vm_end() {
	vm_kill
	while read -r _pid; do
		kill "$_pid" 2> /dev/null || :
	done < "$RUN/vm.pids"
}
