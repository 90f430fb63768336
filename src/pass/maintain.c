/*
 * maintain.c
 *		One pass of maintenance: policy, catalog, plan, execute, journal.
 *
 * Invariant: every creation of every table comes before the first drop of
 * any, and whether rows are unfinished is looked at before the first lock that
 * a writer could notice. Each action is a transaction or a subtransaction: what
 * fails is reported, and the rest goes on.
 */
#include "pass/maintain.h"

#include "access/table.h"
#include "ddl/drain.h"
#include "ddl/execute.h"
#include "ddl/fence.h"
#include "base/identity.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "shmem/progress.h"
#include "ddl/reattach.h"
#include "base/settings.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* Why an expired partition without unfinished rows stays. */
#define BROUGHT_BACK	"brought back by reattach_partition()"

/* Why a table's drops are held back. */
#define HELD			"drops are held back: "
#define HELD_END		"; sagaz_ha.resume_drops() lets them go on"
#define HELD_CLOCK		HELD "no partition was there for the current time, so the clock may be wrong, or maintenance was off for long" HELD_END
#define HELD_RESTORED	HELD "the server was started from a backup, which may be for the rows that have expired" HELD_END

typedef struct Attempt
{
	MaintainStep step;
	void	   *arg;
} Attempt;

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

/* A lock that somebody keeps on one table must not hold up all the others. */
static void
attempted_step(void *arg)
{
	Attempt    *attempt = (Attempt *) arg;

	identity_set_local("lock_timeout", psprintf("%d", sagaz_lock_timeout));
	attempt->step(attempt->arg);
}

/*
 * Runs a step in a subtransaction. Returns NULL, or the error that undid it.
 * Being cancelled is no failure of the step and goes on up.
 */
ErrorData *
maintain_attempt(MaintainStep step, void *arg)
{
	Attempt		attempt = {step, arg};
	ErrorData  *error = execute_attempt(attempted_step, &attempt);

	if (error != NULL && is_cancelled(error))
		ReThrowError(error);
	return error;
}

