/*
 * limit.c
 *		A time limit for a statement that runs code of a table's owner.
 *
 * Invariant: one limit at a time, which ends with limit_end() or with the error
 * that attempt.c catches; what begins within it, as a pass that the owner's code
 * runs, has no limit of its own, and ends none. A cancellation that the limit
 * causes becomes an error that names its setting, and isn't taken for one of the
 * session's user.
 *
 * Code that catches the cancellation is cancelled again every second. In a
 * background process of ours that lasts for ten seconds; then the process ends, which
 * nothing can catch, and limit_given_up() tells why.
 */
#include "base/limit.h"

#include <signal.h>

#include "base/process.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* Between two cancellations, in ms, and how many there are. */
#define CANCEL_AGAIN	1000
#define MAX_CANCELS		10

static TimeLimit current;
static bool active = false;
static TimeoutId timer = MAX_TIMEOUTS;
static volatile sig_atomic_t cancels = 0;
static volatile sig_atomic_t given_up = false;

/* A table whose owner's code could not be cancelled, and ended the worker before this one. */
static Oid	stuck = InvalidOid;

/* In a signal handler. */
static void
cancel(void)
{
	if (++cancels > MAX_CANCELS && process_is_ours)
	{
		given_up = true;
		ProcDiePending = true;
	}
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

/* Whether a limit runs. */
bool
limit_is_active(void)
{
	return active;
}

/* The next limit of this table fails, so that it backs off. */
void
limit_note_stuck(Oid subject)
{
	stuck = subject;
}

static void
refuse_stuck(const TimeLimit *limit)
{
	if (!OidIsValid(stuck) || stuck != limit->subject)
		return;
	stuck = InvalidOid;
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("%s took longer than %s, and could not be cancelled", limit->what, limit->setting),
			 errdetail("The background worker that was at it has ended."),
			 errhint("No function in it may catch query_canceled.")));
}

/* Limits what runs until limit_end(). */
void
limit_begin(TimeLimit *limit)
{
	limit->outer = !active;
	if (active)
		return;
	refuse_stuck(limit);
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, cancel);
	current = *limit;
	active = true;
	cancels = 0;
	if (limit->milliseconds > 0)
		enable_timeout_every(timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
																limit->milliseconds),
							 CANCEL_AGAIN);
}

/* Ends the limit; whether it was reached. */
static bool
stop(void)
{
	if (!active)
		return false;
	disable_timeout(timer, false);
	active = false;
	/* one that came too late must not cancel what comes next */
	if (cancels > 0)
		QueryCancelPending = false;
	return cancels > 0;
}

static char *
message(void)
{
	return psprintf("%s took longer than %s (%d ms)", current.what, current.setting,
					current.milliseconds);
}

/* Fails if the limit was reached, though what ran took no notice of it. */
void
limit_end(const TimeLimit *limit)
{
	if (limit->outer && stop())
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED), errmsg_internal("%s", message())));
}

/* Ends the limit; a cancellation by it is named so. */
void
limit_after_error(ErrorData *error)
{
	if (!stop() || error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		return;
	error->message = message();
	error->detail = NULL;
	error->hint = psprintf("Have it take less time, or raise %s.", current.setting);
	/* not the user's */
	error->funcname = NULL;
}

/* The table for which this process ends, because its owner's code can't be cancelled. */
Oid
limit_given_up(void)
{
	return given_up ? current.subject : InvalidOid;
}
