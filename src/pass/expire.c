/*
 * expire.c
 *		Expired partitions: which have to stay, and retiring the others at once.
 *
 * Invariant: whether a partition has to stay is looked at before the first lock
 * that a writer could notice, and again under the locks with which it goes.
 */
#include "pass/expire.h"

#include "base/settings.h"
#include "catalog/hook.h"
#include "catalog/names.h"
#include "catalog/register.h"
#include "catalog/retirement.h"
#include "catalog/times.h"
#include "ddl/drain.h"
#include "ddl/fence.h"
#include "miscadmin.h"
#include "pass/report.h"
#include "shmem/shared.h"

/* Why a table's drops are held back. */
#define HELD			"drops are held back: "
#define HELD_END		"; sagaz_ha.resume_drops() lets them go on"
#define HELD_CLOCK		HELD "no partition was there for the current time, so the clock may be wrong, or maintenance was off for long" HELD_END
#define HELD_RESTORED	HELD "the server was started from a backup, which may be for the rows that have expired" HELD_END

#define RETIRE_OFF		"expired partitions stay, because sagaz_ha.retire is off"

typedef struct StayStep
{
	Pass	   *pass;
	const TablePlan *table;
	Oid			partition;
	char	   *name;			/* NULL: it is gone */
	char	   *reason;			/* NULL: it may go */
	bool		backs_off;
} StayStep;

/*
 * A partition that stays has to take writes, or its unfinished rows could never
 * be finished. The foreground leaves that to the worker, who may just have
 * raised the fence.
 */
static void
let_write(const Pass *pass, Oid partition)
{
	if (!pass->background)
		return;
	fence_lower(partition);
	retirement_end(partition);
}

static void
stay_step(void *arg)
{
	StayStep   *step = (StayStep *) arg;
	const Policy *policy = step->table->policy;
	Subject		subject;

	step->name = names_display(step->partition);
	if (step->name == NULL)
		return;
	subject = report_partition(step->table, step->partition, step->name);
	step->backs_off = report_backs_off(step->pass, &subject);
	step->pass->table_failed = report_table_backs_off(step->pass, &subject, false);
	if (step->backs_off)
		return;
	/* one that can't be called would have it detached, and not let go */
	if (policy->before_drop != NULL)
		(void) hook_require(policy->before_drop, step->table->info.owner);
	step->reason = retire_kept_reason(policy, step->table->info.owner, step->partition);
	if (step->reason == NULL)
		return;
	let_write(step->pass, step->partition);
	report_keep(step->pass, &subject, step->reason);
}

static void
let_write_step(void *arg)
{
	StayStep   *step = (StayStep *) arg;

	let_write(step->pass, step->partition);
}

/* Has a partition that isn't retired now take writes; or else the next pass has it. */
void
expire_take_writes(Pass *pass, Oid partition)
{
	StayStep	step = {pass, NULL, partition};

	if (pass->background && pass->attempt(let_write_step, &step) != NULL)
		pass->deferred = true;
}

/* Whether the partition has to stay, or can't be looked at; it's reported. */
bool
expire_stays(Pass *pass, const TablePlan *table, const ExpiredPartition *expired)
{
	StayStep	step = {pass, table, expired->relid};
	ErrorData  *error = pass->attempt(stay_step, &step);

	if (error != NULL)
	{
		Subject		subject = report_partition(table, expired->relid, step.name);

		report_failure(pass, &subject, error);
		expire_take_writes(pass, expired->relid);
	}
	return error != NULL || step.name == NULL || step.backs_off || step.reason != NULL;
}

/* Records what came of retiring a partition. */
void
expire_report(Pass *pass, const Subject *subject, const RetireResult *result)
{
	switch (result->outcome)
	{
		case RETIRE_DROPPED:
			report_done(pass, subject, ACTION_DROP, result->details);
			break;
		case RETIRE_DETACHED:
			report_done(pass, subject, ACTION_DETACH, result->details);
			break;
		case RETIRE_KEPT:
			report_keep(pass, subject, result->details);
			break;
		case RETIRE_HAS_TO_AGREE:
			report_announced(pass, subject, result->details);
			break;
		case RETIRE_GONE:
		case RETIRE_WAITS:
			break;
	}
}

typedef struct RetireStep
{
	Pass	   *pass;
	const TablePlan *table;
	Oid			partition;
	char	   *name;
} RetireStep;

static void
retire_step(void *arg)
{
	RetireStep *step = (RetireStep *) arg;
	RetireResult result;
	Subject		subject;

	step->name = names_display(step->partition);
	if (step->name == NULL)
		return;
	subject = report_partition(step->table, step->partition, step->name);
	retire_at_once(step->table->policy, step->partition, step->pass->now, &result);
	expire_report(step->pass, &subject, &result);
}

typedef struct KeepStep
{
	Pass	   *pass;
	const Subject *subject;
	const char *details;
} KeepStep;

