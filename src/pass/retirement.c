/*
 * retirement.c
 *		The worker's way of retiring partitions: no lock that a client notices.
 *
 *		expired -> announced -> fenced -> detach pending -> gone
 *
 * Invariant: each arrow is a transaction, and each state can be told from the
 * catalogs and sagaz_ha.retirement, so the next pass goes on after a crash
 * anywhere. That a pending detach is ours, and not begun by a session that wants
 * to keep the rows, is committed with the detach's own first transaction.
 */
#include "pass/retirement.h"

#include "base/process.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/retirement.h"
#include "ddl/fence.h"
#include "ddl/locks.h"
#include "ddl/toplevel.h"
#include "miscadmin.h"
#include "pass/expire.h"
#include "pass/report.h"
#include "shmem/progress.h"
#include "shmem/proxy_lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"

/* Longest wait for a lock of a detach, in ms, and so of the wait that ends it. */
#define DETACH_LOCK_TIMEOUT		"50"

/* So often, and after so many ms, a pass looks again before it leaves it. */
#define FINISH_TRIES	10
#define FINISH_NAP		100

/* What the history says of a partition that is being retired. */
#define RETIRING		"retiring: waiting for transactions that may see it"

/* Every step begins with what is true now. */
static void
refresh(TablePlan *table)
{
	parent_require_by_oid(table->policy->parent, AccessShareLock, &table->info);
}

typedef struct FinalizeStep
{
	Pass	   *pass;
	TablePlan  *table;
	Oid			partition;
	char	   *name;
	bool		backs_off;		/* it has failed so lately that it is left
								 * alone */
	bool		ours;
	TimestampTz since;			/* the detach is pending */
	bool		event_triggers; /* run, when it is taken back */
	RetireResult result;
} FinalizeStep;

/* The policy as it is now: it may have changed since the pass began. */
static const Policy *
policy_now(const TablePlan *table)
{
	List	   *policies = policy_load(table->policy->parent);

	return policies == NIL ? table->policy : (const Policy *) linitial(policies);
}

static void
finalize_step(void *arg)
{
	FinalizeStep *step = (FinalizeStep *) arg;
	TimestampTz now = step->pass->now;
	Retirement	retirement;
	Subject		subject;
	bool		known;

	refresh(step->table);
	step->partition = step->table->info.pending_relid;
	if (!OidIsValid(step->partition))
		return;
	step->name = names_display(step->partition);
	subject = report_partition(step->table, step->partition, step->name);
	step->backs_off = report_backs_off(step->pass, &subject);
	if (step->backs_off)
		return;
	known = retirement_find(step->partition, &retirement);
	step->ours = known && retirement.detach_is_ours;
	step->since = known ? retirement.since : now;
	retire_finalize(policy_now(step->table), step->partition, step->ours, step->since, now,
					&step->result);
	if (step->result.outcome == RETIRE_WAITS)
		return;
	expire_report(step->pass, &subject, &step->result);
	stop_point("finalize:before_commit");
}

/* Who has a lock on the partition; NULL: nobody any more. */
static char *
holders(Oid partition)
{
	SqlSession	session;
	char	   *names;

	sql_begin(&session, GetUserId());
	names = locks_holders(partition, true);
	if (names != NULL)
		names = MemoryContextStrdup(session.caller, names);
	sql_end(&session);
	return names;
}

/* Writes nothing when it is as it was at the last look. */
static void
defer_step(void *arg)
{
	FinalizeStep *step = (FinalizeStep *) arg;
	Subject		subject = report_partition(step->table, step->partition, step->name);
	char	   *whom = step->result.waits_for;

	if (whom == NULL && (whom = holders(step->partition)) == NULL)
		whom = "a lock on the partition";
	retirement_note_wait(step->table->policy->parent, step->partition, whom, step->pass->now);
	report_waits(step->pass, &subject, psprintf("waiting for %s", whom));
}

/* Looks again while it is only for a moment: with no lock and no snapshot. */
static ErrorData *
try_to_finalize(FinalizeStep *step)
{
	for (int tries = 0;; tries++)
	{
		ErrorData  *error;

		step->result.outcome = RETIRE_GONE;
		error = step->pass->attempt(finalize_step, step);

		/*
		 * a lock that only lasts as long as a drain is waited for in the same
		 * way
		 */
		if (error != NULL && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE &&
			OidIsValid(step->partition))
		{
			step->result.outcome = RETIRE_WAITS;
			step->result.waits_for = NULL;
			step->result.details = error->message;
			error = NULL;
		}
		if (tries == FINISH_TRIES || error != NULL || step->result.outcome != RETIRE_WAITS)
			return error;
		process_nap(FINISH_NAP);
	}
}

