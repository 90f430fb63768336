/*
 * preview.c
 *		What a pass would do, without doing it.
 *
 * Invariant: nothing is changed and nothing recorded. Each look is undone if it
 * fails, as a pass would undo it.
 */
#include "pass/preview.h"

#include "base/settings.h"
#include "catalog/hook.h"
#include "catalog/names.h"
#include "ddl/retire.h"
#include "pass/table_plan.h"

typedef struct PlanStep
{
	Policy	   *policy;
	TimestampTz at;
	char	   *name;			/* NULL: the table is gone */
	TablePlan  *table;
} PlanStep;

static void
plan_step(void *arg)
{
	PlanStep   *step = (PlanStep *) arg;

	step->name = names_display(step->policy->parent);
	if (step->name != NULL)
		step->table = table_plan_make(step->policy, step->at);
}

typedef struct LookStep
{
	const TablePlan *table;
	Oid			partition;
	char	   *name;
	char	   *reason;			/* why it would stay; NULL: it may go */
} LookStep;

static void
look_step(void *arg)
{
	LookStep   *step = (LookStep *) arg;

	step->name = names_display(step->partition);
	if (step->name != NULL && step->table->policy->before_drop != NULL)
		(void) hook_require(step->table->policy->before_drop, step->table->info.owner);
	if (step->name != NULL)
		step->reason = retire_kept_reason(step->table->policy, step->table->info.owner,
										  step->partition);
}

/* What would be done with an expired partition. */
static void
preview_expired(const TablePlan *table, const ExpiredPartition *expired, Record *record)
{
	Policy	   *policy = table->policy;
	LookStep	step = {table, expired->relid};
	ErrorData  *error = attempt_in_subtransaction(look_step, &step);
	Action		retire = policy->action == RETENTION_DROP ? ACTION_DROP : ACTION_DETACH;

	record->subject.partition = expired->relid;
	record->subject.partition_name = step.name;
	if (error != NULL)
	{
		record->action = ACTION_ERROR;
		record->details = attempt_error_text(error);
	}
	else if (step.reason != NULL)
	{
		record->action = ACTION_KEEP;
		record->details = step.reason;
	}
	else
	{
		record->action = policy->drops_held_back || !sagaz_retire ? ACTION_DEFER : retire;
		record->details = table_plan_bound_details(table, &expired->bound);
	}
	if (error == NULL && step.reason == NULL && record->action == ACTION_DEFER)
		record->details = psprintf("%s is held back until %s: %s", history_action_name(retire),
								   policy->drops_held_back ? "sagaz_ha.resume_drops()" :
								   "sagaz_ha.retire is on",
								   record->details);
}

/* The partition that would be widened, unless it has too many rows. */
static char *
partition_before(const ParentInfo *info, const PlanBound *hole)
{
	for (int i = 0; i < info->nparts; i++)
		if (info->bounds[i].upper == hole->lower)
			return names_display(info->relids[i]);
	return NULL;
}

static void
preview_table(Policy *policy, TimestampTz at, PassEmit emit, void *arg)
{
	PlanStep	step = {policy, at};
	ErrorData  *error = attempt_in_subtransaction(plan_step, &step);
	Record		record = {{policy->parent}, ACTION_ERROR};
	ListCell   *cell;

	if (step.name == NULL || (error == NULL && step.table == NULL))
		return;
	record.subject.table_name = step.name;
	if (error != NULL)
	{
		record.details = attempt_error_text(error);
		emit(&record, arg);
		return;
	}
	foreach(cell, step.table->creates)
	{
		PlanBound  *bound = (PlanBound *) lfirst(cell);

		record.action = ACTION_CREATE;
		record.subject.partition_name = table_plan_new_name(step.table, bound);
		record.details = table_plan_bound_details(step.table, bound);
		emit(&record, arg);
	}
	foreach(cell, step.table->cracks)
	{
		const PlanBound *bound = (const PlanBound *) lfirst(cell);

		record.action = ACTION_ATTACH;
		record.subject.partition_name = partition_before(&step.table->info, bound);
		record.details = psprintf("widened over the hole of %s",
								  table_plan_bound_details(step.table, bound));
		emit(&record, arg);
	}
	foreach(cell, step.table->expired)
	{
		preview_expired(step.table, (ExpiredPartition *) lfirst(cell), &record);
		emit(&record, arg);
	}
}

/* Tells what a pass at this time would do. */
void
preview(TimestampTz at, PassEmit emit, void *arg)
{
	List	   *policies = policy_load(InvalidOid);
	ListCell   *cell;

	foreach(cell, policies)
		preview_table((Policy *) lfirst(cell), at, emit, arg);
}
