// SPDX-License-Identifier: GPL-2.0-only
/*
 * A link's socket: made, connected, bounded and entitled by the kernel, with
 * no file descriptor that anybody could hold a lock through.  Sockets handed
 * over from userspace are driven too, through the same callbacks.
 */
#include <linux/in6.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <net/tcp.h>

#include "compat.h"
#include "internal.h"

/*
 * Probes of an idle connection, s.  TCP_USER_TIMEOUT decides when they have
 * been in vain for long enough.
 */
#define KEEPALIVE_IDLE		10
#define KEEPALIVE_INTERVAL	5

/* How long a server has to take our goodbye */
#define GOODBYE			(HZ / 5)
/* Nothing heard for so long while connecting: the network card may need it */
#define UNHEARD			(HZ / 5)

#ifdef CONFIG_DEBUG_LOCK_ALLOC
/*
 * Our sockets are used beneath the page allocator, a user's are used above it:
 * in one class lockdep would take the two for one lock and see deadlocks.
 */
static struct lock_class_key slock_key[2], sk_lock_key[2];

static void set_lock_class(struct sock *sk)
{
	if (WARN_ON_ONCE(!sock_allow_reclassification(sk)))
		return;
	if (sk->sk_family == AF_INET6)
		sock_lock_init_class_and_name(sk, "slock-AF_INET6-NBD", &slock_key[1],
					      "sk_lock-AF_INET6-NBD", &sk_lock_key[1]);
	else
		sock_lock_init_class_and_name(sk, "slock-AF_INET-NBD", &slock_key[0],
					      "sk_lock-AF_INET-NBD", &sk_lock_key[0]);
}
#else
static void set_lock_class(struct sock *sk)
{
}
#endif

/*
 * What attach() has left, by whom callbacks know the link.  A listening socket's
 * children inherit the callbacks, and the mark keeps them from inheriting it.
 */
static struct nbd_link *link_of(const struct sock *sk)
{
	return (struct nbd_link *)((unsigned long)sk->sk_user_data & SK_USER_DATA_PTRMASK);
}

/* Our callbacks run for as long as a socket is open that has them: nobody tells us when */
static void keep_module(void)
{
	static atomic_t kept;

	/* First: who finds that it is kept already does not look further */
	__module_get(THIS_MODULE);
	if (atomic_xchg(&kept, 1))
		module_put(THIS_MODULE);
	else
		pr_warn("nbd: a socket that was handed over was given another protocol, or listens: the module stays loaded\n");
}

static void data_ready(struct sock *sk)
{
	struct nbd_link *link;

	read_lock_bh(&sk->sk_callback_lock);
	link = link_of(sk);
	if (link) {
		if (link->adopted)
			link->saved.data_ready(sk);
		if (link->rx.live && !link->adopted)
			nbd_recv_tcp(link);
		else
			nbd_link_wake(link, NBD_EVENT_SOCKET);
	}
	read_unlock_bh(&sk->sk_callback_lock);
}

/* The same by another name, so that hooks of the packet filter can tell */
static void data_ready_untracked(struct sock *sk)
{
	data_ready(sk);
}

/**
 * nbd_socket_is_untracked() - is it a socket of ours that conntrack shall not see?
 * @sk: any socket
 *
 * The answer is the same for as long as the socket can send.
 *
 * Context: any.
 */
bool nbd_socket_is_untracked(const struct sock *sk)
{
	return sk_fullsock(sk) && READ_ONCE(sk->sk_data_ready) == data_ready_untracked;
}

static void write_space(struct sock *sk)
{
	struct nbd_link *link;

	read_lock_bh(&sk->sk_callback_lock);
	link = link_of(sk);
	if (link && link->adopted) {
		link->saved.write_space(sk);
		nbd_link_wake(link, NBD_EVENT_SOCKET);
	} else if (link && sk_stream_is_writeable(sk)) {
		clear_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
		nbd_link_wake(link, NBD_EVENT_SOCKET);
	}
	read_unlock_bh(&sk->sk_callback_lock);
}

