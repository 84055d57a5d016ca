// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * For LD_PRELOAD: while the file that SLOW_RECV names exists, whoever has
 * received something gets it a second late.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t (*real)(int, struct msghdr *, int);
	const char *file = getenv("SLOW_RECV");
	ssize_t n;

	*(void **)&real = dlsym(RTLD_NEXT, "recvmsg");
	n = real(fd, msg, flags);
	if (n > 0 && file && !access(file, F_OK))
		sleep(1);
	return n;
}
