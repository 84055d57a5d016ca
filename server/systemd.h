/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a service manager hands over and wants to know: sockets that it has
 * opened, in LISTEN_FDS and LISTEN_PID, and notes to the socket NOTIFY_SOCKET.
 */
#ifndef SRV_SYSTEMD_H
#define SRV_SYSTEMD_H

#include "server/listen.h"

/*
 * Take over the sockets that were passed to this process, if there are any; says
 * what is wrong with them.  How many, or -1.
 */
int srv_systemd_sockets(struct srv_listener *l);

/* The state of the service, as sd_notify(3) has it: "READY=1" and the like */
void srv_systemd_notify(const char *state);
/* The configuration is being read again; "READY=1" says when that is over */
void srv_systemd_notify_reload(void);

#endif /* SRV_SYSTEMD_H */