static void state_change(struct sock *sk)
{
	struct nbd_link *link;

	read_lock_bh(&sk->sk_callback_lock);
	link = link_of(sk);
	if (link) {
		if (link->adopted)
			link->saved.state_change(sk);
		if (link->rx.live && !link->adopted && sk->sk_state != TCP_ESTABLISHED)
			nbd_link_fault(link, sk->sk_err ? -sk->sk_err : -ECONNRESET);
		nbd_link_wake(link, NBD_EVENT_SOCKET);
	} else if (sk->sk_family != AF_UNIX && sk->sk_state == TCP_ESTABLISHED) {
		/* Somebody listens on a socket that was handed over, and this was accepted */
		keep_module();
	}
	read_unlock_bh(&sk->sk_callback_lock);
}

static void error_report(struct sock *sk)
{
	struct nbd_link *link;

	read_lock_bh(&sk->sk_callback_lock);
	link = link_of(sk);
	if (link) {
		if (link->adopted)
			link->saved.error_report(sk);
		if (link->rx.live && sk->sk_err)
			nbd_link_fault(link, -sk->sk_err);
		nbd_link_wake(link, NBD_EVENT_SOCKET);
	}
	read_unlock_bh(&sk->sk_callback_lock);
}

static int attach(struct nbd_link *link, struct socket *sock)
{
	struct sock *sk = sock->sk;
	int err = 0;

	write_lock_bh(&sk->sk_callback_lock);
	if (sk->sk_user_data || sk->sk_state_change == state_change) {
		err = -EBUSY;	/* somebody else's, in the kernel, or a child of ours */
	} else {
		link->saved.data_ready = sk->sk_data_ready;
		link->saved.write_space = sk->sk_write_space;
		link->saved.state_change = sk->sk_state_change;
		link->saved.error_report = sk->sk_error_report;
		sk->sk_user_data = (void *)((unsigned long)link | SK_USER_DATA_NOCOPY);
		sk->sk_data_ready = data_ready;
		sk->sk_write_space = write_space;
		sk->sk_state_change = state_change;
		sk->sk_error_report = error_report;
		link->sock = sock;
	}
	write_unlock_bh(&sk->sk_callback_lock);
	return err;
}

/* Afterwards no callback runs for the link, nor will one */
static void detach(struct nbd_link *link)
{
	struct sock *sk = link->sock->sk;
	bool kept;

	lock_sock(sk);
	write_lock_bh(&sk->sk_callback_lock);
	sk->sk_user_data = NULL;
	kept = link->adopted &&
	       (sk->sk_data_ready != data_ready || sk->sk_write_space != write_space ||
		sk->sk_state_change != state_change || sk->sk_error_report != error_report);
	/*
	 * Unless somebody, such as TLS, has put itself before us meanwhile.  Our own
	 * sockets keep this one: see nbd_socket_is_untracked()
	 */
	if (sk->sk_data_ready == data_ready && link->adopted)
		sk->sk_data_ready = link->saved.data_ready;
	if (sk->sk_write_space == write_space)
		sk->sk_write_space = link->saved.write_space;
	if (sk->sk_state_change == state_change)
		sk->sk_state_change = link->saved.state_change;
	if (sk->sk_error_report == error_report)
		sk->sk_error_report = link->saved.error_report;
	link->rx.live = false;
	write_unlock_bh(&sk->sk_callback_lock);
	release_sock(sk);
	if (kept)
		keep_module();
}

/*
 * sk_set_memalloc() and its opposite without the static key: the device holds
 * the key for as long as it is configured, since switching it takes the CPU
 * hotplug lock, under which others may wait for memory, that is for us.
 */
static void borrow(struct nbd_link *link, struct sock *sk)
{
	lock_sock(sk);
	link->saved.allocation = sk->sk_allocation;
	link->saved.use_task_frag = sk->sk_use_task_frag;
	sock_set_flag(sk, SOCK_MEMALLOC);
	sk->sk_allocation = GFP_NOIO | __GFP_MEMALLOC;
	sk->sk_use_task_frag = false;
	release_sock(sk);
}

static void give_back(struct nbd_link *link, struct sock *sk)
{
	lock_sock(sk);
	sock_reset_flag(sk, SOCK_MEMALLOC);
	sk->sk_allocation = link->saved.allocation;
	sk->sk_use_task_frag = link->saved.use_task_frag;
	release_sock(sk);
}

