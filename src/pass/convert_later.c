/*
 * convert_later.c
 *		The later partitions of a table that is becoming partitioned.
 *
 * Invariant: a default partition that is to end where the others begin takes no
 * later row from its CHECK on, so what could come until finish_by has a partition
 * before that. Passes leave the table alone until the end.
 */
#include "pass/convert_later.h"

#include "ddl/convert_bound.h"
#include "pass/create.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

typedef struct Planning
{
	Pass	   *pass;
	Conversion *conversion;
	TablePlan  *table;			/* NULL: nothing is to be made */
	TimeOffset	ahead;			/* how much more than there is */
	bool		beyond_now;		/* or than now */
	int			premake;		/* what that takes; 0: what the policy says */
} Planning;

/* Whether a default partition is to end where the other partitions begin. */
bool
convert_later_is_below(const Conversion *conversion)
{
	ParentInfo	info;

	if (conversion->kind != CONVERSION_PARTITION)
		return false;
	parent_require_by_oid(conversion->parent, AccessShareLock, &info);
	return info.default_relid == conversion->relation && info.nparts > 0;
}

/* As many partitions as it takes to get so far beyond those that are there, or beyond now. */
static void
look_ahead(Policy *policy, const ParentInfo *info, CalTime now, TimeOffset ahead, bool beyond_now)
{
	PlanPolicy	plan;
	CalTime		until;
	CalTime		lower;
	CalTime		upper;

	policy_plan(policy, info->kind, &plan);
	if (beyond_now || !plan_covered_until(now, info->bounds, info->nparts, &until))
		until = now;
	if (until >= now + FAR_FUTURE)
		return;
	while (cal_floor(&plan.cal, now, &plan.interval, &lower) &&
		   cal_add(&plan.cal, lower, &plan.interval, policy->premake + 1, &upper) &&
		   upper < until + ahead)
		policy->premake++;
}

static void
plan_step(void *arg)
{
	Planning   *planning = (Planning *) arg;
	Conversion *conversion = planning->conversion;
	List	   *policies = policy_load(conversion->parent);
	Policy	   *policy;
	ParentInfo	info;

	if (policies == NIL)
		return;
	policy = (Policy *) linitial(policies);
	if (planning->premake > 0)
		policy->premake = planning->premake;
	else if (planning->ahead > 0)
	{
		parent_require_by_oid(conversion->parent, AccessShareLock, &info);
		look_ahead(policy, &info, policy_key_time(policy, info.kind, planning->pass->now),
				   planning->ahead, planning->beyond_now);
		planning->premake = policy->premake;
	}
	planning->table = table_plan_make(policy, planning->pass->now);
}

/* How long it may take: the longer, the more there is to be read. */
static void
look_step(void *arg)
{
	Planning   *planning = (Planning *) arg;

	if (planning->conversion->finish_by == 0 && convert_later_is_below(planning->conversion))
		planning->ahead = convert_bound_days(planning->conversion->relation) * USECS_PER_DAY;
}

static void
note_step(void *arg)
{
	Planning   *planning = (Planning *) arg;
	Conversion *conversion = planning->conversion;

	if (!conversion_lock(conversion))
		return;
	conversion->finish_by = planning->pass->now + planning->ahead;
	conversion_note_bound(conversion);
}

/* Before the first step: makes what could be needed until the last one; whether it is there. */
ErrorData *
convert_later_make(Pass *pass, Conversion *conversion, bool *made)
{
	Planning	planning = {pass, conversion};
	ErrorData  *error = attempt_in_transaction(look_step, &planning);

	*made = true;
	if (error != NULL || planning.ahead == 0)
		return error;
	error = attempt_in_transaction(plan_step, &planning);
	if (error != NULL)
		return error;
	if (planning.table != NULL && planning.table->creates != NIL)
	{
		create_missing(pass, list_make1(planning.table));
		error = attempt_in_transaction(plan_step, &planning);
		if (error != NULL)
			return error;
		*made = planning.table == NULL || planning.table->creates == NIL;
	}
	return *made ? attempt_in_transaction(note_step, &planning) : NULL;
}

/*
 * While a foreign key to the table is validated, its other table is locked so that no
 * partition can be made: how long that may take.
 */
static void
look_at_references_step(void *arg)
{
	Planning   *planning = (Planning *) arg;
	ListCell   *cell;

	planning->beyond_now = true;
	foreach(cell, parent_referencing_tables(planning->conversion->parent))
	{
		Oid			relid = lfirst_oid(cell);
		int64		days = get_rel_relkind(relid) == RELKIND_RELATION ? convert_bound_days(relid) : 1;

		planning->ahead += days * USECS_PER_DAY;
	}
}

/* After the last step: what the policy says, and what could come while foreign keys are validated. */
ErrorData *
convert_later_finish(Pass *pass, const Conversion *conversion)
{
	Planning	planning = {pass, (Conversion *) conversion};
	ErrorData  *error = attempt_in_transaction(look_at_references_step, &planning);

	if (error == NULL)
		error = attempt_in_transaction(plan_step, &planning);

	if (error == NULL && planning.table != NULL)
		create_missing(pass, list_make1(planning.table));
	return error;
}
