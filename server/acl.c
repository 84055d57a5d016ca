// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/acl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/parse.h"
#include "server/address.h"

#define BLANKS " \t\r\n"

/* Do the first @bits bits of two addresses agree? */
static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned int bits)
{
	unsigned int bytes = bits / 8, rest = bits % 8;

	if (memcmp(a, b, bytes))
		return false;
	return !rest || !((a[bytes] ^ b[bytes]) & (0xff << (8 - rest)));
}

int srv_acl_match(const char *line, const struct sockaddr *addr)
{
	char word[INET6_ADDRSTRLEN + sizeof("/128")];
	uint8_t net[sizeof(struct in6_addr)];
	const uint8_t *bytes;
	uint64_t bits;
	int family, peer;
	size_t len;
	char *slash;

	line += strspn(line, BLANKS);
	len = strcspn(line, BLANKS "#");
	if (!len && (!*line || *line == '#'))
		return 0;
	if (len >= sizeof(word))
		return -1;
	memcpy(word, line, len);
	word[len] = 0;
	line += len;
	line += strspn(line, BLANKS);
	if (*line && *line != '#')
		return -1;

	family = strchr(word, ':') ? AF_INET6 : AF_INET;
	bits = family == AF_INET6 ? 128 : 32;
	slash = strchr(word, '/');
	if (slash) {
		*slash = 0;
		if (nbd_parse_uint(slash + 1, bits, &bits))
			return -1;
	}
	if (inet_pton(family, word, net) != 1)
		return -1;
	bytes = srv_address_bytes(addr, &peer);
	return bytes && peer == family && same_prefix(net, bytes, (unsigned int)bits);
}

bool srv_acl_allows(const char *file, const struct sockaddr *addr)
{
	bool allowed = false;
	unsigned int number = 0;
	char *line = NULL;
	size_t size = 0;
	FILE *f;
	int ret;

	if (addr->sa_family == AF_UNIX)
		return true;
	f = fopen(file, "re");
	if (!f) {
		if (errno == ENOENT)
			return true;
		nbd_err("cannot read authorization file %s: %s; nobody is let in", file,
			strerror(errno));
		return false;
	}
	while (!allowed && getline(&line, &size, f) >= 0) {
		number++;
		ret = srv_acl_match(line, addr);
		if (ret < 0)
			nbd_warn("%s line %u is neither an address nor ADDRESS/BITS; ignored", file,
				 number);
		allowed = ret > 0;
	}
	if (ferror(f)) {
		nbd_err("cannot read authorization file %s: %s", file, strerror(errno));
		allowed = false;
	}
	free(line);
	fclose(f);
	return allowed;
}