char *
maintain_error_details(const ErrorData *error)
{
	const char *hint = error->hint;

	/* the server can't know what stands in the way */
	if (hint == NULL && error->sqlerrcode == ERRCODE_CHECK_VIOLATION)
		hint = "Move the rows of this time out of the default partition.";
	return psprintf("%s: %s%s%s%s%s", unpack_sql_state(error->sqlerrcode),
					error->message,
					error->detail ? " DETAIL: " : "", error->detail ? error->detail : "",
					hint ? " HINT: " : "", hint ? hint : "");
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

/*
 * Reads the catalogs and plans; an error if the table can't be managed, and
 * NULL if it is gone.
 */
TablePlan *
maintain_plan_table(Policy *policy, TimestampTz now)
{
	TablePlan  *table = (TablePlan *) palloc0(sizeof(TablePlan));
	Relation	rel = try_table_open(policy->parent, AccessShareLock);
	CalTime		until;

	if (rel == NULL)
		return NULL;
	table->policy = policy;
	table->table_name = partition_display_name(policy->parent);
	partition_require_parent(rel, &table->info);
	policy_plan(policy, table->info.key_type, &table->plan);
	now = policy_key_time(policy, table->info.key_type, now);
	table->covered = plan_covered_until(now, table->info.bounds, table->info.nparts, &until);
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
	return table;
}

/* The arguments and the result of a step. */
typedef struct Step
{
	Pass	   *pass;
	Policy	   *policy;
	TimestampTz now;
	TablePlan  *table;
	List	   *policies;
	Oid			parent;
	const PlanBound *bound;
	const ExpiredPartition *expired;
	Oid			partition;
	char	   *name;
	int64		unfinished;
	bool		brought_back;
	const ErrorData *error;
} Step;

static void
load_step(void *arg)
{
	Step	   *step = (Step *) arg;

	step->policies = policy_load(step->parent);
}

static void
plan_step(void *arg)
{
	Step	   *step = (Step *) arg;

	/* a table that was dropped meanwhile has no policy any more either */
	step->name = partition_display_name(step->policy->parent);
	if (step->name != NULL)
		step->table = maintain_plan_table(step->policy, step->now);
}

static void
plan_own_step(void *arg)
{
	Step	   *step = (Step *) arg;

	step->name = partition_display_name(step->policy->parent);
	if (step->name != NULL)
		identity_require_owner(step->policy->parent);
	plan_step(arg);
}

/*
 * Records what was done or found, in the transaction that did it, and tells
 * the caller and the log.
 */
void
maintain_report(Pass *pass, const TablePlan *table, const char *action,
				Oid partition, const char *partition_name, const char *details)
{
	JournalEntry entry = {action, table->policy->parent, table->table_name,
	partition, partition_name, details};
	bool		fresh = journal_record(&entry);

	pass->emit(&entry, pass->arg);
	if (!fresh || !pass->background)
		return;
	progress_action();
	ereport(LOG,
			(errmsg("sagaz_ha: %s %s: %s", action,
					partition_name ? partition_name : table->table_name, details)));
}

static void
failure_step(void *arg)
{
	Step	   *step = (Step *) arg;
	const ErrorData *error = step->error;
	/* in use: by an open cursor or a pending trigger of this very session */
	bool		defer = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_OBJECT_IN_USE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
	char	   *details = defer ? pstrdup(error->message) : maintain_error_details(error);

	/* somebody dropped it meanwhile, which is why it failed */
	if (get_rel_name(step->table->policy->parent) == NULL ||
		(OidIsValid(step->partition) && get_rel_name(step->partition) == NULL))
		return;
	if (defer)
	{
		step->pass->deferred = true;
		progress_waiting_for(details);
	}
	else
		progress_error(details);
	maintain_report(step->pass, step->table, defer ? ACTION_DEFER : ACTION_ERROR,
					step->partition, step->name, details);
}

/*
 * A lock that could not be had is for later; all else is an error, unless there
 * is nothing left that it is about.
 */
void
maintain_report_failure(Pass *pass, const TablePlan *table, Oid partition,
						const char *partition_name, const ErrorData *error)
{
	Step		step = {.pass = pass, .table = (TablePlan *) table, .error = error};
	ErrorData  *second;

	step.partition = partition;
	step.name = (char *) partition_name;
	second = pass->attempt(failure_step, &step);
	if (second != NULL)
		ReThrowError(second);
}

/* The name that a partition will have, before it is made. */
static char *
future_name(const TablePlan *table, const PlanBound *bound)
{
	Relation	parent = table_open(table->policy->parent, AccessShareLock);
	Oid			schema = RelationGetNamespace(parent);
	const char *name = quote_identifier(partition_name(parent, &table->plan.cal, bound->lower,
													   &table->plan.interval));
	char	   *result = schema == sagaz_extension_schema() ? pstrdup(name) :
		psprintf("%s.%s", quote_identifier(get_namespace_name(schema)), name);

	table_close(parent, NoLock);
	return result;
}

static char *
bound_details(const TablePlan *table, const PlanBound *bound)
{
	return psprintf("rows from %s", partition_bound_display(table->info.key_type, bound));
}

static void
create_step(void *arg)
{
	Step	   *step = (Step *) arg;
	Oid			created;

	step->name = future_name(step->table, step->bound);
	created = execute_create(step->table->policy, step->bound);
	if (OidIsValid(created))
		maintain_report(step->pass, step->table, ACTION_CREATE, created,
						partition_display_name(created),
						bound_details(step->table, step->bound));
	stop_point("create:before_commit");
}

static void
create_all_step(void *arg)
{
	Step	   *step = (Step *) arg;
	ListCell   *cell;

	foreach(cell, step->table->creates)
	{
		CHECK_FOR_INTERRUPTS();
		step->bound = (PlanBound *) lfirst(cell);
		create_step(step);
	}
}

static void
collect_entry(const JournalEntry *entry, void *arg)
{
	List	  **entries = (List **) arg;
	JournalEntry *copy = (JournalEntry *) palloc(sizeof(JournalEntry));

	*copy = *entry;
	*entries = lappend(*entries, copy);
}

/*
 * All partitions in one subtransaction, because the end of each looks at every
 * lock of the transaction and every new file. Tells of them when they are there
 * to stay; false if they aren't.
 */
static bool
create_together(const Pass *pass, TablePlan *table)
{
	List	   *entries = NIL;
	Pass		quiet = *pass;
	Step		step = {.pass = &quiet, .table = table};
	ListCell   *cell;

	quiet.emit = collect_entry;
	quiet.arg = &entries;
	if (pass->attempt(create_all_step, &step) != NULL)
		return false;
	foreach(cell, entries)
		pass->emit((JournalEntry *) lfirst(cell), pass->arg);
	return true;
}

static void
create_partitions(Pass *pass, TablePlan *table)
{
	Step		step = {.pass = pass, .table = table};
	int			done = 0;
	ListCell   *cell;

	if (!pass->background && list_length(table->creates) > 1 &&
		create_together(pass, table))
		return;
	if (table->creates != NIL)
		progress_phase("creating", table->table_name);
	foreach(cell, table->creates)
	{
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		progress_count(done++, list_length(table->creates));
		step.bound = (PlanBound *) lfirst(cell);
		step.name = NULL;
		error = pass->attempt(create_step, &step);
		stop_point("create:after_commit");
		if (error != NULL)
			maintain_report_failure(pass, table, InvalidOid, step.name, error);
	}
}

/*
 * A partition that stays has to take writes, or its unfinished rows could
 * never be finished: whatever had kept an earlier pass from lowering the
 * fence, this one does, in the transaction that says KEEP. The foreground
 * leaves that to the worker, who may just have raised it.
 */
static void
let_write(Step *step)
{
	if (step->pass != NULL && step->pass->background)
		fence_lower(step->expired->relid);
}

static void
unfence_step(void *arg)
{
	let_write((Step *) arg);
}

static void
count_step(void *arg)
{
	Step	   *step = (Step *) arg;

	step->name = partition_display_name(step->expired->relid);
	if (step->name == NULL)
		return;
	step->brought_back = reattach_is_brought_back(step->expired->relid);
	if (step->brought_back)
		let_write(step);
	if (step->brought_back && step->pass != NULL)
		maintain_report(step->pass, step->table, ACTION_KEEP, step->expired->relid,
						step->name, BROUGHT_BACK);
	if (step->brought_back)
		return;
	step->unfinished = execute_count_unfinished(step->table->policy,
												step->table->info.owner,
												step->expired->relid);
	if (step->unfinished > 0)
		let_write(step);
	if (step->unfinished > 0 && step->pass != NULL)
		maintain_report(step->pass, step->table, ACTION_KEEP, step->expired->relid,
						step->name, execute_unfinished_details(step->unfinished));
}

/* Whether the partition has to stay, or can't be looked at; it's reported. */
bool
maintain_keep_unfinished(Pass *pass, TablePlan *table, const ExpiredPartition *expired)
{
	Step		step = {.pass = pass, .table = table, .expired = expired};
	ErrorData  *error = pass->attempt(count_step, &step);

	if (error != NULL)
	{
		maintain_report_failure(pass, table, expired->relid, step.name, error);
		/* if that fails too, the next pass comes here again */
		if (pass->background && pass->attempt(unfence_step, &step) != NULL)
			pass->deferred = true;
	}
	return error != NULL || step.name == NULL || step.brought_back || step.unfinished > 0;
}

static void
retire_step(void *arg)
{
	static const char *const actions[] = {
		[RETIRE_DROPPED] = ACTION_DROP,
		[RETIRE_DETACHED] = ACTION_DETACH,
		[RETIRE_KEPT] = ACTION_KEEP
	};
	Step	   *step = (Step *) arg;
	RetireResult result;

	step->name = partition_display_name(step->expired->relid);
	if (step->name == NULL)
		return;
	execute_retire(step->table->policy, step->expired->relid, &result);
	if (result.outcome != RETIRE_GONE)
		maintain_report(step->pass, step->table, actions[result.outcome],
						step->expired->relid, step->name, result.details);
}

static void
referenced_step(void *arg)
{
	Step	   *step = (Step *) arg;

	maintain_report(step->pass, step->table, ACTION_KEEP, step->expired->relid,
					step->name, step->error->message);
}

/* Retires a partition in one transaction, if its locks can be had at once. */
void
maintain_retire_at_once(Pass *pass, TablePlan *table, const ExpiredPartition *expired)
{
	Step		step = {.pass = pass, .table = table, .expired = expired};
	ErrorData  *error = pass->attempt(retire_step, &step);

	if (error == NULL)
		return;
	step.error = error;
	if (error->sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION)
		maintain_report_failure(pass, table, expired->relid, step.name, error);
	else if ((error = pass->attempt(referenced_step, &step)) != NULL)
		ReThrowError(error);
}

/*
 * The foreground's way: every look at rows came before the first lock. A lock
 * on the parent is replayed on standbys, where it waits for every query on the
 * table; with a worker there, that is left to the worker.
 */
static void
retire_foreground(Pass *pass, TablePlan *table)
{
	bool		leave = table->expired != NIL && shared_is_served(MyDatabaseId) &&
		drain_has_standbys();
	ListCell   *cell;

	if (leave)
	{
		maintain_report(pass, table, ACTION_DEFER, InvalidOid, NULL,
						"drops are left to the worker, because standbys follow this server");
		return;
	}
	foreach(cell, table->expired)
	{
		CHECK_FOR_INTERRUPTS();
		maintain_retire_at_once(pass, table, (ExpiredPartition *) lfirst(cell));
	}
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
		ErrorData  *error;
		TablePlan	failed = {.policy = step.policy};

		CHECK_FOR_INTERRUPTS();
		error = pass->attempt(plan_own_step, &step);
		if (error == NULL && step.table != NULL)
			tables = lappend(tables, step.table);
		if (error == NULL)
			continue;
		failed.table_name = step.name ? step.name : psprintf("%u", step.policy->parent);
		maintain_report_failure(pass, &failed, InvalidOid, NULL, error);
	}
	return tables;
}