static void
take_back_step(void *arg)
{
	FinalizeStep *step = (FinalizeStep *) arg;

	retire_take_back(step->table->policy, step->partition, step->since, step->pass->now,
					 step->event_triggers);
	stop_point("take_back:before_commit");
}

/*
 * Attaches a partition again that can be detached, but not ended: its rows must not
 * stay invisible. False if that is refused as well.
 */
static bool
take_back(FinalizeStep *step)
{
	ErrorData  *error;

	step->event_triggers = true;
	error = step->pass->attempt(take_back_step, step);
	if (error != NULL && !report_is_for_later(error))
	{
		step->event_triggers = false;
		error = step->pass->attempt(take_back_step, step);
	}
	stop_point("take_back:after_commit");
	return error == NULL;
}

/*
 * Finishes the table's pending detach, ours or another's. False when it has to
 * wait: there can be no other one until then.
 */
static bool
finish_pending(Pass *pass, TablePlan *table)
{
	FinalizeStep step = {pass, table};
	ErrorData  *error = try_to_finalize(&step);
	Subject		subject = report_partition(table, step.partition, step.name);
	bool		taken_back = false;

	if (step.backs_off)
		return false;
	if (error == NULL && step.result.outcome != RETIRE_WAITS)
	{
		stop_point("finalize:after_commit");
		return true;
	}
	if (error == NULL)
	{
		progress_waiting_for(step.result.details);
		error = pass->attempt(defer_step, &step);
	}
	if (error != NULL && step.ours && !report_is_for_later(error))
		taken_back = take_back(&step);
	if (error != NULL)
		report_failed_retirement(pass, &subject, error);
	/* an error backs off by itself */
	pass->waiting = pass->waiting || error == NULL ||
		error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	return taken_back;
}

typedef struct AnnounceStep
{
	Pass	   *pass;
	TablePlan  *table;
	Oid			partition;
	char	   *name;
	char	   *detach;			/* the statement */
	bool		gone;
	bool		at_once;		/* it can't be detached concurrently */
} AnnounceStep;

/*
 * The first look: is it still there, and how can it be detached? DETACH
 * CONCURRENTLY is refused beside a default partition and by Citus, and where
 * foreign keys are, it would wait for locks on other tables.
 */
static void
announce_step(void *arg)
{
	AnnounceStep *step = (AnnounceStep *) arg;
	const ParentInfo *info = &step->table->info;
	Retirement	retirement;
	Subject		subject;

	/* the detach's commit, which comes after it, waits for the disk */
	attempt_commit_lazily();
	refresh(step->table);
	step->name = names_display(step->partition);
	step->gone = parent_find(info, step->partition) < 0;
	step->at_once = info->distributed || OidIsValid(info->default_relid) ||
		parent_referenced_tables(info->relid) != NIL ||
		parent_referencing_tables(info->relid) != NIL;
	if (step->gone || step->at_once)
		return;
	if (!retirement_find(step->partition, &retirement))
	{
		subject = report_partition(step->table, step->partition, step->name);
		retirement_begin(info->relid, step->partition, step->pass->now);
		report_announced(step->pass, &subject, RETIRING);
	}
	step->detach = psprintf("ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY",
							names_qualified(info->relid), names_qualified(step->partition));
	stop_point("announce:before_commit");
}

typedef struct FenceStep
{
	Oid			owner;
	Oid			partition;
} FenceStep;

static void
fence_step(void *arg)
{
	FenceStep  *step = (FenceStep *) arg;

	attempt_commit_lazily();
	fence_raise(step->owner, step->partition);
	retirement_note_fence(step->partition);
	stop_point("fence:before_commit");
}

static void
end_vacuum_step(void *arg)
{
	SqlSession	session;

	sql_begin(&session, GetUserId());
	locks_end_vacuums_of_partition(*(Oid *) arg, true);
	sql_end(&session);
}

static void
note_detach_step(void *arg)
{
	retirement_note_detach(*(Oid *) arg);
}

/*
 * The detach's first transaction, and nothing of its second: that waits for
 * the launcher's lock until the timeout ends it, and should the launcher be
 * gone, it is undone. The error is returned, unless it is the one that was
 * wanted.
 */
