# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2154
#
# The guest's whole userland: busybox, the client with its libraries, the
# workloads, the modules in the order in which they load.

# put FILE [DIRECTORY]: a program and the libraries it needs
put() {
	install -D -m 755 "$1" "$ROOT${2:-/bin}/${1##*/}"
	ldd "$1" 2> /dev/null | grep -o '/[^ ]*' | while read -r _lib; do
		[ -e "$ROOT$_lib" ] || install -D -m 755 "$_lib" "$ROOT$_lib"
	done
}

# put_ko FILE [ARGS...]: a module, uncompressed, and its line in the load order
put_ko() {
	_ko=${1##*/}
	_ko=${_ko%.xz}
	[ ! -e "$ROOT/lib/modules/$_ko" ] || return 0
	case $1 in
	*.xz) xz -dc "$1" > "$ROOT/lib/modules/$_ko" ;;
	*) cp "$1" "$ROOT/lib/modules/$_ko" ;;
	esac
	strip --strip-debug "$ROOT/lib/modules/$_ko"
	shift
	echo "$_ko $*" >> "$ROOT/etc/modules"
}

# put_module NAME [ARGS...]: one of the kernel's, with all it depends on
put_module() {
	_name=$1
	shift
	modprobe -d "$moddir" -S "$release" --show-depends "$_name" > "$RUN/depends" 2>&1 || {
		cat "$RUN/depends" >&2
		die "kernel $release has no module $_name"
	}
	while read -r _verb _path _; do
		[ "$_verb" = insmod ] || continue
		case $_path in
		*/"$_name".ko*) put_ko "$_path" "$@" ;;
		*) put_ko "$_path" ;;
		esac
	done < "$RUN/depends"
}

# put_driver [ARGS...]: nbd.ko, ours or the kernel's
put_driver() {
	if [ "$DRIVER" = mainline ]; then
		put_module nbd "$@"
		return
	fi
	_ours=$TOP/build/module/$release/nbd.ko
	for _dep in $(modinfo -F depends "$_ours" | tr ',' ' '); do
		put_module "$_dep"
	done
	put_ko "$_ours" "$@"
}

put_env() {
	cat > "$ROOT/etc/env" <<-END
		MEM_MB='$(load_mb "$GROUP_MEM")' SLOW='$SLOW' DRIVER='$DRIVER' SERVER='$SERVER' PREFIX='$PREFIX' PORT='$PORT'
		HOST4='$HOST4' GUEST4='$GUEST4' HOST6='$HOST6' GUEST6='$GUEST6'
		WBT='$(! kernel_has BLK_WBT || echo y)'
	END
}

# initramfs FILE "MODULES" "DRIVER ARGS" "PROGRAMS" SCENARIO...
initramfs() {
	_file=$1 _modules=$2 _params=$3 _programs=$4
	shift 4
	ROOT=$RUN/root
	rm -rf "$ROOT"
	mkdir -p "$ROOT/bin" "$ROOT/sbin" "$ROOT/dev" "$ROOT/proc" "$ROOT/sys" "$ROOT/tmp" \
		"$ROOT/etc" "$ROOT/lib/modules" "$ROOT/scenarios" "$ROOT/mnt" "$ROOT/var/run"
	mknod "$ROOT/dev/console" c 5 1
	: > "$ROOT/etc/modules"
	put_env
	put /usr/bin/busybox
	for _applet in $(/usr/bin/busybox --list); do
		ln -s busybox "$ROOT/bin/$_applet" 2> /dev/null || :
	done
	rm -f "$ROOT/bin/nbd-client"
	[ "$DRIVER" = mainline ] || put "$TOP/build/bin/nbd-client"
	[ "$DRIVER" != mainline ] || put /usr/sbin/nbd-client
	for _p in $_programs; do
		case $_p in
		/*) put "$_p" ;;
		*) put "$TOP/build/stress/bin/$_p" ;;
		esac
	done
	case $NIC in
	virtio) put_module virtio_pci; put_module virtio_net ;;
	*) put_module "$NIC" ;;
	esac
	for _m in $_modules; do
		put_module "$_m"
	done
	# shellcheck disable=SC2086 # a list of words
	put_driver $_params
	for _m in $GROUP_KMODS; do
		put_ko "$TOP/build/kmod/$release/$_m.ko"
	done
	install -m 755 "$STRESS/guest/init" "$ROOT/init"
	cp "$STRESS/guest/lib.sh" "$ROOT/lib/guest.sh"
	for _s in "$@"; do
		cp "$STRESS/scenarios/$_s.sh" "$ROOT/scenarios/"
	done
	(cd "$ROOT" && find . | cpio -o -H newc --quiet) > "$_file"
	rm -rf "$ROOT"
}
