/*
 * wait.c
 *		Reading one's own writes from a standby.
 *
 * Invariant: a token is the timeline and the LSN that a commit lies before. A
 * standby that has replayed up to there shows the commit, unless a failover
 * left it on an abandoned timeline: the history of timelines decides that.
 */
#include "postgres.h"

#include "access/timeline.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "base/compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define ERRCODE_SAGAZ_WAIT_TIMEOUT		MAKE_SQLSTATE('S', 'H', '0', '0', '1')
#define ERRCODE_SAGAZ_WAIT_PROMOTED		MAKE_SQLSTATE('S', 'H', '0', '0', '2')
#define ERRCODE_SAGAZ_TIMELINE_LOST		MAKE_SQLSTATE('S', 'H', '0', '0', '3')

/* ms between two looks, at first and later */
#define NAP_FIRST_MS	1
#define NAP_LAST_MS		4
#define NAP_SHORT_TURNS	64

SAGAZ_FUNCTION(sagaz_commit_token);
SAGAZ_FUNCTION(sagaz_has_replayed);
SAGAZ_FUNCTION(sagaz_wait_for_replay);

typedef struct Token
{
	TimeLineID	tli;
	XLogRecPtr	lsn;
} Token;

typedef enum Verdict
{
	REPLAYED,
	NOT_YET,
	LOST
} Verdict;

static Token
parse_token(text *input)
{
	char	   *str = text_to_cstring(input);
	Token		token;
	unsigned int tli,
				hi,
				lo;
	int			end = 0;

	if (sscanf(str, "%10u:%8X/%8X%n", &tli, &hi, &lo, &end) != 3 ||
		str[end] != '\0' || tli == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid commit token: \"%s\"", str),
				 errhint("Use what sagaz_ha.commit_token() returned.")));
	token.tli = tli;
	token.lsn = ((uint64) hi << 32) | lo;
	return token;
}

/*
 * The end of the last record in WAL. Where that ends a page, the insert
 * position already stands behind the next page's header, which after a
 * segment switch no standby reaches before the next record.
 */
static XLogRecPtr
last_record_end(void)
{
	XLogRecPtr	lsn = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(lsn, wal_segment_size) == SizeOfXLogLongPHD)
		lsn -= SizeOfXLogLongPHD;
	else if (lsn % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		lsn -= SizeOfXLogShortPHD;
	return lsn;
}

/*
 * After COMMIT, the commit record is flushed; this session's may not be when
 * synchronous_commit is off, and behind a pooler another session made it.
 */
static Token
current_token(void)
{
	Token		token;

	if (RecoveryInProgress())
		token.lsn = GetXLogReplayRecPtr(&token.tli);
	else
	{
		token.lsn = GetFlushRecPtr(&token.tli);
		token.lsn = Max(token.lsn, XactLastCommitEnd);
		if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
			token.lsn = Max(token.lsn, last_record_end());
	}
	return token;
}

/* Returns a token that covers every commit before this call. */
Datum
sagaz_commit_token(PG_FUNCTION_ARGS)
{
	Token		token;

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("commit_token() cannot cover the changes of the current transaction"),
				 errhint("Call it after COMMIT.")));
	token = current_token();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%u:%X/%X", token.tli,
											  LSN_FORMAT_ARGS(token.lsn))));
}

static XLogRecPtr
local_position(TimeLineID *tli)
{
	return RecoveryInProgress() ? GetXLogReplayRecPtr(tli) :
		GetFlushRecPtr(tli);
}

/*
 * Whether the token's commit is part of this server's data. One of another
 * timeline is, if the history left that timeline only after it. A timeline
 * that isn't in the history, if younger, may be one that the server has yet to
 * follow.
 */
static Verdict
judge(const Token *token)
{
	TimeLineID	tli;
	XLogRecPtr	lsn = local_position(&tli);
	XLogRecPtr	switched;
	List	   *history;

	if (token->tli == tli)
	{
		if (lsn >= token->lsn)
			return REPLAYED;
		/* a primary shows an asynchronous commit before it is flushed */
		if (!RecoveryInProgress())
			return last_record_end() >= token->lsn ? REPLAYED : LOST;
		return NOT_YET;
	}
	history = readTimeLineHistory(tli);
	if (!tliInHistory(token->tli, history))
		return token->tli > tli && RecoveryInProgress() ? NOT_YET : LOST;
	switched = tliSwitchPoint(token->tli, history, NULL);
	list_free_deep(history);
	if (!XLogRecPtrIsInvalid(switched) && token->lsn > switched)
		return LOST;
	return lsn >= token->lsn ? REPLAYED : NOT_YET;
}