static void
hold_step(void *arg)
{
	Step	   *step = (Step *) arg;
	Policy	   *policy = step->table->policy;

	if (policy->restore_to_note != 0)
		(void) policy_hold_drops(policy);
	else if (step->pass->background && !policy->drops_held && !step->table->covered &&
			 step->table->expired != NIL && journal_has_created(policy->parent))
		policy->drops_held = policy_hold_drops(policy);
	if (policy->drops_held && step->table->expired != NIL)
		maintain_report(step->pass, step->table, ACTION_DEFER, InvalidOid, NULL,
						policy->restored ? HELD_RESTORED : HELD_CLOCK);
}

/*
 * A clock that jumps ahead makes everything look expired. The sign of it is a
 * table that was maintained, and yet has no partition for now. A server that
 * was restored may have been for the rows that have expired. Only an operator
 * can tell. That of a restore is written for every table, so that standbys know.
 */
static bool
drops_are_held(Pass *pass, TablePlan *table)
{
	Step		step = {.pass = pass, .table = table};
	ErrorData  *error;

	if (table->expired == NIL && table->policy->restore_to_note == 0)
		return false;
	error = pass->attempt(hold_step, &step);
	if (error != NULL)
		maintain_report_failure(pass, table, InvalidOid, NULL, error);
	return error != NULL || table->policy->drops_held;
}

