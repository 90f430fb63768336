/*
 * protect.c
 *		Partitions that aren't dropped by accident: guarding them against TRUNCATE,
 *		and dropping one on purpose.
 *
 * Invariant: a lock that a writer would notice is tried, or waited for as long as
 * the trigger's own; what can't be had now is for the next pass.
 */
#include "pass/protect.h"

#include "base/settings.h"
#include "catalog/names.h"
#include "ddl/protect.h"
#include "ddl/retire.h"
#include "miscadmin.h"
#include "pass/report.h"
#include "utils/timestamp.h"

/*
 * Longest wait for the locks of the triggers, in ms. In the foreground for all of a
 * table together, because they are kept.
 */
#define GUARD_PATIENCE	20

/* Between two tries for the locks with which a partition goes, in ms. */
#define DROP_NAP	10

typedef struct GuardStep
{
	Pass	   *pass;
	const TablePlan *table;
	Oid			partition;
	char	   *name;			/* NULL: it is gone */
	TimestampTz until;			/* the lock is waited for */
} GuardStep;

static TimestampTz
guard_until(void)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), GUARD_PATIENCE);
}

/* Without an OID: a problem that has one belongs to the process that retires. */
static Subject
guard_subject(const TablePlan *table, const char *name)
{
	return report_partition(table, InvalidOid, name);
}

static void
guard_step(void *arg)
{
	GuardStep  *step = (GuardStep *) arg;
	Subject		subject;

	step->name = names_display(step->partition);
	if (step->name == NULL)
		return;
	subject = guard_subject(step->table, step->name);
	if (!report_backs_off(step->pass, &subject))
		protect_guard(step->partition, step->until);
}

typedef struct FindStep
{
	Oid			parent;
	List	   *partitions;
} FindStep;

static void
find_step(void *arg)
{
	FindStep   *step = (FindStep *) arg;

	step->partitions = protect_unguarded(step->parent);
}

/* Has TRUNCATE refused of the partitions of a protected table that are new. */
void
protect_table(Pass *pass, const TablePlan *table)
{
	FindStep	found = {table->policy->parent, NIL};
	GuardStep	step = {pass, table};
	ErrorData  *error;
	ListCell   *cell;

	if (!table->policy->protect || table->info.distributed)
		return;
	error = pass->attempt(find_step, &found);
	if (error != NULL)
		ReThrowError(error);
	step.until = guard_until();
	foreach(cell, found.partitions)
	{
		Subject		subject;

		CHECK_FOR_INTERRUPTS();
		if (pass->background)
			step.until = guard_until();
		step.partition = lfirst_oid(cell);
		step.name = NULL;
		error = pass->attempt(guard_step, &step);
		if (error == NULL)
			continue;
		subject = guard_subject(table, step.name);
		report_failure(pass, &subject, error);
	}
}

static void
guard_now_step(void *arg)
{
	GuardStep  *step = (GuardStep *) arg;

	protect_guard(step->partition, step->until);
}

/* The same without a pass: what is in use is left to the next one. */
void
protect_at_once(Oid parent)
{
	List	   *partitions = protect_unguarded(parent);
	GuardStep	step = {.until = guard_until()};
	ListCell   *cell;

	foreach(cell, partitions)
	{
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		step.partition = lfirst_oid(cell);
		error = attempt_in_subtransaction(guard_now_step, &step);
		if (error != NULL && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ReThrowError(error);
	}
}

typedef struct DropStep
{
	const Policy *policy;
	Oid			partition;
	TimestampTz now;
	RetireResult result;
} DropStep;

static void
drop_step(void *arg)
{
	DropStep   *step = (DropStep *) arg;

	retire_at_once(step->policy, step->partition, step->now, &step->result);
}

/* Tries for sagaz_ha.lock_timeout: in a queue, others would stall behind it. */
static void
drop_when_available(DropStep *step)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), sagaz_lock_timeout);
	ErrorData  *error;

	while ((error = attempt_in_subtransaction(drop_step, step)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE || GetCurrentTimestamp() >= until)
			ReThrowError(error);
		pg_usleep(DROP_NAP * 1000L);
	}
}

/*
 * Drops a partition with its rows, whatever the policy wants of expired ones; a
 * function that is to be asked before is not, as it needs a process of its own.
 */
void
protect_drop(const Policy *policy, Oid partition, TimestampTz now)
{
	Policy		dropping = *policy;
	DropStep	step = {&dropping, partition, now};
	Record		record = {{policy->parent, names_display(policy->parent), partition,
	names_display(partition)}, ACTION_DROP};

	dropping.action = RETENTION_DROP;
	dropping.archive_schema = NULL;
	dropping.before_drop = NULL;
	drop_when_available(&step);
	if (step.result.outcome == RETIRE_KEPT)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("partition %s has to stay: %s", record.subject.partition_name,
						step.result.details),
				 errhint("Finish its rows, or release it with sagaz_ha.release_partition().")));
	if (step.result.outcome != RETIRE_DROPPED)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is no partition of table %s with a range", record.subject.partition_name,
						record.subject.table_name),
				 errhint("SET sagaz_ha.protect = off, and use DROP TABLE.")));
	record.details = psprintf("by drop_partition(): %s", step.result.details);
	history_add(&record, now);
}
