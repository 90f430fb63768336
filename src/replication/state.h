/*
 * state.h
 *		The samples in shared memory: the sampler writes them, others read.
 *
 * Invariant: repl_shared is NULL unless the library was preloaded, and every
 * reader works without it. Times are of this host's clock. Only the sampler
 * writes, and what it writes is read under the lock; nothing that holds the
 * lock logs, allocates or may fail.
 */
#ifndef SAGAZ_REPLICATION_STATE_H
#define SAGAZ_REPLICATION_STATE_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "replication/lsn_clock.h"
#include "replication/offset.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

/* What was seen of one walsender's entry in the server's shared memory. */
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

	/*
	 * A sample is wanted before the interval is over. Written without the
	 * lock: SetLatch() and ResetLatch() are the barriers.
	 */
	volatile sig_atomic_t wanted;

	/* the sampler */
	int			sampler_pid;	/* 0: none runs */
	Latch	   *sampler_latch;
	bool		in_recovery;
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

/* The sampler and its last sample, as they were at one moment. */
typedef struct ReplSampling
{
	bool		running;
	Latch	   *latch;
	bool		in_recovery;
	TimestampTz sampled_at;		/* 0: never */
	int64		sampled_monotonic;
} ReplSampling;

extern ReplShared *repl_shared;

extern void replication_state_register(void);
extern void replication_state_read(ReplSampling *sampling);

#endif							/* SAGAZ_REPLICATION_STATE_H */
