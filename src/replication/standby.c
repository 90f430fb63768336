/*
 * standby.c
 *		A standby as it sees itself: how far behind, and how sure of it.
 *
 * Invariant: a lag is taken from the LSN clock only while the upstream is in
 * contact. Without contact nothing arrives, so that all is replayed proves
 * nothing: the lag is then at least the time since that contact, and it grows.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "base/compat.h"
#include "base/rows.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/access.h"
#include "replication/receiver.h"
#include "replication/settings.h"
#include "replication/state.h"
#include "replication/time.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#define SPEED_WINDOW	(INT64CONST(60) * USECS_PER_SEC)
#define PROBE_TURNS		20
#define PROBE_USEC		250
#define STANDBY_COLS	28

SAGAZ_FUNCTION(sagaz_receiver_state);

/* The receiver, what the samples say of it, and what follows from both. */
typedef struct StandbyView
{
	TimestampTz now;
	ReplReceiver receiver;
	XLogRecPtr	applied;
	TimeLineID	applied_tli;
	XLogRecPtr	upstream_end;
	bool		sampled;		/* there is a sampler */
	bool		frozen;			/* the receiver doesn't react */
	TimestampTz contact;		/* last message, 0 unknown */
	bool		offset_known;
	TimeOffset	offset;			/* our clock minus the upstream's */
	bool		behind;			/* WAL beyond applied is known of */
	TimestampTz beyond_at;
	bool		beyond_exact;
	bool		covered;		/* all WAL up to then is applied */
	TimestampTz covered_at;
	bool		safe;			/* all WAL up to then is received */
	TimestampTz safe_at;
	int64		restarts;
	int			starts_unheard;
	TimestampTz stuck_since;
	bool		replay_speed_known;
	double		replay_speed;
	bool		wal_speed_known;
	double		wal_speed;
} StandbyView;

/* Copies the samples' part; false when they are a primary's. */
static bool
read_samples(StandbyView *view)
{
	const ReplShared *shared = repl_shared;
	XLogRecPtr	end;

	Assert(LWLockHeldByMe(shared->lock));
	if (!shared->in_recovery)
		return false;
	if (view->contact == 0)
		view->contact = shared->message_received;
	if (replication_offset_get(&shared->offset, &view->offset))
		view->offset_known = true;
	view->frozen = shared->frozen_since != 0 &&
		shared->receiver_pid == view->receiver.pid &&
		view->contact <= shared->frozen_since;
	view->restarts = shared->receiver_starts;
	view->starts_unheard = shared->starts_unheard;
	if (shared->applied == view->applied)
		view->stuck_since = shared->applied_at;
	view->replay_speed_known = lsn_rate_speed(&shared->replay,
											  &view->replay_speed);
	view->wal_speed_known = lsn_clock_speed(&shared->clock, view->now,
											SPEED_WINDOW, &view->wal_speed);
	end = shared->clock.n > 0 ?
		shared->clock.e[shared->clock.n - 1].lsn : InvalidXLogRecPtr;
	view->upstream_end = Max(view->upstream_end, end);
	view->behind = lsn_clock_passed(&shared->clock, view->applied, shared->sampled_at,
									view->contact, view->upstream_end,
									&view->beyond_at, &view->beyond_exact);
	view->covered = lsn_clock_covered(&shared->clock, view->applied,
									  &view->covered_at);
	view->safe = lsn_clock_covered(&shared->clock,
								   Max(view->receiver.received, view->applied),
								   &view->safe_at);
	return true;
}

static void
extend(bool *known, TimestampTz *at, TimestampTz later)
{
	if (!*known || later > *at)
		*at = later;
	*known = true;
}

/*
 * Without the sampler, asks the receiver here whether it is alive: it takes
 * that up within a fraction of a millisecond, unless messages keep it busy.
 */
static bool
receiver_reacts(const StandbyView *view)
{
	int			turn;

	if (view->receiver.pid == 0 || view->receiver.state != WALRCV_STREAMING ||
		view->now - view->contact < USECS_PER_SEC)
		return true;
	sagaz_ask_receiver();
	for (turn = 0; turn < PROBE_TURNS && sagaz_receiver_asked(); turn++)
		pg_usleep(PROBE_USEC);
	return !sagaz_receiver_asked();
}

