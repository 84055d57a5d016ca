# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2154
#
# Kernels of our own, for stress/kernel: built from Debian's source package and
# the configuration in stress/config.  A build is kept in the cache as
# NAME-VERSION-KEY, the key being what went into it; another key is another
# build, so trees with different fragments do not disturb each other.

# kernel_key FILE...: of what decides about a build, besides the source.  What the
# message of a patch says does not.
kernel_key() {
	{
		for _f in "$@"; do
			case $_f in
			*.patch) sed '/^diff --git /,$!d; /^index /d' "$_f" ;;
			*) cat "$_f" ;;
			esac
		done
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

# kernel_compile NAME DIR OUT: image and modules, built in DIR, into OUT
kernel_compile() {
	rm -f "$2/compiled"
	{
		kernel_make "$2" -j "$(nproc)" bzImage modules 2>&1 && : > "$2/compiled"
	} | kernel_progress "$1" "$3/build.log"
	[ -f "$2/compiled" ] || {
		grep -E -m5 'rror:|\*\*\*' "$3/build.log" >&2 || :
		die "building $1 failed: see $3/build.log"
	}
	kernel_make "$2" -s "INSTALL_MOD_PATH=$3" modules_install >> "$3/build.log" 2>&1 ||
		die "installing the modules of $1 under $3 failed: see $3/build.log"
	cp "$2/build/arch/x86/boot/bzImage" "$3/"
}

# kernel_trim DIR: drop the objects
kernel_trim() {
	# Modules of others need none of the objects; the symbols of vmlinux serve a reader
	find "$1/build" \( -path "$1/build/scripts" -o -path "$1/build/tools" \) -prune -o \
		\( -name '*.o' -o -name '*.a' -o -name '*.ko' -o -name '.*.cmd' \) -type f -exec rm {} +
}

# kernel_version PACKAGE: set version to what the archive has, asking it if need be
kernel_version() {
	version=$(kernel_candidate "$1")
	if [ -n "$update" ] || [ -z "$version" ]; then
		[ "$(id -u)" != 0 ] || apt-get update -qq
		version=$(kernel_candidate "$1")
	fi
	[ -n "$version" ] || die "apt knows no package $1: check the apt sources"
}

# kernel_build NAME SERIES FRAGMENT...: set dir to a complete build
kernel_build() {
	_name=$1
	_package=linux-source-$2
	_series=$2
	shift 2
	key=$(kernel_key "$@")
	dir=$(kernel_newest "$_name" "$key")
	[ -z "$dir" ] || [ -n "$update" ] || return 0
	kernel_lock "$_series"
	kernel_need_tools
	kernel_version "$_package"
	dir=$cache/$_name-$(echo "$version" | tr ':~' '--')-$key
	[ ! -f "$dir/complete" ] || return 0
	kernel_source "$_package" "$version"
	mkdir -p "$dir/build"
	# Its own release name: what was built for one configuration never loads in another
	kernel_configure "$dir" "-${_name%%-*}-$key" "$@"
	kernel_compile "$_name" "$dir" "$dir"
	kernel_trim "$dir"
	: > "$dir/complete"
}

# kernel_patches DIR [NUMBERS]: the patches of DIR/series but those whose numbers are given
kernel_patches() {
	_left=${2:-}
	while read -r _p; do
		case $_p in '' | '#'*) continue ;; esac
		case ",$_left," in
		*",${_p%%-*},"*) _left=$(echo ",$_left," | sed "s/,${_p%%-*},/,/; s/^,//; s/,$//") ;;
		*) echo "$1/$_p" ;;
		esac
	done < "$1/series"
	[ -z "$_left" ] || die "$1/series has no patch $_left"
}

# Files that the patches given make or change
kernel_patched_files() {
	# shellcheck disable=SC2016 # awk's
	awk '/^\+\+\+ b\// { print substr($2, 3) }' "$@" | sort -u
}

