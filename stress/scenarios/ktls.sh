# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='the server leaves TLS to the kernel: what is sent arrives, and how fast'
mem=448
servers=nbswap
programs="${TOP:-}/build/bin/nbd-server ${TOP:-}/build/tests/test_server_tls /usr/bin/nbdcopy"
modules='tls gcm ghash-generic ctr seqiv chacha20poly1305 chacha_generic poly1305_generic'
config='TLS'

FILE_MB=24
KEY=00112233445566778899aabbccddeeff

# listen PORT KTLS: a server of the file, which only clients with TLS get
listen() {
	cat > "/tmp/$1.conf" <<-END
		[generic]
		listenaddr = 127.0.0.1
		port = $1
		pskfile = /tmp/psk
		tls = required
		ktls = $2
		[x]
		exportname = /mnt/file
	END
	nbd-server -n -C "/tmp/$1.conf" > "/tmp/$1.log" 2>&1 &
	LISTENERS="$LISTENERS $!"
	check "listens, ktls = $2" until_true 10 sh -c "netstat -ltn | grep -q :$1"
}

# copy PORT TO
copy() {
	nbdcopy --connections=1 "nbds://alice@127.0.0.1:$1/x?tls-psk-file=/tmp/psk" "$2"
}

# How often the kernel has taken a connection
taken() {
	sed -n 's/^TlsTxSw[[:space:]]*//p' /proc/net/tls_stat
}

# speed PORT: MB/s, the better of three
speed() {
	for _i in 1 2 3; do
		read -r _begin _ < /proc/uptime
		copy "$1" null: || return
		read -r _end _ < /proc/uptime
		echo "$_begin $_end"
	done | awk -v mb=$FILE_MB '{ s = $2 - $1; if (!best || s < best) best = s }
		END { if (NR == 3) printf "%.1f\n", mb / best }'
}

guest() {
	LISTENERS=
	check 'every cipher and version, by the kernel' env KTLS=yes ASAN_OPTIONS=quarantine_size_mb=1 test_server_tls
	printf 'alice:%s\n' $KEY > /tmp/psk
	mount -t tmpfs -o size=$((2 * FILE_MB))m tmp /mnt
	dd if=/dev/urandom of=/mnt/file bs=1M count=$FILE_MB 2> /dev/null
	listen 10901 true
	listen 10902 false
	_before=$(taken)
	check 'a copy through the kernel' copy 10901 /mnt/copy
	check 'is the file' cmp /mnt/file /mnt/copy
	same 'the kernel has encrypted it' "$(taken)" $((_before + 1))
	check 'and the log says so' grep -q 'sent by the kernel' /tmp/10901.log
	rm /mnt/copy
	check 'a copy through GnuTLS' copy 10902 /mnt/copy
	check 'is the file, too' cmp /mnt/file /mnt/copy
	same 'of which the kernel has encrypted nothing' "$(taken)" $((_before + 1))
	rm /mnt/copy
	_kernel=$(speed 10901)
	_gnutls=$(speed 10902)
	metric "ktls_mb_per_s=$_kernel"
	metric "gnutls_mb_per_s=$_gnutls"
	check 'both were measured' test -n "$_kernel" -a -n "$_gnutls"
	for _pid in $LISTENERS; do
		kill "$_pid"
		check 'the server ends' wait "$_pid"
	done
	rm -f /tmp/psk
	umount /mnt
}
