/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the process may still ask of the kernel once it serves: whoever takes it
 * over by a bug can start no program, reach no other machine and change no mounts.
 */
#ifndef SRV_SANDBOX_H
#define SRV_SANDBOX_H

#include <stdbool.h>

/*
 * From here on every system call the server has no use for fails with EPERM, in
 * this thread and those it starts; @rings: it uses io_uring.  Says what is wrong.
 * 0 or -1.
 */
int srv_sandbox_enter(bool rings);

/* Was the server built so that it can?  If not, srv_sandbox_enter() only says so. */
bool srv_sandbox_built(void);

#endif /* SRV_SANDBOX_H */