/* A pass over one table, or over all. */
void
maintain_run(Pass *pass, Oid parent)
{
	Step		step = {.parent = parent};
	ErrorData  *error = pass->attempt(load_step, &step);
	List	   *tables;
	ListCell   *cell;

	if (error != NULL)
		ReThrowError(error);
	tables = plan_tables(pass, step.policies);
	foreach(cell, tables)
	{
		TablePlan  *table = (TablePlan *) lfirst(cell);

		if (drops_are_held(pass, table))
			table->expired = NIL;
		create_partitions(pass, table);
	}
	foreach(cell, tables)
	{
		TablePlan  *table = (TablePlan *) lfirst(cell);
		ListCell   *inner;

		foreach(inner, table->expired)
		{
			CHECK_FOR_INTERRUPTS();
			if (maintain_keep_unfinished(pass, table, (ExpiredPartition *) lfirst(inner)))
				table->expired = foreach_delete_current(table->expired, inner);
		}
	}
	foreach(cell, tables)
		pass->retire(pass, (TablePlan *) lfirst(cell));
}

/* A pass in the caller's transaction. */
void
maintain_foreground(Oid parent, MaintainEmit emit, void *arg)
{
	Pass		pass = {settings_now(), maintain_attempt, retire_foreground, emit, arg};

	maintain_run(&pass, parent);
}