static ErrorData *
detach(Pass *pass, TablePlan *table, Oid partition, const char *statement, bool *detached)
{
	ErrorData  *error;

	*detached = false;

	/*
	 * in the detach it would be waited for with a lock on the parent; once
	 * cancelled, an autovacuum doesn't come back at once
	 */
	error = pass->attempt(end_vacuum_step, &partition);
	if (error != NULL)
		return error;
	if (!proxy_lock_acquire(table->policy->parent))
	{
		pass->waiting = true;
		return NULL;
	}
	SetConfigOption("lock_timeout", DETACH_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION);
	error = toplevel_execute_first(statement, table->info.owner, note_detach_step, &partition,
								   detached);
	SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	proxy_lock_release();
	return *detached ? NULL : error;
}

/* Whether it was dropped, detached or renamed concurrently since it was announced. */
static void
recheck_step(void *arg)
{
	AnnounceStep *step = (AnnounceStep *) arg;
	const ParentInfo *info = &step->table->info;

	refresh(step->table);
	step->gone = (parent_find(info, step->partition) < 0 && info->pending_relid != step->partition) ||
		strcmp(names_display(step->partition), step->name) != 0;
}

/*
 * Has writes to the partition refused, and looks again whether it has to stay: now
 * that can't change any more, for every writer has committed.
 */
static ErrorData *
fence(Pass *pass, const TablePlan *table, const ExpiredPartition *expired, bool *stays)
{
	FenceStep	step = {table->info.owner, expired->relid};
	ErrorData  *error;

	*stays = false;
	if (table->policy->unfinished_when == NULL)
		return NULL;
	error = pass->attempt(fence_step, &step);
	if (error != NULL)
		return error;
	stop_point("fence:after_commit");
	*stays = expire_stays(pass, table, expired);
	return NULL;
}

/* From the announcement to the pending detach; *waits: not all the way now. */
static ErrorData *
begin(Pass *pass, TablePlan *table, const ExpiredPartition *expired,
	  AnnounceStep *step, bool *ended)
{
	ErrorData  *error = pass->attempt(announce_step, step);
	bool		detached;

	*ended = false;
	stop_point("announce:after_commit");
	if (error != NULL)
		return error;
	if (step->gone || step->at_once)
	{
		*ended = true;
		if (!step->gone)
			expire_at_once(pass, table, expired);
		return NULL;
	}
	error = fence(pass, table, expired, ended);
	if (error != NULL || *ended)
		return error;
	stop_point("detach:before");
	error = detach(pass, table, expired->relid, step->detach, &detached);
	/* else a lock was unavailable: that's for the next pass */
	if (detached)
		stop_point("detach:after_first_commit");
	return error;
}

/* Retires one expired partition as far as it goes now; false: it waits. */
static bool
retire_partition(Pass *pass, TablePlan *table, const ExpiredPartition *expired)
{
	AnnounceStep step = {pass, table, expired->relid};
	bool		ended;
	ErrorData  *error = begin(pass, table, expired, &step, &ended);
	bool		known;
	Subject		subject;

	if (error == NULL)
		return ended || finish_pending(pass, table);
	/* then the next pass does what is to be done with it now */
	known = step.name != NULL && pass->attempt(recheck_step, &step) == NULL;
	if (known && step.gone)
	{
		pass->deferred = true;
		return true;
	}
	subject = report_partition(table, expired->relid, step.name);
	report_failed_retirement(pass, &subject, error);
	if (known && !report_is_for_later(error) && table->info.pending_relid != expired->relid)
		expire_take_writes(pass, expired->relid);
	return true;
}

/* Goes on with what is being retired, and begins with what is expired. */
void
retirement_go_on(Pass *pass, TablePlan *table)
{
	int			done = 0;
	ListCell   *cell;

	if (table->policy->drops_held_back)
		return;
	if (table->expired != NIL || OidIsValid(table->info.pending_relid))
		progress_phase("retiring", table->table_name);
	if (OidIsValid(table->info.pending_relid) && !finish_pending(pass, table))
	{
		report_leave_expired(pass, table);
		return;
	}
	report_begin_table(pass, list_length(table->expired));
	foreach(cell, table->expired)
	{
		CHECK_FOR_INTERRUPTS();
		progress_count(done++, list_length(table->expired));
		pass->left--;
		if (pass->table_failed || !retire_partition(pass, table, (ExpiredPartition *) lfirst(cell)))
		{
			report_leave_expired(pass, table);
			break;
		}
	}
	report_begin_table(pass, 0);
}