/* The last message itself is as good as a sample. */
static void
add_last_message(StandbyView *view)
{
	TimestampTz sent;

	if (view->receiver.heard)
		sent = view->receiver.message_sent + view->offset;
	else if (view->receiver.quiet_since != 0)
		sent = view->receiver.quiet_since;
	else
		return;
	if (view->applied >= view->upstream_end)
		extend(&view->covered, &view->covered_at, sent);
	if (Max(view->receiver.received, view->applied) >= view->upstream_end)
		extend(&view->safe, &view->safe_at, sent);
}

static void
look(StandbyView *view)
{
	memset(view, 0, sizeof(StandbyView));
	view->sampled = replication_time_now(&view->now);
	replication_receiver_read(&view->receiver, view->now);
	view->applied = GetXLogReplayRecPtr(&view->applied_tli);
	view->upstream_end = Max(view->receiver.upstream_end,
							 view->receiver.received);
	if (view->receiver.heard)
	{
		view->contact = view->receiver.message_received;
		view->offset = view->contact - view->receiver.message_sent;
		view->offset_known = true;
	}
	else
		view->contact = view->receiver.quiet_since;
	if (view->sampled)
	{
		LWLockAcquire(repl_shared->lock, LW_SHARED);
		view->sampled = read_samples(view);
		LWLockRelease(repl_shared->lock);
	}
	if (!view->sampled)
	{
		view->behind = view->upstream_end > view->applied;
		view->frozen = !receiver_reacts(view);
	}
	add_last_message(view);
}

static bool
in_contact(const StandbyView *view)
{
	return view->receiver.pid != 0 &&
		view->receiver.state == WALRCV_STREAMING &&
		!view->frozen && view->contact != 0 &&
		view->now - view->contact <=
		(TimeOffset) repl_contact_grace * USECS_PER_SEC;
}

/*
 * Gets the time of the last replayed commit, in our clock. The lag since then
 * is never too small, and too large after a pause in writing.
 */
static bool
last_commit(const StandbyView *view, TimestampTz *at)
{
	*at = GetLatestXTime();
	if (*at == 0)
		return false;
	if (view->offset_known)
		*at += view->offset;
	return true;
}

/* Gets the lag and returns what it is taken from; NULL when it isn't known. */
static const char *
replay_lag(const StandbyView *view, TimeOffset *lag)
{
	TimestampTz commit;
	bool		commit_known = last_commit(view, &commit);
	bool		contact = in_contact(view);
	const char *source;

	*lag = 0;
	if (contact && !view->behind)
		return view->sampled ? "lsn_clock" : "last_message";
	if (view->behind && view->sampled && view->beyond_exact)
	{
		*lag = view->now - view->beyond_at;
		source = "lsn_clock";
	}
	else if (commit_known && view->behind)
	{
		*lag = view->now - commit;
		if (view->sampled)
			*lag = Max(*lag, view->now - view->beyond_at);
		source = "commit_timestamp";
	}
	else if (view->behind)
		return NULL;
	else
		source = NULL;
	if (!contact)
	{
		if (view->contact != 0)
		{
			*lag = Max(*lag, view->now - view->contact);
			source = "lost_contact";
		}
		else if (source == NULL && commit_known)
		{
			*lag = view->now - commit;
			source = "commit_timestamp";
		}
	}
	*lag = Max(*lag, 0);
	return source;
}

static bool
staleness_bound(const StandbyView *view, TimeOffset *bound)
{
	TimestampTz commit;

	if (view->covered)
		*bound = view->now - view->covered_at;
	else if (last_commit(view, &commit))
		*bound = view->now - commit;
	else
		return false;
	*bound = Max(*bound, 0);
	return true;
}

static const char *
receiver_state_name(const ReplReceiver *receiver)
{
	if (sagaz_receiver_connects(receiver->state))
		return "connecting";
	switch (receiver->state)
	{
		case WALRCV_STOPPED:
			return "stopped";
		case WALRCV_STARTING:
			return "starting";
		case WALRCV_STREAMING:
			/* its state from its start, connected or not */
			return receiver->host[0] == '\0' ? "connecting" : "streaming";
		case WALRCV_WAITING:
			return "waiting";
		case WALRCV_RESTARTING:
			return "restarting";
		case WALRCV_STOPPING:
			return "stopping";
		default:
			return "unknown";
	}
}