static void set_options(struct nbd_link *link, struct sock *sk)
{
	lock_sock(sk);
	sock_set_flag(sk, SOCK_MEMALLOC);
	/*
	 * Not GFP_ATOMIC: its larger pieces set page blocks aside (HIGHATOMIC) that
	 * nobody entitled to the reserve may take from.
	 */
	sk->sk_allocation = GFP_NOWAIT | __GFP_NOWARN | __GFP_MEMALLOC;
	/* Never a task's: we must not depend on who runs us */
	sk->sk_use_task_frag = false;
	sk->sk_userlocks |= SOCK_SNDBUF_LOCK | SOCK_RCVBUF_LOCK;
	WRITE_ONCE(sk->sk_sndbuf, SOCKET_SNDBUF);
	WRITE_ONCE(sk->sk_rcvbuf, SOCKET_RCVBUF);
	release_sock(sk);

	tcp_sock_set_nodelay(sk);
	sock_set_keepalive(sk);
	tcp_sock_set_keepidle(sk, KEEPALIVE_IDLE);
	tcp_sock_set_keepintvl(sk, KEEPALIVE_INTERVAL);
	nbd_entitle(sk);
}

/*
 * A port of its own, kept for good: a connection that needs one must find
 * memory for it.  Without one, for lack of memory or of ports, it looks again
 * when it connects.
 */
static void reserve_port(struct socket *sock)
{
	struct sock *sk = sock->sk;
	struct sockaddr_storage any = { .ss_family = sk->sk_family };

	if (kernel_bind(sock, (struct sockaddr *)&any,
			sk->sk_family == AF_INET6 ? sizeof(struct sockaddr_in6) :
						    sizeof(struct sockaddr_in)))
		return;
	lock_sock(sk);
	sk->sk_userlocks |= SOCK_BINDPORT_LOCK;
	release_sock(sk);
}

/**
 * nbd_socket_change_port() - connect from another port from now on
 * @link: the link, without a connection
 *
 * Should something on the way remember the old connection, and answer to
 * nothing else that comes from its port.
 *
 * Context: the link's thread.
 */
void nbd_socket_change_port(struct nbd_link *link)
{
	struct socket *sock = link->socks[link->address];
	struct sock *sk;

	if (!sock)
		return;
	sk = sock->sk;
	lock_sock(sk);
	sk->sk_userlocks &= ~SOCK_BINDPORT_LOCK;
	if (inet_csk(sk)->icsk_bind_hash)
		inet_put_port(sk);
	release_sock(sk);
	/* What has just been freed is what this needs */
	reserve_port(sock);
}

/**
 * nbd_socket_make() - make the sockets that a link will ever use
 * @link: the link
 *
 * One for each address, used again for every connection to it, so that nothing
 * has to be made when memory is short.  An address whose family this kernel
 * does not know gets none.
 *
 * Context: the link's thread, since a kernel thread's socket is in no memory
 * cgroup, before it enters its memalloc_noreclaim scope.
 * Return: 0 or -errno; nbd_socket_free() in either case.
 */
int nbd_socket_make(struct nbd_link *link)
{
	const struct nbd_config *config = &link->dev->config;
	unsigned int i;

	for (i = 0; i < config->nr_addresses; i++) {
		int err = sock_create_kern(config->net, config->addresses[i].ss_family,
					   SOCK_STREAM, IPPROTO_TCP, &link->socks[i]);

		if (err == -EAFNOSUPPORT)
			continue;
		if (err)
			return err;
		set_lock_class(link->socks[i]->sk);
		nbd_lockdep_prime_socket(link->socks[i]->sk);
		set_options(link, link->socks[i]->sk);
		reserve_port(link->socks[i]);
	}
	return 0;
}

/**
 * nbd_socket_free() - release the sockets
 * @link: the link, its connection closed
 */
void nbd_socket_free(struct nbd_link *link)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(link->socks); i++) {
		struct socket *sock = link->socks[i];

		if (!sock)
			continue;
		link->socks[i] = NULL;
		nbd_disentitle(sock->sk);
		sock_release(sock);
	}
}

/**
 * nbd_socket_open() - begin to connect
 * @link: the link, without a connection
 * @index: of the address
 *
 * Context: the link's thread.
 * Return: 0, then wait for TCP_ESTABLISHED; else -errno and no connection.
 */
int nbd_socket_open(struct nbd_link *link, unsigned int index)
{
	struct sockaddr_storage to = link->dev->config.addresses[index];
	struct socket *sock = link->socks[index];
	int err;

	if (!sock)
		return -EAFNOSUPPORT;
	err = attach(link, sock);
	if (err)
		return err;
	tcp_sock_set_user_timeout(sock->sk,
				  READ_ONCE(link->dev->config.timeout) * MSEC_PER_SEC);
	if (link->tracking.untrack)
		WRITE_ONCE(sock->sk->sk_data_ready, data_ready_untracked);
	err = kernel_connect(sock, (struct sockaddr *)&to,
			     to.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) :
							sizeof(struct sockaddr_in),
			     O_NONBLOCK);
	if (err && err != -EINPROGRESS) {
		nbd_socket_close(link, false);
		return err;
	}
	return 0;
}

