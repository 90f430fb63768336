/*
 * attempt.c
 *		Running a step so that its failure undoes the step and nothing else.
 *
 * Invariant: this is the one place that catches errors. Memory that a step
 * allocates is the caller's, and outlives the step's transaction.
 */
#include "base/attempt.h"

#include "access/xact.h"
#include "base/identity.h"
#include "base/limit.h"
#include "base/process.h"
#include "base/settings.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

typedef struct Attempt
{
	AttemptStep step;
	void	   *arg;
} Attempt;

/* Runs the step; after an error, what undoes it. */
static ErrorData *
catch_error(AttemptStep step, void *arg, void (*undo) (void))
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;
	bool		limited = limit_is_active();

	PG_TRY();
	{
		step(arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		/* an outer limit goes on, and its cancellation goes up to who set it */
		if (!limited)
			limit_after_error(error);

		/*
		 * a timeout's error leaves other interrupts pending, but not this
		 * flag
		 */
		InterruptPending = true;
		undo();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return error;
}

/*
 * Whether the session's own query was cancelled, or ran out of time. A table's
 * owner can raise an error that has the same code.
 */
static bool
is_cancelled(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		error->funcname != NULL && strcmp(error->funcname, "ProcessInterrupts") == 0;
}

/* A lock that another session keeps on one table must not delay other tables. */
static void
limit_lock_waits(void)
{
	identity_set_local("lock_timeout", psprintf("%d", sagaz_lock_timeout));
}

static void
subtransaction_step(void *arg)
{
	Attempt    *attempt = (Attempt *) arg;

	attempt->step(attempt->arg);
	ReleaseCurrentSubTransaction();
}

static void
timed_step(void *arg)
{
	Attempt    *attempt = (Attempt *) arg;

	limit_lock_waits();
	attempt->step(attempt->arg);
}

/* In a subtransaction, with the lock_timeout that holds outside of it. */
ErrorData *
attempt_in_subtransaction_untimed(AttemptStep step, void *arg)
{
	Attempt		attempt = {step, arg};
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *error;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	error = catch_error(subtransaction_step, &attempt, RollbackAndReleaseCurrentSubTransaction);
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL && is_cancelled(error))
		ReThrowError(error);
	return error;
}

/* In a subtransaction that waits for no lock longer than sagaz_ha.lock_timeout. */
ErrorData *
attempt_in_subtransaction(AttemptStep step, void *arg)
{
	Attempt		attempt = {step, arg};

	return attempt_in_subtransaction_untimed(timed_step, &attempt);
}

static void
transaction_step(void *arg)
{
	Attempt    *attempt = (Attempt *) arg;
	MemoryContext context = CurrentMemoryContext;

	StartTransactionCommand();
	limit_lock_waits();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
	attempt->step(attempt->arg);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* In a background process: in a transaction of its own. */
ErrorData *
attempt_in_transaction(AttemptStep step, void *arg)
{
	Attempt		attempt = {step, arg};

	process_reload();
	CHECK_FOR_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	return attempt_at_top_level(transaction_step, &attempt);
}

/* In a background process: a step that begins and ends transactions itself. */
ErrorData *
attempt_at_top_level(AttemptStep step, void *arg)
{
	return catch_error(step, arg, AbortCurrentTransaction);
}

/*
 * Has this transaction's commit wait for no disk. A crash may undo it, but then also
 * all that was committed later: so only for what the next pass would do again.
 */
void
attempt_commit_lazily(void)
{
	identity_set_local("synchronous_commit", "off");
}

/*
 * Whether an error's detail can quote values of rows, which not everybody who
 * reads the history or the log may see.
 */
static bool
quotes_rows(int sqlerrcode)
{
	int			class = ERRCODE_TO_CATEGORY(sqlerrcode);

	return class == ERRCODE_TO_CATEGORY(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION) ||
		class == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) ||
		class == ERRCODE_TO_CATEGORY(ERRCODE_WITH_CHECK_OPTION_VIOLATION);
}

/* An error for people: SQLSTATE, message, hint, and detail unless it could quote rows. */
char *
attempt_error_text(const ErrorData *error)
{
	const char *hint = error->hint;
	const char *detail = quotes_rows(error->sqlerrcode) ? NULL : error->detail;

	/* the server can't know that it is the default partition that is checked */
	if (hint == NULL && error->sqlerrcode == ERRCODE_CHECK_VIOLATION)
		hint = "Move the rows of this time out of the default partition.";
	return psprintf("%s: %s%s%s%s%s", unpack_sql_state(error->sqlerrcode),
					error->message,
					detail ? " DETAIL: " : "", detail ? detail : "",
					hint ? " HINT: " : "", hint ? hint : "");
}