static Datum
lsn_or_null(XLogRecPtr lsn, bool *null)
{
	*null = XLogRecPtrIsInvalid(lsn);
	return LSNGetDatum(lsn);
}

static Datum
timeline_or_null(TimeLineID tli, bool *null)
{
	*null = tli == 0;
	return Int64GetDatum(tli);
}

static Datum
text_or_null(const char *value, bool *null)
{
	return rows_text(value[0] == '\0' ? NULL : value, null);
}

/* The age of a time that may lie ahead by what the clocks' distance errs. */
static Datum
age_of(const StandbyView *view, TimestampTz at)
{
	return rows_interval(Max(view->now - at, 0));
}

static void
shape_positions(const StandbyView *view, Datum *values, bool *nulls)
{
	const ReplReceiver *receiver = &view->receiver;

	values[0] = Int32GetDatum(receiver->pid);
	nulls[0] = receiver->pid == 0;
	values[1] = CStringGetTextDatum(receiver_state_name(receiver));
	values[2] = Int64GetDatum(Max(view->restarts - 1, 0));
	nulls[2] = !view->sampled;
	values[3] = Int32GetDatum(view->starts_unheard);
	nulls[3] = !view->sampled;
	values[4] = text_or_null(receiver->host, &nulls[4]);
	values[5] = Int32GetDatum(receiver->port);
	nulls[5] = receiver->port == 0;
	values[6] = text_or_null(receiver->slot_name, &nulls[6]);
	values[7] = lsn_or_null(receiver->received, &nulls[7]);
	values[8] = lsn_or_null(view->upstream_end, &nulls[8]);
	values[9] = lsn_or_null(view->applied, &nulls[9]);
	values[10] = timeline_or_null(receiver->received_tli, &nulls[10]);
	values[11] = timeline_or_null(view->applied_tli, &nulls[11]);
}

static void
shape_times(const StandbyView *view, Datum *values, bool *nulls)
{
	TimeOffset	lag;
	TimeOffset	bound = 0;
	const char *source = replay_lag(view, &lag);

	values[12] = age_of(view, view->contact);
	nulls[12] = view->contact == 0;
	values[13] = BoolGetDatum(in_contact(view));
	values[14] = BoolGetDatum(!view->frozen);
	values[15] = rows_interval(lag);
	nulls[15] = source == NULL;
	values[16] = CStringGetTextDatum(source ? source : "none");
	nulls[17] = !staleness_bound(view, &bound);
	values[17] = rows_interval(bound);
	values[18] = rows_interval(-view->offset);
	nulls[18] = !view->offset_known;
	values[19] = age_of(view, view->stuck_since);
	nulls[19] = view->stuck_since == 0;
	values[20] = Float8GetDatum(view->replay_speed);
	nulls[20] = !view->replay_speed_known;
	values[21] = Float8GetDatum(view->wal_speed);
	nulls[21] = !view->wal_speed_known;
	values[22] = BoolGetDatum(PromoteIsTriggered());
	values[23] = BoolGetDatum(GetRecoveryPauseState() != RECOVERY_NOT_PAUSED);
	values[24] = Int64GetDatum(Max((int64) (view->upstream_end - view->receiver.received), 0));
	nulls[24] = XLogRecPtrIsInvalid(view->upstream_end) ||
		XLogRecPtrIsInvalid(view->receiver.received);
	values[25] = Int64GetDatum(view->upstream_end > view->applied ?
							   (int64) (view->upstream_end - view->applied) : 0);
	nulls[25] = XLogRecPtrIsInvalid(view->upstream_end);
	values[26] = BoolGetDatum(PrimaryConnInfo != NULL && PrimaryConnInfo[0] != '\0');
	values[27] = age_of(view, view->safe_at);
	nulls[27] = !view->safe;
}

/* Returns one row, all NULL on a primary. */
Datum
sagaz_receiver_state(PG_FUNCTION_ARGS)
{
	StandbyView view;
	Datum		values[STANDBY_COLS] = {0};
	bool		nulls[STANDBY_COLS] = {0};

	replication_access_require("standby_status");
	if (!RecoveryInProgress())
		PG_RETURN_NULL();
	look(&view);
	shape_positions(&view, values, nulls);
	shape_times(&view, values, nulls);
	PG_RETURN_DATUM(rows_one(fcinfo, values, nulls));
}