static void
keep_step(void *arg)
{
	KeepStep   *step = (KeepStep *) arg;

	report_keep(step->pass, step->subject, step->details);
}

/* Retires a partition in one transaction, if its locks are available. */
void
expire_at_once(Pass *pass, const TablePlan *table, const ExpiredPartition *expired)
{
	RetireStep	step = {pass, table, expired->relid};
	ErrorData  *error = pass->attempt(retire_step, &step);
	Subject		subject = report_partition(table, expired->relid, step.name);
	KeepStep	keep = {pass, &subject};

	if (error == NULL)
		return;
	if (error->sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION)
	{
		report_failure(pass, &subject, error);
		return;
	}
	/* rows of another table reference it */
	keep.details = error->message;
	error = pass->attempt(keep_step, &keep);
	if (error != NULL)
		ReThrowError(error);
}

/*
 * The foreground's way: every look at rows came before the first lock. A lock
 * on the parent is replayed on standbys, where it waits for every query on the
 * table; with a worker there, that is left to the worker.
 */
void
expire_foreground(Pass *pass, TablePlan *table)
{
	Subject		subject = report_table(table);
	ListCell   *cell;

	if (table->expired != NIL && shared_is_served(MyDatabaseId) && drain_has_standbys())
	{
		report_defer(pass, &subject,
					 "drops are left to the worker, because standbys follow this server");
		report_leave_expired(pass, table);
		return;
	}
	if (table->expired != NIL && table->policy->before_drop != NULL)
	{
		report_defer(pass, &subject, shared_is_served(MyDatabaseId) ?
					 "drops are left to the worker, which calls before_drop" :
					 "drops need the background worker, which calls before_drop: add sagaz_ha to shared_preload_libraries");
		report_leave_expired(pass, table);
		return;
	}
	report_begin_table(pass, list_length(table->expired));
	foreach(cell, table->expired)
	{
		CHECK_FOR_INTERRUPTS();
		pass->left--;
		expire_at_once(pass, table, (ExpiredPartition *) lfirst(cell));
		if (pass->table_failed)
		{
			report_leave_expired(pass, table);
			break;
		}
	}
	report_begin_table(pass, 0);
}

typedef struct HoldBackStep
{
	Pass	   *pass;
	const TablePlan *table;
} HoldBackStep;

static void
hold_back_step(void *arg)
{
	HoldBackStep *step = (HoldBackStep *) arg;
	Policy	   *policy = step->table->policy;
	TimestampTz now = step->pass->now;
	Subject		subject = report_table(step->table);

	if (policy->restore_to_note != 0)
		(void) register_hold_back_drops(policy, now);
	else if (step->pass->background && !policy->drops_held_back && !step->table->covered &&
			 step->table->expired != NIL && times_any_created(policy->parent))
		policy->drops_held_back = register_hold_back_drops(policy, now);
	if (policy->drops_held_back && step->table->expired != NIL)
		report_defer(step->pass, &subject, policy->restored ? HELD_RESTORED : HELD_CLOCK);
	else if (!sagaz_retire && step->table->expired != NIL)
		report_defer(step->pass, &subject, RETIRE_OFF);
}

/*
 * A clock that jumps ahead makes everything look expired. The sign of it is a
 * table that was maintained, and yet has no partition for now. A server that
 * was restored may have been for the rows that have expired. Only an operator
 * can tell. That of a restore is written for every table, so that standbys know.
 */
bool
expire_drops_are_held_back(Pass *pass, const TablePlan *table)
{
	HoldBackStep step = {pass, table};
	Subject		subject = report_table(table);
	ErrorData  *error;

	if (table->expired == NIL && table->policy->restore_to_note == 0)
		return false;
	error = pass->attempt(hold_back_step, &step);
	if (error != NULL)
		report_failure(pass, &subject, error);
	return error != NULL || table->policy->drops_held_back || !sagaz_retire;
}

typedef struct MayGoStep
{
	const TablePlan *table;
	bool		may_go;
} MayGoStep;

/* A table that was maintained and isn't covered is looked at by a creating pass first. */
static void
may_go_step(void *arg)
{
	MayGoStep  *step = (MayGoStep *) arg;
	Oid			parent = step->table->policy->parent;
	List	   *policies = policy_load(parent);

	step->may_go = policies != NIL && !((Policy *) linitial(policies))->drops_held_back &&
		(step->table->covered || !times_any_created(parent));
}

/* Whether the worker that retires may do so with this table, as of after its plan. */
bool
expire_may_go_on(Pass *pass, TablePlan *table)
{
	MayGoStep	step = {table};

	if (sagaz_retire && pass->attempt(may_go_step, &step) != NULL)
		pass->deferred = true;
	table->policy->drops_held_back = !step.may_go;
	return step.may_go;
}
