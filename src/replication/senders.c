/*
 * senders.c
 *		The other side's state as a sender can know it, and dates of positions.
 *
 * Invariant: all of it is in one clock. A reply carries the standby's time, so
 * its age is taken from when it was seen.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "base/compat.h"
#include "base/rows.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "replication/access.h"
#include "replication/state.h"
#include "replication/time.h"
#include "replication/walsender_private.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#define SENDER_COLS		6

SAGAZ_FUNCTION(sagaz_sender_state);
SAGAZ_FUNCTION(sagaz_lsn_timestamp);
SAGAZ_FUNCTION(sagaz_lsn_age);

/* A walsender, and what follows from it and from the samples. */
typedef struct SenderView
{
	int			pid;
	XLogRecPtr	apply;
	TimeOffset	reported_lag;	/* -1: none */
	TimestampTz reply_time;		/* the standby's clock */

	const char *lag_source;		/* NULL: the lag isn't known */
	TimeOffset	lag;
	bool		age_known;
	TimeOffset	reply_age;
	bool		offset_known;
	TimeOffset	offset;
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

	memset(view, 0, sizeof(*view));
	SpinLockAcquire(&walsnd->mutex);
	view->pid = walsnd->pid;
	view->apply = walsnd->apply;
	view->reported_lag = walsnd->applyLag;
	view->reply_time = walsnd->replyTime;
	SpinLockRelease(&walsnd->mutex);
	return view->pid != 0;
}

/* From the LSN clock. */
static void
judge_sampled(SenderView *view, const ReplSender *sender, TimestampTz now, XLogRecPtr end)
{
	TimestampTz beyond_at;
	bool		exact;

	Assert(LWLockHeldByMe(repl_shared->lock));
	if (!XLogRecPtrIsInvalid(view->apply))
	{
		view->lag_source = "lsn_clock";
		if (lsn_clock_passed(&repl_shared->clock, view->apply,
							 repl_shared->sampled_at, now, end, &beyond_at, &exact))
		{
			view->lag = Max(now - beyond_at, 0);
			if (!exact)
			{
				view->lag = Max(view->lag, view->reported_lag);
				view->lag_source = "lower_bound";
			}
		}
	}
	if (sender->pid == view->pid && view->reply_time != 0 &&
		replication_offset_get(&sender->offset, &view->offset))
	{
		view->age_known = view->offset_known = true;
		view->reply_age = Max(now - (view->reply_time + view->offset), 0);
	}
}

/*
 * Without samples: the age of a reply by the standby's own clock, when it
 * isn't plainly another clock, and the lag that the walsender measured last.
 * Its "none" is no lag only when everything is applied.
 */
static void
judge_unsampled(SenderView *view, TimestampTz now, XLogRecPtr end)
{
	if (!XLogRecPtrIsInvalid(view->apply) &&
		(view->apply >= end || view->reported_lag >= 0))
	{
		view->lag_source = "reported";
		view->lag = view->apply >= end ? 0 : view->reported_lag;
	}
	if (view->reply_time != 0 && view->reply_time <= now)
	{
		view->age_known = true;
		view->reply_age = now - view->reply_time;
	}
}

static void
add_row(FunctionCallInfo fcinfo, const SenderView *view, XLogRecPtr end)
{
	Datum		values[SENDER_COLS] = {0};
	bool		nulls[SENDER_COLS] = {0};

	values[0] = Int32GetDatum(view->pid);
	values[1] = rows_interval(view->lag);
	nulls[1] = view->lag_source == NULL;
	values[2] = rows_text(view->lag_source, &nulls[2]);
	values[3] = rows_interval(view->reply_age);
	nulls[3] = !view->age_known;
	values[4] = rows_interval(-view->offset);
	nulls[4] = !view->offset_known;
	values[5] = LSNGetDatum(end);
	rows_add(fcinfo, values, nulls);
}

/* Returns (pid, effective lag, its source, reply age, clock offset, end of WAL). */
Datum
sagaz_sender_state(PG_FUNCTION_ARGS)
{
	XLogRecPtr	end;
	TimestampTz now;
	bool		sampled;
	int			i;

	replication_access_require("replication_standbys");
	InitMaterializedSRF(fcinfo, 0);
	end = local_end();
	sampled = replication_time_now(&now);
	for (i = 0; i < max_wal_senders; i++)
	{
		SenderView	view;

		if (!read_sender(i, &view))
			continue;
		if (sampled)
		{
			LWLockAcquire(repl_shared->lock, LW_SHARED);
			judge_sampled(&view, &repl_shared->senders[i], now, end);
			LWLockRelease(repl_shared->lock);
		}
		else
			judge_unsampled(&view, now, end);
		add_row(fcinfo, &view, end);
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

/* Returns when the WAL reached this position; NULL when that wasn't seen. */
Datum
sagaz_lsn_timestamp(PG_FUNCTION_ARGS)
{
	TimestampTz at;
	bool		exact;

	if (!date_lsn(PG_GETARG_LSN(0), &at, &exact) || !exact)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}

/* Returns the age of a position; of one before the first sample, at least. */
Datum
sagaz_lsn_age(PG_FUNCTION_ARGS)
{
	TimestampTz at;
	TimestampTz now;
	bool		exact;

	if (!replication_time_now(&now) || !date_lsn(PG_GETARG_LSN(0), &at, &exact))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(rows_interval(Max(now - at, 0)));
}