/**
 * nbd_socket_check() - can a socket from userspace carry a link?
 * @sock: the socket
 *
 * Return: 0 or -errno.
 */
int nbd_socket_check(struct socket *sock)
{
	struct sock *sk = sock->sk;

	if (sock->type != SOCK_STREAM)
		return -EPROTOTYPE;
	switch (sk->sk_family) {
	case AF_INET:
	case AF_INET6:
		if (sk->sk_protocol != IPPROTO_TCP)
			return -EPROTONOSUPPORT;
		break;
	case AF_UNIX:
		break;
	default:
		return -EAFNOSUPPORT;
	}
	/* AF_UNIX shares the value */
	if (READ_ONCE(sk->sk_state) != TCP_ESTABLISHED)
		return -ENOTCONN;
	return 0;
}

/**
 * nbd_socket_adopt() - drive a socket from userspace
 * @link: the link, without a socket
 * @sock: the socket, its file's reference passes to the link on success
 *
 * Return: 0 or -errno.
 */
int nbd_socket_adopt(struct nbd_link *link, struct socket *sock)
{
	int err = attach(link, sock);

	if (err)
		return err;
	borrow(link, sock->sk);
	return 0;
}

/**
 * nbd_socket_charge() - take the socket's share of TCP's memory in advance
 * @link: the link, connected
 *
 * What other sockets hold can then never keep this one from sending or
 * receiving, since net.ipv4.tcp_mem is only looked at when a socket wants more
 * than it has.  It is accounting, not memory, given back with the connection.
 * Asking for no less than the send buffer cannot fail, by the rule that a
 * socket with nothing queued must be able to send.
 *
 * Return: 0 or -ENOBUFS.
 */
int nbd_socket_charge(struct nbd_link *link)
{
	struct sock *sk = link->sock->sk;
	int bytes = SOCKET_SNDBUF + SOCKET_RCVBUF + SOCKET_SLACK;
	int err = 0;

	lock_sock(sk);
	if (__sk_mem_schedule(sk, bytes, SK_MEM_SEND))
		WRITE_ONCE(sk->sk_reserved_mem, sk->sk_reserved_mem + bytes);
	else
		err = -ENOBUFS;
	release_sock(sk);
	return err;
}

/**
 * nbd_socket_wait() - sleep until something happens to the socket
 * @link: the link
 * @deadline: jiffies
 *
 * Context: the link's thread.
 * Return: 0 for the caller to look again, -ETIMEDOUT at the deadline, -EINTR
 * when the thread is to stop.
 */
int nbd_socket_wait(struct nbd_link *link, unsigned long deadline)
{
	long left = deadline - jiffies;

	if (kthread_should_stop())
		return -EINTR;
	if (left <= 0)
		return -ETIMEDOUT;
	left = min3(left, (long)nbd_link_tick(link), (long)UNHEARD);
	left = wait_event_idle_timeout(link->wait,
				       test_and_clear_bit(NBD_EVENT_SOCKET, &link->events) ||
				       kthread_should_stop(), left);
	if (!left)
		nbd_rescue(link);
	return kthread_should_stop() ? -EINTR : 0;
}

/**
 * nbd_socket_go_live() - from now on replies are read as they arrive
 * @link: the link, past its handshake
 */
void nbd_socket_go_live(struct nbd_link *link)
{
	struct sock *sk = link->sock->sk;

	link->progress = jiffies;
	link->outstanding = false;
	lock_sock(sk);
	nbd_recv_start(link);
	link->rx.live = true;
	/* What came before the callbacks knew of it */
	if (link->adopted)
		nbd_link_wake(link, NBD_EVENT_SOCKET);
	else
		nbd_recv_tcp(link);
	if (sk->sk_state != TCP_ESTABLISHED)
		nbd_link_fault(link, sk->sk_err ? -sk->sk_err : -ECONNRESET);
	release_sock(sk);
}

/*
 * Let the server take what was sent and close.  A socket of the kernel's own
 * loses its timers when it is released: what has not left by then never will.
 */
