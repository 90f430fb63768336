/*
 * repl_senders.c
 *		The other side's state as a sender can know it, in one clock: replies
 *		carry the standby's time, so their age comes from when they were seen.
 */
#include "replication/state.h"

#include "base/compat.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "replication/walsender_private.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#define SENDER_COLS	6

SAGAZ_FUNCTION(sagaz_sender_state);
SAGAZ_FUNCTION(sagaz_lsn_timestamp);
SAGAZ_FUNCTION(sagaz_lsn_age);
SAGAZ_FUNCTION(sagaz_wal_speed);

typedef struct SenderView
{
	int			pid;
	XLogRecPtr	apply;
	TimeOffset	reported_lag;
	TimestampTz reply_time;
} SenderView;

/* The end of the WAL that this server has to send. */
static XLogRecPtr
local_end(void)
{
	XLogRecPtr	received;

	if (!RecoveryInProgress())
		return GetFlushRecPtr(NULL);
	received = GetWalRcvFlushRecPtr(NULL, NULL);
	return Max(received, GetXLogReplayRecPtr(NULL));
}

static bool
read_sender(int i, SenderView *view)
{
	WalSnd	   *walsnd = &WalSndCtl->walsnds[i];

	SpinLockAcquire(&walsnd->mutex);
	view->pid = walsnd->pid;
	view->apply = walsnd->apply;
	view->reported_lag = walsnd->applyLag;
	view->reply_time = walsnd->replyTime;
	SpinLockRelease(&walsnd->mutex);
	return view->pid != 0;
}

/* From the LSN clock; caller holds its lock. */
static void
shape_sampled(const SenderView *view, const ReplSender *sender,
			  TimestampTz now, XLogRecPtr end, Datum *values, bool *nulls)
{
	TimestampTz beyond_at;
	bool		exact;
	TimeOffset	offset;
	TimeOffset	lag = 0;

	if (!XLogRecPtrIsInvalid(view->apply))
	{
		exact = true;
		if (lsn_clock_passed(&repl_shared->clock, view->apply,
							 repl_shared->sampled_at, now, end, &beyond_at, &exact))
			lag = Max(now - beyond_at, 0);
		else
			exact = true;
		if (!exact)
			lag = Max(lag, view->reported_lag);
		values[1] = rows_interval(lag);
		nulls[1] = false;
		values[2] = CStringGetTextDatum(exact ? "lsn_clock" : "lower_bound");
		nulls[2] = false;
	}
	if (sender->pid == view->pid && view->reply_time != 0 &&
		repl_offset_get(&sender->offset, &offset))
	{
		values[3] = rows_interval(Max(now - (view->reply_time + offset), 0));
		values[4] = rows_interval(-offset);
		nulls[3] = nulls[4] = false;
	}
}

/*
 * Without samples: the age of a reply by the standby's own clock, when it
 * isn't plainly another clock, and the lag that the walsender measured last.
 * Its "none" is no lag only when everything is applied.
 */
static void
shape_unsampled(const SenderView *view, TimestampTz now, XLogRecPtr end,
				Datum *values, bool *nulls)
{
	if (!XLogRecPtrIsInvalid(view->apply) &&
		(view->apply >= end || view->reported_lag >= 0))
	{
		values[1] = rows_interval(view->apply >= end ? 0 : view->reported_lag);
		nulls[1] = false;
		values[2] = CStringGetTextDatum("reported");
		nulls[2] = false;
	}
	if (view->reply_time != 0 && view->reply_time <= now)
	{
		values[3] = rows_interval(now - view->reply_time);
		nulls[3] = false;
	}
}

/* (pid, effective lag, its source, reply age, clock offset, end of WAL) */
Datum
sagaz_sender_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	XLogRecPtr	end;
	TimestampTz now;
	bool		sampled;
	int			i;

	repl_require_monitor("replication_standbys");
	InitMaterializedSRF(fcinfo, 0);
	end = local_end();
	sampled = repl_sampler_now(&now);
	for (i = 0; i < max_wal_senders; i++)
	{
		Datum		values[SENDER_COLS] = {0};
		bool		nulls[SENDER_COLS] = {false, true, true, true, true, false};
		SenderView	view;

		if (!read_sender(i, &view))
			continue;
		values[0] = Int32GetDatum(view.pid);
		values[5] = LSNGetDatum(end);
		if (sampled)
		{
			LWLockAcquire(repl_shared->lock, LW_SHARED);
			shape_sampled(&view, &repl_shared->senders[i], now, end,
						  values, nulls);
			LWLockRelease(repl_shared->lock);
		}
		else
			shape_unsampled(&view, now, end, values, nulls);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

static bool
date_lsn(XLogRecPtr lsn, TimestampTz *at, bool *exact)
{
	bool		found;

	*exact = false;
	if (repl_shared == NULL || XLogRecPtrIsInvalid(lsn))
		return false;
	LWLockAcquire(repl_shared->lock, LW_SHARED);
	/* beyond lsn - 1: at lsn or beyond */
	found = lsn_clock_passed(&repl_shared->clock, lsn - 1,
							 0, 0, InvalidXLogRecPtr, at, exact);
	LWLockRelease(repl_shared->lock);
	return found;
}

/* When the WAL reached this position; NULL when that wasn't seen. */
Datum
sagaz_lsn_timestamp(PG_FUNCTION_ARGS)
{
	TimestampTz at;
	bool		exact;

	if (!date_lsn(PG_GETARG_LSN(0), &at, &exact) || !exact)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}

/* How long ago that was; of an LSN before the first sample, at least. */
Datum
sagaz_lsn_age(PG_FUNCTION_ARGS)
{
	TimestampTz at;
	TimestampTz now;
	bool		exact;

	if (!repl_sampler_now(&now) || !date_lsn(PG_GETARG_LSN(0), &at, &exact))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(rows_interval(Max(now - at, 0)));
}

/* Bytes of WAL per second over the last minutes, NULL without a clock. */
Datum
sagaz_wal_speed(PG_FUNCTION_ARGS)
{
	double		speed;
	TimestampTz now;
	bool		known = false;

	if (repl_sampler_now(&now))
	{
		LWLockAcquire(repl_shared->lock, LW_SHARED);
		known = lsn_clock_speed(&repl_shared->clock, now,
								INT64CONST(300) * USECS_PER_SEC, &speed);
		LWLockRelease(repl_shared->lock);
	}
	if (!known)
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(speed);
}