static void
report_lost(const Token *token)
{
	TimeLineID	tli;

	(void) local_position(&tli);
	ereport(ERROR,
			(errcode(ERRCODE_SAGAZ_TIMELINE_LOST),
			 errmsg("commit token %u:%X/%X is not in this server's history",
					token->tli, LSN_FORMAT_ARGS(token->lsn)),
			 errdetail("The server is on timeline %u. The commit was lost in a failover, or was made on another cluster.",
					   tli)));
}

/* Returns whether this server shows the commit; an error when it never will. */
Datum
sagaz_has_replayed(PG_FUNCTION_ARGS)
{
	Token		token = parse_token(PG_GETARG_TEXT_PP(0));
	Verdict		verdict = judge(&token);

	if (verdict == LOST)
		report_lost(&token);
	PG_RETURN_BOOL(verdict == REPLAYED);
}

/*
 * Replay may conflict with this session's own snapshot, so it must not hold
 * one. CALL at the top level or in a DO block outside of a transaction block
 * runs under snapshots of portals only, which may be dropped, as COMMIT in a
 * procedure does; the next statement in them takes a new one.
 */
static void
drop_snapshots(PG_FUNCTION_ARGS)
{
	CallContext *call = (CallContext *) fcinfo->context;

	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("wait_for_replay() cannot run in a transaction at isolation level REPEATABLE READ or SERIALIZABLE"),
				 errdetail("Its snapshot could block the replay that is waited for, and would not show what is replayed later."),
				 errhint("Call it before BEGIN, or use READ COMMITTED.")));
	if (call && IsA(call, CallContext) && !call->atomic)
		ForgetPortalSnapshots();
	else if (ActiveSnapshotSet())
		PopActiveSnapshot();
	InvalidateCatalogSnapshot();
	if (HaveRegisteredOrActiveSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("wait_for_replay() cannot wait while a query or function around it holds a snapshot"),
				 errhint("Use CALL as a statement of its own, or in a DO block outside of a transaction block.")));
}

static TimestampTz
deadline(Interval *timeout)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz end;

	end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												  TimestampTzGetDatum(now),
												  IntervalPGetDatum(timeout)));
	if (end < now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	return end;
}

static void
report_timeout(const Token *token)
{
	TimeLineID	tli;
	XLogRecPtr	lsn = local_position(&tli);

	ereport(ERROR,
			(errcode(ERRCODE_SAGAZ_WAIT_TIMEOUT),
			 errmsg("timed out waiting for replay of commit token %u:%X/%X",
					token->tli, LSN_FORMAT_ARGS(token->lsn)),
			 errdetail("Replayed up to %X/%X on timeline %u.",
					   LSN_FORMAT_ARGS(lsn), tli),
			 errhint("Read from the primary, or look at sagaz_ha.standby_status().")));
}

static void
report_promoted(const Token *token)
{
	ereport(ERROR,
			(errcode(ERRCODE_SAGAZ_WAIT_PROMOTED),
			 errmsg("standby was promoted before it replayed commit token %u:%X/%X",
					token->tli, LSN_FORMAT_ARGS(token->lsn)),
			 errhint("What was committed on the old primary after the promotion point is lost.")));
}

/* Waits until this server shows the commit, or until the timeout. */
Datum
sagaz_wait_for_replay(PG_FUNCTION_ARGS)
{
	Token		token;
	TimestampTz until;
	bool		was_standby = RecoveryInProgress();
	uint32		wait_event;
	int			turn;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("token and timeout of wait_for_replay() must not be null")));
	token = parse_token(PG_GETARG_TEXT_PP(0));
	until = deadline(PG_GETARG_INTERVAL_P(1));
	drop_snapshots(fcinfo);
	wait_event = sagaz_wait_event("SagazHaWaitForReplay");

	for (turn = 0;; turn++)
	{
		Verdict		verdict = judge(&token);
		bool		promoted = was_standby && !RecoveryInProgress();

		if (verdict == REPLAYED)
			break;
		if (verdict == LOST && promoted)
			report_promoted(&token);
		if (verdict == LOST)
			report_lost(&token);
		if (GetCurrentTimestamp() >= until)
			report_timeout(&token);
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 turn < NAP_SHORT_TURNS ? NAP_FIRST_MS : NAP_LAST_MS,
						 wait_event);
		ResetLatch(MyLatch);
	}
	PG_RETURN_VOID();
}
