/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbd-server ctl: ask a server that runs, through its control socket. */
#ifndef SRV_CTL_H
#define SRV_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Exit codes, as nbd-server(1) lists them */
#define SRV_CTL_OK	  0
#define SRV_CTL_FAILED	  1 /* the server has refused, or its answer broke off */
#define SRV_CTL_USAGE	  2
#define SRV_CTL_NO_SERVER 3

/* argv[0] is "ctl" */
int srv_ctl(int argc, char **argv);

/*
 * ctl-show.c: an answer for people.  @before is the same question's answer of
 * @seconds ago, for rates, or NULL; @now is the time of day in seconds.
 */
void srv_ctl_show_status(FILE *out, const json_t *status);
void srv_ctl_show_clients(FILE *out, const json_t *clients, double now);
void srv_ctl_show_counters(FILE *out, const json_t *exports, const json_t *before, double seconds);
void srv_ctl_show_latency(FILE *out, const json_t *exports);
void srv_ctl_show_swap(FILE *out, const json_t *files);

/* "1.5 MiB", "12 us", "3 min": into @text of SRV_CTL_TEXT bytes, which is returned */
#define SRV_CTL_TEXT 32
char *srv_ctl_bytes(char *text, double bytes);
char *srv_ctl_us(char *text, double us);
char *srv_ctl_age(char *text, double seconds);

#endif /* SRV_CTL_H */