static void say_goodbye(struct socket *sock)
{
	unsigned long until = jiffies + GOODBYE;

	kernel_sock_shutdown(sock, SHUT_WR);
	while (READ_ONCE(sock->sk->sk_state) != TCP_CLOSE && time_before(jiffies, until))
		schedule_timeout_idle(1);
}

/*
 * Reset the connection, so that nothing sent on it can arrive later, and leave
 * the socket ready for the next one, with its port.
 */
static void reset(struct socket *sock)
{
	struct sockaddr unspec = { .sa_family = AF_UNSPEC };
	struct sock *sk = sock->sk;

	kernel_connect(sock, &unspec, sizeof(unspec), 0);
	lock_sock(sk);
	sk->sk_err = 0;
	sk->sk_err_soft = 0;
	/* The charge goes back to where it came from */
	WRITE_ONCE(sk->sk_reserved_mem, 0);
	sk_mem_reclaim(sk);
	release_sock(sk);
}

/**
 * nbd_socket_close() - end the connection
 * @link: the link; may be without one
 * @graceful: give the server 0.2 s to take what was sent and to close
 *
 * Then the connection is reset.  Afterwards nothing writes to the pages of the
 * link's requests.
 */
void nbd_socket_close(struct nbd_link *link, bool graceful)
{
	struct socket *sock = link->sock;

	if (!sock)
		return;
	detach(link);
	link->sock = NULL;

	if (link->adopted) {
		give_back(link, sock->sk);
		/* Whoever has it open, too, would let TCP go on with what is queued */
		if (!graceful && sock->sk->sk_family != AF_UNIX)
			tcp_abort(sock->sk, ECONNABORTED);
		else
			kernel_sock_shutdown(sock, SHUT_RDWR);
		sockfd_put(sock);
		return;
	}
	if (graceful)
		say_goodbye(sock);
	reset(sock);
}

/*
 * For how long has the other side said nothing, though something is to be
 * acknowledged, sent or not?  Its answers to window probes count.  The clock
 * starts when that is seen first, and stands while nobody looks: a machine that
 * was stopped has not been waiting.
 */
static unsigned long unacknowledged_for(struct nbd_link *link, const struct tcp_sock *tp)
{
	bool outstanding = tp->snd_una != tp->write_seq;
	/* It takes nothing more, and has said so when last asked; TCP asks less and less often */
	bool closed = !tp->packets_out && !before(tp->snd_nxt, tcp_wnd_end(tp)) &&
		      tp->inet_conn.icsk_probes_out <= 1;
	unsigned long now = jiffies;

	if (!outstanding || closed || !link->outstanding || tp->snd_una != link->acked ||
	    tp->rcv_tstamp != link->acked_stamp)
		link->acked_at = now;
	else if (now - link->tended_at > 2 * NBD_STALL)
		link->acked_at += now - link->tended_at - NBD_STALL;
	link->outstanding = outstanding;
	link->acked = tp->snd_una;
	link->acked_stamp = tp->rcv_tstamp;
	link->tended_at = now;
	return now - link->acked_at;
}

/**
 * nbd_socket_tend() - look after a connection
 * @link: the link, ready
 *
 * What TCP could not send, or route, for want of memory in softirq, it may well
 * here, where the reserve is open to it.
 *
 * Context: the link's thread.
 * Return: for how long the other side has acknowledged nothing of what was
 * sent to it, jiffies.
 */
unsigned long nbd_socket_tend(struct nbd_link *link)
{
	struct sock *sk = link->sock->sk;
	u32 timeout = READ_ONCE(link->dev->config.timeout) * MSEC_PER_SEC;
	unsigned long stalled = 0;
	bool push = false;

	if (link->adopted)
		return 0;
	lock_sock(sk);
	if (sk->sk_state == TCP_ESTABLISHED) {
		stalled = unacknowledged_for(link, tcp_sk(sk));
		/* What could not be sent at all is not even tried again soon */
		push = stalled >= NBD_STALL || (link->outstanding && !tcp_sk(sk)->packets_out);
		inet_csk(sk)->icsk_af_ops->rebuild_header(sk);
	}
	release_sock(sk);
	if (push)
		tcp_sock_set_nodelay(sk);
	if (inet_csk(sk)->icsk_user_timeout != timeout)
		tcp_sock_set_user_timeout(sk, timeout);
	return stalled;
}
