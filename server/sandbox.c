// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A list of what is allowed, so that whatever kernels learn later is not.  What is
 * not on it fails with EPERM: a call that was forgotten costs what it is for, and
 * not every client its server.  What a ring of io_uring does is no system call and
 * not looked at: a network connection can be opened through one.
 *
 * Machines of 32 bits have other calls for times and large files, and no filter.
 */
#include "server/sandbox.h"

#include "common/log.h"

#if defined(SRV_SECCOMP) && defined(__LP64__)

#include <errno.h>
#include <linux/fs.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static const char *const allowed[] = {
	/* Clients, and those who ask how the server is */
	"accept4", "connect", "getpeername", "getsockname", "getsockopt", "recvfrom", "recvmsg",
	"sendmsg", "sendto", "setsockopt", "shutdown",
	/* Event loops */
	"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd2", "poll", "ppoll",
	/* Exported files, configuration, authorization files, log */
	"access", "close", "faccessat", "faccessat2", "fadvise64", "fallocate", "fcntl",
	"fdatasync", "fgetxattr", "flock", "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync",
	"ftruncate", "getcwd", "getdents64", "linkat", "lseek", "mkdirat", "lstat", "newfstatat",
	"open", "openat", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read",
	"readlink", "readlinkat", "readv", "stat", "statfs", "statx", "syncfs", "unlink",
	"unlinkat", "write", "writev",
	/* Memory, threads, time: the C library's */
	"brk", "clock_getres", "clock_gettime", "clock_nanosleep", "exit", "exit_group", "futex",
	"getegid", "geteuid", "getgid", "getpid", "getrandom", "getrlimit", "gettid",
	"gettimeofday", "getuid", "madvise", "membarrier", "mmap", "mprotect", "mremap", "munmap",
	"nanosleep", "restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
	"sched_getaffinity", "sched_yield", "set_robust_list", "set_tid_address", "sigaltstack",
	"sysinfo", "time", "uname",
#if SANITIZED
	/* Their reports, and the search for leaks at the end */
	"arch_prctl", "clone", "dup", "dup2", "getdents", "getppid", "mincore", "pipe", "pipe2",
	"prctl", "process_vm_readv", "ptrace", "wait4",
#endif
	NULL
};

static const char *const rings_too[] = {
	"io_uring_enter",
	"io_uring_register",
	"io_uring_setup",
	NULL,
};

static const unsigned long ioctls[] = { BLKGETSIZE64, BLKSSZGET, BLKPBSZGET, BLKDISCARD };

static int allow(scmp_filter_ctx ctx, const char *const *names)
{
	int nr, ret = 0;

	for (; *names && !ret; names++) {
		nr = seccomp_syscall_resolve_name(*names);
		/* If not, it is another machine's, or newer than the library */
		if (nr >= 0)
			ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
	}
	return ret;
}

/* Calls that are only allowed with certain arguments */
static int allow_some(scmp_filter_ctx ctx)
{
	size_t i;
	int ret;

	/* For the log and the service manager */
	ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
			       SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0));
	/* Limits are looked at, not changed */
	if (!ret)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
				       SCMP_A2(SCMP_CMP_EQ, 0, 0));
	/* The C library's abort() */
	if (!ret)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				       SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
	for (i = 0; !ret && i < sizeof(ioctls) / sizeof(*ioctls); i++)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				       SCMP_A1(SCMP_CMP_EQ, ioctls[i], 0));
	/* Threads, but no processes.  Flags in memory cannot be seen: the C library has another way */
	if (!ret && !SANITIZED)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				       SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	if (!ret)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return ret;
}

int srv_sandbox_enter(bool rings)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int ret = ctx ? allow_some(ctx) : -ENOMEM;

	if (!ret)
		ret = allow(ctx, allowed);
	if (!ret && rings)
		ret = allow(ctx, rings_too);
	if (!ret)
		ret = seccomp_load(ctx);
	if (ctx)
		seccomp_release(ctx);
	if (!ret)
		return 0;
	nbd_err("seccomp: system calls cannot be filtered: %s; set seccomp = false to serve "
		"without that",
		strerror(-ret));
	return -1;
}

bool srv_sandbox_built(void)
{
	return true;
}

#else

int srv_sandbox_enter(bool rings)
{
	(void)rings;
	nbd_info("system calls are not filtered: the server was built without libseccomp, or "
		 "for a machine of 32 bits");
	return 0;
}

bool srv_sandbox_built(void)
{
	return false;
}

#endif
