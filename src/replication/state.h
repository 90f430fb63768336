/*
 * repl_shared.h
 *		What the sampler leaves in shared memory, and who reads it.
 *
 * Invariant: repl_shared is NULL unless the library was preloaded. Every
 * reader works without it, and then says so in lag_source. All times are of
 * this host's clock.
 */
#ifndef SAGAZ_REPL_SHARED_H
#define SAGAZ_REPL_SHARED_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "base/process.h"
#include "base/rows.h"
#include "replication/lsn_clock.h"
#include "replication/walreceiver.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

/*
 * How another host's clock stands to ours: the least of (received here -
 * sent there) is the difference of the clocks plus the shortest way. Two
 * windows, so that it forgets.
 */
typedef struct ReplOffset
{
	TimestampTz began;
	bool		known;
	TimeOffset	least;
	bool		before_known;
	TimeOffset	before;
} ReplOffset;

/* What was seen of one walsender slot. */
typedef struct ReplSender
{
	int			pid;
	TimestampTz reply_time;		/* the standby's clock */
	TimestampTz seen_at;		/* ours, when this reply was first seen */
	ReplOffset	offset;
} ReplSender;

typedef struct ReplShared
{
	LWLock	   *lock;
	int			sampler_pid;
	bool		in_recovery;
	Latch	   *sampler_latch;
	volatile sig_atomic_t wanted;	/* a sample is asked for now */
	TimestampTz sampled_at;
	int64		sampled_monotonic;	/* the same instant, in usec */
	LsnClock	clock;			/* of this primary, or of the upstream */
	TimeLineID	clock_tli;

	/* replay, on a standby */
	XLogRecPtr	applied;
	TimestampTz applied_at;		/* since when it stands there */
	LsnRate		replay;

	/* the WAL receiver */
	int			receiver_pid;
	TimestampTz receiver_start; /* when the last one began that was seen */
	int64		receiver_starts;
	int			starts_unheard; /* since a message was last received */
	TimestampTz message_sent;	/* by the upstream's clock */
	TimestampTz message_received;
	ReplOffset	offset;
	TimestampTz probed_at;		/* a reply was asked for, 0 none */
	bool		answers;		/* one such request was answered */
	TimestampTz frozen_since;	/* it did not react to that, 0 it did */

	int			nsenders;
	ReplSender	senders[FLEXIBLE_ARRAY_MEMBER];
} ReplShared;

/* The WAL receiver's shared memory, read at once. */
typedef struct ReplReceiver
{
	int			pid;
	WalRcvState state;
	XLogRecPtr	received;		/* and flushed */
	TimeLineID	received_tli;
	XLogRecPtr	upstream_end;
	TimestampTz message_sent;
	TimestampTz message_received;
	bool		heard;			/* the two are of a message */
	TimestampTz quiet_since;	/* or: connected then, and sent nothing yet */
	char		host[NI_MAXHOST];
	int			port;
	char		slot_name[NAMEDATALEN];
} ReplReceiver;

extern ReplShared *repl_shared;

extern PGDLLIMPORT int repl_sample_interval;
extern PGDLLIMPORT int repl_contact_grace;

/* replication.c */
extern void repl_require_monitor(const char *function);

/* sampler.c */
extern void sampler_register(void);

/* repl_time.c */
extern int64 repl_monotonic_now(void);
extern bool repl_sampler_now(TimestampTz *now);
extern void repl_offset_add(ReplOffset *offset, TimestampTz now,
							TimeOffset difference);
extern bool repl_offset_get(const ReplOffset *offset, TimeOffset *least);

/* repl_receiver.c */
extern void repl_read_receiver(ReplReceiver *receiver, TimestampTz now);

#endif							/* SAGAZ_REPL_SHARED_H */