# kernel_patch ORIGINAL DIR PATCH...: into DIR, what they make of the files they touch
kernel_patch() {
	_from=$1
	_to=$2
	shift 2
	kernel_patched_files "$@" | while IFS= read -r _f; do
		mkdir -p "$_to/$(dirname "$_f")"
		[ ! -f "$_from/$_f" ] || cp "$_from/$_f" "$_to/$_f"
	done
	for _p in "$@"; do
		# No fuzz: context that has changed needs a reader
		patch -d "$_to" -p1 -F0 -s -f --no-backup-if-mismatch < "$_p" > "$_to/.patch.log" 2>&1 || {
			cat "$_to/.patch.log" >&2
			die "$_p does not apply to $_from: derive it anew from this version"
		}
	done
	rm -f "$_to/.patch.log"
}

# kernel_link ORIGINAL DIR: a copy that shares its files
kernel_link() {
	[ ! -d "$2" ] || return 0
	rm -rf "$2.new"
	cp -al "$1" "$2.new"
	mv "$2.new" "$2"
}

# kernel_put FROM DIR: files of FROM into DIR, where they differ; never into a shared one
kernel_put() {
	(cd "$1" && find . -type f) | while IFS= read -r _f; do
		! cmp -s "$1/$_f" "$2/$_f" || continue
		mkdir -p "$2/$(dirname "$_f")"
		cp --remove-destination "$1/$_f" "$2/$_f"
	done
}

# kernel_variant NAME SERIES PATCHES FRAGMENT...: set dir to a complete build with
# the PATCHES (a list of words).  All variants of a series are built in one tree,
# where only files that differ from one to the next are touched, so that the next
# takes as long as what depends on them.
kernel_variant() {
	_name=$1
	_package=linux-source-$2
	_patches=$3
	_series=$2
	shift 3
	# shellcheck disable=SC2086 # a list of words
	key=$(kernel_key "$@" $_patches)
	dir=$(kernel_newest "$_name" "$key")
	[ -z "$dir" ] || [ -n "$update" ] || return 0
	kernel_lock "$_series"
	kernel_need_tools
	kernel_version "$_package"
	_v=$(echo "$version" | tr ':~' '--')
	dir=$cache/$_name-$_v-$key
	[ ! -f "$dir/complete" ] || return 0
	kernel_source "$_package" "$version"
	_original=$src
	_work=$cache/work-${_package#linux-source-}-$_v
	mkdir -p "$_work/build" "$dir"
	kernel_link "$_original" "$_work/source"
	rm -rf "$dir/patched"
	mkdir "$dir/patched"
	# shellcheck disable=SC2086
	kernel_patch "$_original" "$dir/patched" $_patches
	# What the variant before had and this one has not
	[ ! -f "$_work/touched" ] || while IFS= read -r _f; do
		[ ! -f "$dir/patched/$_f" ] || continue
		if [ ! -f "$_original/$_f" ]; then
			rm -f "$_work/source/$_f"
		elif ! cmp -s "$_original/$_f" "$_work/source/$_f"; then
			cp --remove-destination "$_original/$_f" "$_work/source/$_f"
		fi
	done < "$_work/touched"
	# shellcheck disable=SC2086
	kernel_patched_files $_patches > "$_work/touched"
	kernel_put "$dir/patched" "$_work/source"
	src=$_work/source
	kernel_configure "$_work" "-${_name%%-*}-$key" "$@"
	kernel_compile "$_name" "$_work" "$dir"
	# A tree to build modules in that stays as it is when the next variant is built
	rm -rf "$dir/source" "$dir/build"
	kernel_link "$_original" "$dir/source"
	kernel_put "$dir/patched" "$dir/source"
	mkdir "$dir/build"
	cp -a "$_work/build/scripts" "$dir/build/"
	[ ! -d "$_work/build/tools" ] || cp -a "$_work/build/tools" "$dir/build/"
	tar -C "$_work/build" --exclude=./scripts --exclude=./tools --exclude='*.o' --exclude='*.a' \
		--exclude='*.ko' --exclude='.*.cmd' -cf - . | tar -C "$dir/build" -xf -
	find "$dir/build/scripts" "$dir/build/tools" -name '.*.cmd' -exec \
		sed -i "s,$_work/,$dir/,g" {} + 2> /dev/null || :
	sed -i "s,$_work/,$dir/,g" "$dir/build/Makefile"
	ln -sfn "$dir/source" "$dir/build/source"
	for _l in build source; do
		ln -sfn "$dir/$_l" "$dir/lib/modules/$(release_of "$dir")/$_l"
	done
	rm -rf "$dir/patched"
	: > "$dir/complete"
}
