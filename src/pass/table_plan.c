/*
 * table_plan.c
 *		What a table needs, as of one moment.
 *
 * Invariant: reads the catalogs and changes nothing.
 */
#include "pass/table_plan.h"

#include "access/table.h"
#include "base/settings.h"
#include "catalog/names.h"
#include "utils/timestamp.h"

static void
add_action(const PlanAction *action, void *arg)
{
	TablePlan  *table = (TablePlan *) arg;

	if (action->kind == PLAN_CREATE)
	{
		PlanBound  *bound = (PlanBound *) palloc(sizeof(PlanBound));

		*bound = action->bound;
		/* a date's crack would be a day */
		if (table->info.kind->has_time &&
			plan_is_crack(bound, table->info.bounds, table->info.nparts))
			table->cracks = lappend(table->cracks, bound);
		else
			table->creates = lappend(table->creates, bound);
	}
	else
	{
		ExpiredPartition *expired = (ExpiredPartition *) palloc(sizeof(ExpiredPartition));

		expired->relid = table->info.relids[action->index];
		expired->bound = action->bound;
		table->expired = lappend(table->expired, expired);
	}
}

/*
 * For how many ms a lock may be waited for that writers of another table notice:
 * not at all while coverage is whole, and the longer the less there is left.
 */
int
table_plan_patience(const PlanPolicy *plan, CalTime now, const ParentInfo *info)
{
	static const int patience[] = {1000, 100, 20, 0, 0};

	return Min(patience[plan_covered_quarters(plan, now, info->bounds, info->nparts)],
			   sagaz_lock_timeout);
}

/*
 * Reads the catalogs and plans; an error if the table can't be managed, and
 * NULL if it is gone.
 */
TablePlan *
table_plan_make(Policy *policy, TimestampTz now)
{
	TablePlan  *table = (TablePlan *) palloc0(sizeof(TablePlan));
	Relation	rel = try_table_open(policy->parent, AccessShareLock);

	if (rel == NULL)
		return NULL;
	table->policy = policy;
	table->table_name = names_display(policy->parent);
	parent_require(rel, &table->info);
	policy_plan(policy, table->info.kind, &table->plan);
	now = policy_key_time(policy, table->info.kind, now);
	table->covered = plan_has_partition(now, table->info.bounds, table->info.nparts);
	switch (plan_partitions(&table->plan, now,
							table->info.bounds, table->info.nparts,
							add_action, table))
	{
		case PLAN_OUT_OF_RANGE:
			ereport(ERROR,
					(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
					 errmsg("partitions of table %s would reach out of the range of timestamps",
							table->table_name),
					 errhint("Look at partition_interval and premake of its policy.")));
			break;
		case PLAN_TOO_MANY:
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("table %s needs more than %d new partitions",
							table->table_name, PLAN_MAX_CREATE),
					 errhint("Close the gap between its partitions with one wide partition, or use a longer partition_interval.")));
			break;
		case PLAN_OVERLAP:
		case PLAN_OK:
			break;
	}
	table_close(rel, NoLock);
	if (table->creates != NIL || table->cracks != NIL)
	{
		table->patience = table_plan_patience(&table->plan, now, &table->info);
		table->ties = parent_tied_tables(policy->parent);
		if (OidIsValid(table->info.default_relid))
			table->ties = lappend_oid(table->ties, table->info.default_relid);
	}
	return table;
}

/* Until when the plan's creations, or else the partitions, take it from here. */
static CalTime
extend(const TablePlan *table, CalTime until)
{
	ListCell   *cell;

	for (int i = 0; i < table->info.nparts; i++)
		if (table->info.bounds[i].lower <= until && table->info.bounds[i].upper > until)
			until = table->info.bounds[i].upper;
	foreach(cell, list_concat_copy(table->cracks, table->creates))
	{
		const PlanBound *bound = (const PlanBound *) lfirst(cell);

		if (bound->lower <= until && bound->upper > until)
			until = bound->upper;
	}
	return until;
}

/* Until when inserts succeed once all that the plan wants is there. */
static CalTime
covered_until(const TablePlan *table, CalTime now)
{
	CalTime		until = extend(table, now);

	for (CalTime before = now; before < until && cal_is_finite(until);)
	{
		before = until;
		until = extend(table, until);
	}
	return until;
}

/*
 * In how many ms the next creation or expiry is due; so many at most. Looked for by
 * halves, since no calendar can be run backwards.
 */
int
table_plan_due(const TablePlan *table, TimestampTz now, int within)
{
	const Policy *policy = table->policy;
	const KeyKind *kind = table->info.kind;
	CalTime		key_now = policy_key_time(policy, kind, now);
	CalTime		covered = covered_until(table, key_now);
	int			before = 0;
	int			after = within;

	while (after - before > 1)
	{
		int			middle = before + (after - before) / 2;
		CalTime		then = policy_key_time(policy, kind, TimestampTzPlusMilliseconds(now, middle));

		if (plan_has_more(&table->plan, key_now, then, covered, table->info.bounds, table->info.nparts))
			after = middle;
		else
			before = middle;
	}
	return after;
}

/* Whether a partition is among those that are expired. */
bool
table_plan_expires(const TablePlan *table, Oid partition)
{
	ListCell   *cell;

	foreach(cell, table->expired)
	{
		if (((ExpiredPartition *) lfirst(cell))->relid == partition)
			return true;
	}
	return false;
}

/* The name that a partition will have, before it is made; for people. */
char *
table_plan_new_name(const TablePlan *table, const PlanBound *bound)
{
	Relation	parent = table_open(table->policy->parent, AccessShareLock);
	char	   *name = names_display_in(RelationGetNamespace(parent),
										names_new_partition(parent, &table->plan.cal,
															plan_nominal_start(&table->plan, bound),
															&table->plan.interval));

	table_close(parent, NoLock);
	return name;
}

/* The rows that a partition has, for people. */
char *
table_plan_bound_details(const TablePlan *table, const PlanBound *bound)
{
	return psprintf("rows from %s", key_display(table->info.kind, bound));
}
