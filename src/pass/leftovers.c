/*
 * leftovers.c
 *		Retirements that an earlier pass has begun and not ended.
 *
 * Invariant: a partition that isn't to be retired any more takes writes again. Our
 * own detach is never finished but by ending the table; one that another session
 * has detached, or made another table's partition, is left alone.
 */
#include "pass/leftovers.h"

#include "base/settings.h"
#include "catalog/names.h"
#include "catalog/retirement.h"
#include "ddl/fence.h"
#include "ddl/reattach.h"
#include "miscadmin.h"
#include "pass/expire.h"
#include "pass/report.h"
#include "shmem/progress.h"
#include "utils/lsyscache.h"

typedef struct LeftoversStep
{
	List	   *retirements;
} LeftoversStep;

static void
load_step(void *arg)
{
	((LeftoversStep *) arg)->retirements = retirement_load();
}

typedef struct LeftoverStep
{
	Pass	   *pass;
	const Retirement *retirement;
	char	   *table_name;		/* NULL: the table is gone */
	char	   *name;
	bool		standalone;		/* our own detach was finished */
	char	   *stays;			/* and yet it has to be a partition; why */
} LeftoverStep;

/* The partition stays. */
static void
give_up(const LeftoverStep *step, Action action, const char *details)
{
	Subject		subject = {step->retirement->parent, step->table_name,
	step->retirement->partition, step->name};

	fence_lower(step->retirement->partition);
	retirement_end(step->retirement->partition);
	if (step->table_name != NULL)
		report_done(step->pass, &subject, action, details);
}

/* It is a table by itself: ours to end, or another session's. */
static void
end_standalone(LeftoverStep *step, const Policy *policy, const ParentInfo *info)
{
	const Retirement *retirement = step->retirement;
	Subject		subject = {retirement->parent, step->table_name, retirement->partition, step->name};
	RetireResult result;

	if (!retirement->detach_is_ours || get_rel_relispartition(retirement->partition))
	{
		give_up(step, ACTION_DETACH, "somebody else detached it: it's left alone");
		return;
	}
	step->standalone = true;
	stop_point("end:before_lock");
	retire_detached(policy, info, retirement->partition, step->pass->now, &result);
	if (result.outcome == RETIRE_KEPT)
		step->stays = result.details;
	else
		expire_report(step->pass, &subject, &result);
	stop_point("end:before_commit");
}

/* Whether it is the policy's function that has to be called, which is another step. */
static bool
waits_for_function(const Retirement *retirement, const Policy *policy)
{
	return retirement->phase == RETIREMENT_BEFORE_DROP && policy->before_drop != NULL &&
		!get_rel_relispartition(retirement->partition);
}

static void
leftover_step(void *arg)
{
	LeftoverStep *step = (LeftoverStep *) arg;
	const Retirement *retirement = step->retirement;
	Oid			partition = retirement->partition;
	Subject		subject = {retirement->parent, NULL, partition};
	List	   *policies = policy_load(retirement->parent);
	Policy	   *policy;
	TablePlan  *table;

	step->name = names_display(partition);
	step->table_name = names_display(retirement->parent);
	if (step->name == NULL)
	{
		retirement_end(partition);
		return;
	}
	subject.table_name = step->table_name;
	subject.partition_name = step->name;
	if (step->table_name != NULL && report_backs_off(step->pass, &subject))
		return;
	if (policies == NIL)
	{
		give_up(step, ACTION_KEEP, "its table is not managed any more");
		return;
	}
	policy = (Policy *) linitial(policies);
	table = table_plan_make(policy, step->pass->now);
	if (table == NULL || table->info.pending_relid == partition)
		return;
	if (waits_for_function(retirement, policy))
	{
		if (policy->drops_held_back || !sagaz_retire ||
			retire_is_expired(policy, &table->info, partition, step->pass->now))
			report_leave(step->pass, &subject);
		else
			step->stays = RETIRE_NOT_EXPIRED;
		return;
	}
	if (policy->drops_held_back || !sagaz_retire)
	{
		if (parent_find(&table->info, partition) >= 0)
			fence_lower(partition);
		return;
	}
	if (parent_find(&table->info, partition) < 0)
		end_standalone(step, policy, &table->info);
	/* attached again by hand */
	else if (retirement->phase >= RETIREMENT_BEFORE_DROP)
		give_up(step, ACTION_KEEP, "attached again");
	/* attached: fine as long as it is still expired */
	else if (!table_plan_expires(table, partition))
		give_up(step, ACTION_KEEP, RETIRE_NOT_EXPIRED);
}

/* The partition that it was: its rows must not stay invisible. */
static void
bring_back_step(void *arg)
{
	LeftoverStep *step = (LeftoverStep *) arg;
	const Retirement *retirement = step->retirement;
	Subject		subject = {retirement->parent, step->table_name, retirement->partition, step->name};

	(void) reattach_partition(retirement->partition, retirement->parent);
	retirement_end(retirement->partition);
	if (step->stays != NULL)
		report_done(step->pass, &subject, ACTION_KEEP, step->stays);
}

/* What failed is reported; if it can't be brought back either, it is tried again as it is. */
static void
fail(LeftoverStep *step, const ErrorData *error)
{
	const Retirement *retirement = step->retirement;
	Subject		subject = {retirement->parent, step->table_name, retirement->partition, step->name};

	if (step->standalone && step->stays == NULL && !report_is_for_later(error))
		(void) step->pass->attempt(bring_back_step, step);
	report_failed_retirement(step->pass, &subject, error);
}

/*
 * Looks at what an earlier worker left between two transactions: partitions that
 * are fenced though they don't expire any more, or whose table is not managed any
 * more.
 */
void
leftovers_end(Pass *pass)
{
	LeftoversStep step = {NIL};
	ErrorData  *error = pass->attempt(load_step, &step);
	ListCell   *cell;

	if (error != NULL)
		ReThrowError(error);
	foreach(cell, step.retirements)
	{
		LeftoverStep one = {pass, (Retirement *) lfirst(cell)};

		CHECK_FOR_INTERRUPTS();
		error = pass->attempt(leftover_step, &one);
		if (error == NULL && one.stays != NULL)
			error = pass->attempt(bring_back_step, &one);
		if (error != NULL && one.table_name != NULL && one.name != NULL)
			fail(&one, error);
	}
}