/* What would be done with an expired partition. */
static void
plan_expired(Step *step, JournalEntry *entry)
{
	Policy	   *policy = step->table->policy;
	const char *retire = strcmp(policy->retention_action, "drop") == 0 ? ACTION_DROP : ACTION_DETACH;
	ErrorData  *error;
	bool		stays;

	step->unfinished = 0;
	error = maintain_attempt(count_step, step);
	stays = step->brought_back || step->unfinished > 0;
	entry->partition = step->expired->relid;
	entry->partition_name = step->name;
	entry->action = error ? ACTION_ERROR :
		stays ? ACTION_KEEP :
		policy->drops_held ? ACTION_DEFER : retire;
	entry->details = error ? maintain_error_details(error) :
		step->brought_back ? BROUGHT_BACK :
		step->unfinished > 0 ? execute_unfinished_details(step->unfinished) :
		bound_details(step->table, &step->expired->bound);
	if (error == NULL && !stays && policy->drops_held)
		entry->details = psprintf("%s is held back until sagaz_ha.resume_drops(): %s",
								  retire, entry->details);
}

static void
plan_table(Policy *policy, TimestampTz at, MaintainEmit emit, void *arg)
{
	Step		step = {.policy = policy, .now = at};
	ErrorData  *error = maintain_attempt(plan_step, &step);
	JournalEntry entry = {ACTION_ERROR, policy->parent};
	ListCell   *cell;

	if (step.name == NULL || (error == NULL && step.table == NULL))
		return;
	entry.table_name = step.name;
	if (error != NULL)
	{
		entry.details = maintain_error_details(error);
		emit(&entry, arg);
		return;
	}
	foreach(cell, step.table->creates)
	{
		PlanBound  *bound = (PlanBound *) lfirst(cell);

		entry.action = ACTION_CREATE;
		entry.partition_name = future_name(step.table, bound);
		entry.details = bound_details(step.table, bound);
		emit(&entry, arg);
	}
	foreach(cell, step.table->expired)
	{
		step.expired = (ExpiredPartition *) lfirst(cell);
		plan_expired(&step, &entry);
		emit(&entry, arg);
	}
}

/* What a pass at this time would do. Nothing is changed and nothing recorded. */
void
maintain_plan(TimestampTz at, MaintainEmit emit, void *arg)
{
	List	   *policies = policy_load(InvalidOid);
	ListCell   *cell;

	foreach(cell, policies)
		plan_table((Policy *) lfirst(cell), at, emit, arg);
}
