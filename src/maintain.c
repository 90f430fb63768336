/*
 * maintain.c
 *		One pass of maintenance: policy, catalog, plan, execute, journal.
 *
 * Invariant: every creation of every table comes before the first drop of
 * any, and whether rows are unfinished is looked at before the first lock that
 * a writer could notice. Each action is a subtransaction: what fails is
 * reported, and the rest goes on.
 */
#include "maintain.h"

#include "access/table.h"
#include "access/xact.h"
#include "execute.h"
#include "identity.h"
#include "miscadmin.h"
#include "sagaz_ha.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/*
 * Runs a step in a subtransaction. Returns NULL, or the error that undid it.
 * Being cancelled is no failure of the step and goes on up.
 */
ErrorData *
maintain_attempt(void (*step) (void *), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		step(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	return error;
}

char *
maintain_error_details(const ErrorData *error)
{
	return psprintf("%s: %s%s%s%s%s", unpack_sql_state(error->sqlerrcode),
					error->message,
					error->detail ? " DETAIL: " : "", error->detail ? error->detail : "",
					error->hint ? " HINT: " : "", error->hint ? error->hint : "");
}

static void
add_action(const PlanAction *action, void *arg)
{
	TablePlan  *table = (TablePlan *) arg;

	if (action->kind == PLAN_CREATE)
	{
		PlanBound  *bound = (PlanBound *) palloc(sizeof(PlanBound));

		*bound = action->bound;
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

/* Reads the catalogs and plans; an error if the table can't be managed. */
TablePlan *
maintain_plan_table(Policy *policy, TimestampTz now)
{
	TablePlan  *table = (TablePlan *) palloc0(sizeof(TablePlan));
	Relation	rel = table_open(policy->parent, AccessShareLock);

	table->policy = policy;
	table->table_name = partition_display_name(policy->parent);
	partition_require_parent(rel, &table->info);
	policy_plan(policy, table->info.key_type, &table->plan);
	switch (plan_partitions(&table->plan,
							policy_key_time(policy, table->info.key_type, now),
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
	return table;
}

/* One pass's state while it runs. */
typedef struct Pass
{
	TimestampTz now;
	MaintainEmit emit;
	void	   *arg;
} Pass;

/* The arguments and the result of a step that maintain_attempt() runs. */
typedef struct Step
{
	Policy	   *policy;
	TimestampTz now;
	TablePlan  *table;
	const PlanBound *bound;
	const ExpiredPartition *expired;
	Oid			created;
	int64		unfinished;
	RetireResult retired;
} Step;

static void
plan_step(void *arg)
{
	Step	   *step = (Step *) arg;

	step->table = maintain_plan_table(step->policy, step->now);
}

static void
plan_own_step(void *arg)
{
	identity_require_owner(((Step *) arg)->policy->parent);
	plan_step(arg);
}

static void
create_step(void *arg)
{
	Step	   *step = (Step *) arg;

	step->created = execute_create(step->table->policy, step->bound);
}

static void
count_step(void *arg)
{
	Step	   *step = (Step *) arg;

	step->unfinished = execute_count_unfinished(step->table->policy,
												step->table->info.owner,
												step->expired->relid);
}

static void
retire_step(void *arg)
{
	Step	   *step = (Step *) arg;

	execute_retire(step->table->policy, step->expired->relid, &step->retired);
}

static void
report(Pass *pass, const char *action, Oid parent, const char *table_name,
	   Oid partition, const char *partition_name, const char *details)
{
	JournalEntry entry = {action, parent, table_name, partition, partition_name, details};

	(void) journal_record(&entry);
	pass->emit(&entry, pass->arg);
}

/* A lock that could not be had is for later; all else is an error. */
static void
report_failure(Pass *pass, Oid parent, const char *table_name, Oid partition,
			   const char *partition_name, const ErrorData *error)
{
	bool		defer = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;

	report(pass, defer ? ACTION_DEFER : ACTION_ERROR, parent, table_name,
		   partition, partition_name,
		   defer ? error->message : maintain_error_details(error));
}

static char *
future_name(const TablePlan *table, const PlanBound *bound)
{
	Relation	parent = try_table_open(table->policy->parent, AccessShareLock);
	char	   *name = NULL;

	if (parent != NULL)
	{
		name = pstrdup(quote_identifier(partition_name(parent, &table->plan.cal,
													   bound->lower, &table->plan.interval)));
		if (RelationGetNamespace(parent) != sagaz_extension_schema())
			name = psprintf("%s.%s",
							quote_identifier(get_namespace_name(RelationGetNamespace(parent))),
							name);
		table_close(parent, NoLock);
	}
	return name;
}

static void
create_partitions(Pass *pass, TablePlan *table)
{
	Step		step = {.table = table};
	ListCell   *cell;

	foreach(cell, table->creates)
	{
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		step.bound = (PlanBound *) lfirst(cell);
		error = maintain_attempt(create_step, &step);
		if (error != NULL)
			report_failure(pass, table->policy->parent, table->table_name, InvalidOid,
						   future_name(table, step.bound), error);
		else if (OidIsValid(step.created))
			report(pass, ACTION_CREATE, table->policy->parent, table->table_name,
				   step.created, partition_display_name(step.created),
				   psprintf("rows from %s",
							partition_bound_display(table->info.key_type, step.bound)));
	}
}

/* The expired partitions that may go; the others are reported as kept. */
static List *
retirable_partitions(Pass *pass, TablePlan *table)
{
	Step		step = {.table = table};
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, table->expired)
	{
		char	   *name;
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		step.expired = (ExpiredPartition *) lfirst(cell);
		name = partition_display_name(step.expired->relid);
		if (name == NULL)
			continue;
		error = maintain_attempt(count_step, &step);
		if (error != NULL)
			report_failure(pass, table->policy->parent, table->table_name,
						   step.expired->relid, name, error);
		else if (step.unfinished > 0)
			report(pass, ACTION_KEEP, table->policy->parent, table->table_name,
				   step.expired->relid, name,
				   execute_unfinished_details(step.unfinished));
		else
			result = lappend(result, lfirst(cell));
	}
	return result;
}

static void
retire_partition(Pass *pass, TablePlan *table, const ExpiredPartition *expired)
{
	static const char *const actions[] = {
		[RETIRE_DROPPED] = ACTION_DROP,
		[RETIRE_DETACHED] = ACTION_DETACH,
		[RETIRE_KEPT] = ACTION_KEEP
	};
	Step		step = {.table = table, .expired = expired};
	char	   *name = partition_display_name(expired->relid);
	ErrorData  *error;

	if (name == NULL)
		return;
	error = maintain_attempt(retire_step, &step);
	if (error != NULL && error->sqlerrcode == ERRCODE_FOREIGN_KEY_VIOLATION)
		report(pass, ACTION_KEEP, table->policy->parent, table->table_name,
			   expired->relid, name, error->message);
	else if (error != NULL)
		report_failure(pass, table->policy->parent, table->table_name,
					   expired->relid, name, error);
	else if (step.retired.outcome != RETIRE_GONE)
		report(pass, actions[step.retired.outcome], table->policy->parent,
			   table->table_name, expired->relid, name, step.retired.details);
}

/* The plan of every table that has one; those that don't are reported. */
static List *
plan_tables(Pass *pass, List *policies)
{
	List	   *tables = NIL;
	ListCell   *cell;

	foreach(cell, policies)
	{
		Step		step = {.policy = (Policy *) lfirst(cell), .now = pass->now};
		ErrorData  *error = maintain_attempt(plan_own_step, &step);

		if (error == NULL)
			tables = lappend(tables, step.table);
		else
		{
			char	   *name = partition_display_name(step.policy->parent);

			/* a table that was dropped meanwhile has no policy any more either */
			if (name != NULL)
				report_failure(pass, step.policy->parent, name, InvalidOid, NULL, error);
		}
	}
	return tables;
}

/*
 * A pass in the caller's transaction, over one table or all. Drops come last
 * and only if their locks can be had at once.
 */
void
maintain_foreground(Oid parent, MaintainEmit emit, void *arg)
{
	Pass		pass = {sagaz_now(), emit, arg};
	List	   *tables = plan_tables(&pass, policy_load(parent));
	ListCell   *cell;
	ListCell   *inner;

	foreach(cell, tables)
		create_partitions(&pass, (TablePlan *) lfirst(cell));
	foreach(cell, tables)
	{
		TablePlan  *table = (TablePlan *) lfirst(cell);

		table->expired = retirable_partitions(&pass, table);
	}
	foreach(cell, tables)
	{
		TablePlan  *table = (TablePlan *) lfirst(cell);

		foreach(inner, table->expired)
		{
			CHECK_FOR_INTERRUPTS();
			retire_partition(&pass, table, (ExpiredPartition *) lfirst(inner));
		}
	}
}

/* What a pass at this time would do. Nothing is changed and nothing recorded. */
void
maintain_plan(TimestampTz at, MaintainEmit emit, void *arg)
{
	List	   *policies = policy_load(InvalidOid);
	ListCell   *cell;
	ListCell   *inner;

	foreach(cell, policies)
	{
		Step		step = {.policy = (Policy *) lfirst(cell), .now = at};
		ErrorData  *error = maintain_attempt(plan_step, &step);
		JournalEntry entry = {ACTION_ERROR, step.policy->parent};

		entry.table_name = partition_display_name(step.policy->parent);
		if (entry.table_name == NULL)
			continue;
		if (error != NULL)
		{
			entry.details = maintain_error_details(error);
			emit(&entry, arg);
			continue;
		}
		foreach(inner, step.table->creates)
		{
			PlanBound  *bound = (PlanBound *) lfirst(inner);

			entry.action = ACTION_CREATE;
			entry.partition_name = future_name(step.table, bound);
			entry.details = psprintf("rows from %s",
									 partition_bound_display(step.table->info.key_type, bound));
			emit(&entry, arg);
		}
		foreach(inner, step.table->expired)
		{
			step.expired = (ExpiredPartition *) lfirst(inner);
			entry.partition = step.expired->relid;
			entry.partition_name = partition_display_name(step.expired->relid);
			error = maintain_attempt(count_step, &step);
			entry.details = error ? maintain_error_details(error) :
				step.unfinished > 0 ? execute_unfinished_details(step.unfinished) :
				psprintf("rows from %s",
						 partition_bound_display(step.table->info.key_type,
												 &step.expired->bound));
			entry.action = error ? ACTION_ERROR : step.unfinished > 0 ? ACTION_KEEP :
				strcmp(step.policy->retention_action, "drop") == 0 ? ACTION_DROP :
				ACTION_DETACH;
			emit(&entry, arg);
		}
	}
}
