# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2154
#
# Kernels of our own, for stress/kernel: built from Debian's source package and
# the configuration in stress/config.  A build is kept in the cache as
# NAME-VERSION-KEY, the key being what went into it; another key is another
# build, so trees with different fragments do not disturb each other.

# kernel_key FILE...: of what decides about a build, besides the source
kernel_key() {
	{
		cat "$@"
		gcc -dumpfullversion
	} | sha256sum | cut -c1-10
}

# kernel_newest NAME KEY: the complete build of the newest version, if any
kernel_newest() {
	for _d in "$cache/$1"-*-"$2"; do
		[ ! -f "$_d/complete" ] || echo "$_d"
	done | sort -V | tail -n 1
}

kernel_candidate() {
	apt-cache show --no-all-versions "$1" 2> /dev/null | sed -n 's/^Version: //p'
}

# kernel_lock SERIES: one build and one unpacking at a time
kernel_lock() {
	exec 9> "$cache/.lock-$1"
	flock -n 9 || {
		echo "  WAIT   another call is building a $1 kernel" >&2
		flock 9
	}
}

kernel_need_tools() {
	for _t in gcc make flex bison bc perl xz; do
		command -v $_t > /dev/null || die "building a kernel needs $_t: run make deps"
	done
	[ -f /usr/include/libelf.h ] || die "building a kernel needs libelf-dev: run make deps"
}

# kernel_source PACKAGE VERSION: unpack it, once, and set src to where it is
kernel_source() {
	src=$cache/$1-$(echo "$2" | tr ':~' '--')
	[ ! -d "$src" ] || return 0
	echo "  FETCH  $1 $2" >&2
	rm -rf "$src.new"
	mkdir -p "$src.new/deb"
	(
		cd "$src.new" || exit
		fetch "$1=$2"
		dpkg-deb --fsys-tarfile "$1"_*.deb | tar -xO "./usr/src/$1.tar.xz" |
			tar -xJ --strip-components=1
		[ -f Makefile ] || die "$1 $2 holds no kernel source: the package has changed its layout"
		rm -r "$1"_*.deb deb
	)
	mv "$src.new" "$src"
}

# Count what the kernel's makefiles report, on a terminal as it comes
kernel_progress() {
	_files=0
	_start=$(date +%s)
	while IFS= read -r _line; do
		printf '%s\n' "$_line"
		case $_line in "  "*) _files=$((_files + 1)) ;; *) continue ;; esac
		[ -t 2 ] && _every=20 || _every=500
		[ $((_files % _every)) = 0 ] || continue
		_s=$(($(date +%s) - _start))
		_text=$(printf '  BUILD  %s: %d files, %d:%02d' "$1" $_files $((_s / 60)) $((_s % 60)))
		[ -t 2 ] && printf '\r%s' "$_text" >&2 || echo "$_text" >&2
	done > "$2"
	[ ! -t 2 ] || echo >&2
}

# kernel_make DIR ARGS...: the kernel's own make, free of ours
kernel_make() {
	_o=$1/build
	shift
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u V -u B -u KDIR -u CFLAGS \
		make -C "$src" "O=$_o" "$@"
}

# kernel_configure DIR LOCALVERSION FRAGMENT...: nothing but what they ask for
kernel_configure() {
	_dir=$1
	_local=$2
	shift 2
	cat "$@" > "$_dir/build/fragments"
	echo "CONFIG_LOCALVERSION=\"$_local\"" >> "$_dir/build/fragments"
	kernel_make "$_dir" -s "KCONFIG_ALLCONFIG=$_dir/build/fragments" allnoconfig > "$_dir/config.log" 2>&1 ||
		die "configuring in $_dir failed: see $_dir/config.log"
	# An option that was renamed or lacks what it depends on is dropped in silence
	grep '^CONFIG_' "$_dir/build/fragments" | grep -vxF -f "$_dir/build/.config" > "$_dir/dropped" || :
	[ ! -s "$_dir/dropped" ] ||
		die "this kernel drops $(tr '\n' ' ' < "$_dir/dropped"): mend the fragments in stress/config"
	rm "$_dir/dropped"
}

# kernel_compile NAME DIR: image and modules
kernel_compile() {
	{
		kernel_make "$2" -j "$(nproc)" bzImage modules 2>&1 && : > "$2/compiled"
	} | kernel_progress "$1" "$2/build.log"
	[ -f "$2/compiled" ] || {
		grep -E -m5 'rror:|\*\*\*' "$2/build.log" >&2 || :
		die "building $1 failed: see $2/build.log"
	}
	kernel_make "$2" -s "INSTALL_MOD_PATH=$2" modules_install >> "$2/build.log" 2>&1 ||
		die "installing the modules of $1 under $2 failed: see $2/build.log"
	cp "$2/build/arch/x86/boot/bzImage" "$2/"
	# Modules of others need none of the objects; the symbols of vmlinux serve a reader
	find "$2/build" \( -path "$2/build/scripts" -o -path "$2/build/tools" \) -prune -o \
		\( -name '*.o' -o -name '*.a' -o -name '*.ko' -o -name '.*.cmd' \) -type f -exec rm {} +
}

# kernel_build NAME SERIES FRAGMENT...: set dir to a complete build
kernel_build() {
	_name=$1
	_package=linux-source-$2
	kernel_lock "$2"
	shift 2
	key=$(kernel_key "$@")
	dir=$(kernel_newest "$_name" "$key")
	[ -z "$dir" ] || [ -n "$update" ] || return 0
	kernel_need_tools
	_version=$(kernel_candidate "$_package")
	if [ -n "$update" ] || [ -z "$_version" ]; then
		[ "$(id -u)" != 0 ] || apt-get update -qq
		_version=$(kernel_candidate "$_package")
	fi
	[ -n "$_version" ] || die "apt knows no package $_package: check the apt sources"
	dir=$cache/$_name-$(echo "$_version" | tr ':~' '--')-$key
	[ ! -f "$dir/complete" ] || return 0
	kernel_source "$_package" "$_version"
	mkdir -p "$dir/build"
	# Its own release name: what was built for one configuration never loads in another
	kernel_configure "$dir" "-${_name%%-*}-$key" "$@"
	kernel_compile "$_name" "$dir"
	: > "$dir/complete"
}
