/*
 * create.c
 *		A pass makes what is missing; a partition is made by hand.
 *
 * Invariant: what can't be made is reported, and the others are made all the
 * same.
 */
#include "pass/create.h"

#include "access/table.h"
#include "catalog/names.h"
#include "catalog/times.h"
#include "ddl/create.h"
#include "ddl/unused.h"
#include "ddl/widen.h"
#include "miscadmin.h"
#include "pass/report.h"
#include "shmem/progress.h"
#include "utils/timestamp.h"

/* So many ms at most until a lock is tried again that is worth waiting for. */
#define URGENT_NAP	8000

/*
 * So many partitions are attached under one lock on what their tables are tied to:
 * each takes a millisecond or so, for which writers of that wait.
 */
#define BATCH	32

/*
 * So many partitions of a table that nobody uses are made in one transaction of the
 * worker: then a commit costs next to nothing, and locks are left for others.
 */
#define BULK	64

/* What one table gets in a transaction, and what came of it. */
typedef struct TableStep
{
	const TablePlan *table;
	List	   *creates;		/* of PlanBound * */
	List	   *rest;			/* the same, for later transactions */
	List	   *made;			/* of NewPartition * */
	List	   *tried;			/* of char *, names of those that were begun */
	int			left;			/* how many are missing beside the first of
								 * these */
	bool		backs_off;		/* with an error that all would meet */
	bool		are_cracks;		/* holes that a neighbour should close */
	bool		ended;			/* the rest would fail as well */
	bool		in_bulk;		/* only if nobody uses the table */
	PlaceToCreate *place;		/* what was taken for that; NULL: it is in use */
	int			done;			/* how many of creates were looked at */
	bool		wanted;			/* somebody waits for a table that was taken */
} TableStep;

typedef struct CreateStep
{
	Pass	   *pass;
	List	   *tables;			/* of TableStep * */
	int			patience;
} CreateStep;

/* Whether a hole was closed by widening a partition. */
static bool
close_crack(Pass *pass, const TablePlan *table, const PlanBound *bound)
{
	Oid			widened = widen_over_hole(table->policy, bound);
	Subject		subject;

	if (!OidIsValid(widened))
		return false;
	subject = report_partition(table, widened, names_display(widened));
	report_done(pass, &subject, ACTION_ATTACH,
				psprintf("widened over the hole of %s", table_plan_bound_details(table, bound)));
	return true;
}

/*
 * Whether partitions may be made under a lock that keeps clients out. The foreground
 * can't give it back before its caller's transaction ends, so only if no writer could
 * succeed anyway: there is no partition for now.
 */
static bool
may_be_in_bulk(const Pass *pass, const TablePlan *table)
{
	return table->ties == NIL && list_length(table->creates) > BATCH &&
		(pass->background || !table->covered);
}

static void
take_table(Pass *pass, TableStep *step)
{
	step->place = create_take_unused(step->table->policy);
	if (step->place != NULL)
		pass->taken = lappend_oid(pass->taken, step->table->policy->parent);
}

/* Whether it is made now, but for attaching it. */
static bool
make_table(Pass *pass, const TableStep *step, const PlanBound *bound, int patience,
		   NewPartition *new)
{
	if (step->are_cracks && close_crack(pass, step->table, bound))
		return false;
	if (step->place != NULL)
		return create_in_place(step->table->policy, step->place, bound, new);
	return create_table(step->table->policy, bound, patience, new);
}

/* Makes a table's missing partitions, but for attaching them. */
static void
make_tables(Pass *pass, TableStep *step, int patience)
{
	int			left = list_length(step->creates) + list_length(step->rest);
	ListCell   *cell;

	if (step->in_bulk)
		take_table(pass, step);
	if (step->in_bulk && step->place == NULL)
		return;
	foreach(cell, step->creates)
	{
		PlanBound  *bound = (PlanBound *) lfirst(cell);
		char	   *name = table_plan_new_name(step->table, bound);
		Subject		subject = report_partition(step->table, InvalidOid, name);
		NewPartition *new = (NewPartition *) palloc(sizeof(NewPartition));

		CHECK_FOR_INTERRUPTS();
		/* the worker gives its lock back, so each time it makes one */
		step->wanted = (step->done > 0 || !pass->background) && unused_is_wanted(pass->taken);
		if (step->wanted)
			return;
		left--;
		step->backs_off = report_table_backs_off(pass, &subject, true);
		if (step->backs_off)
			return;
		step->done++;
		if (report_backs_off(pass, &subject))
			continue;
		if (step->tried == NIL)
			step->left = left;
		step->tried = lappend(step->tried, name);
		if (make_table(pass, step, bound, patience, new))
			step->made = lappend(step->made, new);
		if (step->in_bulk)
			stop_point("create:in_bulk");
	}
}

static void
attach_tables(Pass *pass, const TableStep *step, TimestampTz until)
{
	ListCell   *cell;

	foreach(cell, step->made)
	{
		NewPartition *new = (NewPartition *) lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		if (step->place == NULL)
			create_attach(step->table->policy, new, until);
		times_note_creation(step->table->policy->parent, new->relid, pass->now);
	}
}

static void
report_tables(Pass *pass, const TableStep *step)
{
	ListCell   *cell;

	foreach(cell, step->made)
	{
		NewPartition *new = (NewPartition *) lfirst(cell);
		Subject		subject = report_partition(step->table, new->relid, names_display(new->relid));

		report_done(pass, &subject, ACTION_CREATE,
					table_plan_bound_details(step->table, &new->bound));
	}
}

/* Every table is made before the first lock that others may notice is taken. */
static void
create_step(void *arg)
{
	CreateStep *step = (CreateStep *) arg;
	TimestampTz until;
	ListCell   *cell;

	if (step->pass->background)
		attempt_commit_lazily();
	foreach(cell, step->tables)
		make_tables(step->pass, (TableStep *) lfirst(cell), step->patience);
	/* all locks of all tables together are waited for so long */
	until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), step->patience);
	foreach(cell, step->tables)
		attach_tables(step->pass, (TableStep *) lfirst(cell), until);
	foreach(cell, step->tables)
		report_tables(step->pass, (TableStep *) lfirst(cell));
	stop_point("create:before_commit");
}

static void
collect_record(const Record *record, void *arg)
{
	List	  **records = (List **) arg;
	Record	   *copy = (Record *) palloc(sizeof(Record));

	*copy = *record;
	*records = lappend(*records, copy);
}

/* In one transaction. Tells of the partitions when they are there to stay. */
static ErrorData *
create_together(Pass *pass, List *tables, int patience)
{
	List	   *records = NIL;
	PassEmit	emit = pass->emit;
	void	   *arg = pass->arg;
	CreateStep	step = {pass, tables, patience};
	ErrorData  *error;
	ListCell   *cell;

	if (emit != NULL)
	{
		pass->emit = collect_record;
		pass->arg = &records;
	}
	error = pass->attempt(create_step, &step);
	pass->emit = emit;
	pass->arg = arg;
	stop_point("create:after_commit");
	if (error != NULL)
		return error;
	foreach(cell, records)
		emit((Record *) lfirst(cell), arg);
	return NULL;
}

/* The name of a partition that was tried, or NULL. */
static char *
name_of(const TableStep *step, int n)
{
	return n < list_length(step->tried) ? (char *) list_nth(step->tried, n) : NULL;
}

/*
 * One partition after the other, until one fails as all others of the table would,
 * with those that come later; whether one did.
 */
static bool
create_each(Pass *pass, const TablePlan *table, List *bounds, bool are_cracks, int later)
{
	int			total = list_length(bounds);
	int			done = 0;
	ListCell   *cell;

	if (bounds != NIL)
		progress_phase("creating", table->table_name);
	foreach(cell, bounds)
	{
		TableStep	step = {table, list_make1(lfirst(cell)),.are_cracks = are_cracks};
		ErrorData  *error;
		Subject		subject;
		bool		end;

		CHECK_FOR_INTERRUPTS();
		progress_count(done++, total);
		error = create_together(pass, list_make1(&step), table->patience);
		end = step.backs_off || report_ends_table(error, true);
		subject = report_partition(table, InvalidOid, name_of(&step, 0));
		if (error != NULL)
			report_failure_of_all(pass, &subject, error, end ? total - done + later : 0);
		if (end)
			return true;
	}
	return false;
}

/*
 * The server ran out of something, most likely of locks, which a transaction keeps.
 * Half of what there was room for leaves enough for the rest of the pass, and for
 * others.
 */
static void
create_some(Pass *pass, const TableStep *failed, const ErrorData *error)
{
	int			n = list_length(failed->tried);
	Subject		subject;

	while ((n /= 2) > 0)
	{
		TableStep	step = {failed->table, list_truncate(list_copy(failed->creates), n)};

		if (create_together(pass, list_make1(&step), failed->table->patience) == NULL)
			break;
	}
	subject = report_partition(failed->table, InvalidOid, name_of(failed, n));
	report_failure_of_all(pass, &subject, error, list_length(failed->creates) - n - 1);
}

/* It fails by itself. */
static void
create_failed(Pass *pass, TableStep *step, const ErrorData *error)
{
	const TablePlan *table = step->table;

	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || list_length(step->creates) == 1)
	{
		Subject		subject = report_partition(table, InvalidOid, name_of(step, 0));

		/* the worker comes back before long, but leaves others time to write */
		if (table->patience > 0)
			pass->defer_nap = Min(pass->defer_nap, URGENT_NAP);
		step->ended = report_ends_table(error, true);
		report_failure_of_all(pass, &subject, error, step->ended ? step->left : 0);
	}
	else if (!pass->background &&
			 ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES)
		create_some(pass, step, error);
	else
		step->ended = create_each(pass, table, step->creates, false, list_length(step->rest));
}

static void
begin_again(TableStep *step)
{
	step->made = step->tried = NIL;
	step->left = step->done = 0;
}

typedef struct LeaveStep
{
	Pass	   *pass;
	const TablePlan *table;
	int			left;
} LeaveStep;

static void
leave_step(void *arg)
{
	LeaveStep  *step = (LeaveStep *) arg;
	Subject		subject = report_table(step->table);

	report_defer(step->pass, &subject,
				 psprintf("%d partitions are left, because a session waits for a table that was locked to make many at once",
						  step->left));
	step->pass->deferred = true;
}

/*
 * The foreground keeps its locks until its transaction ends, so it has to end: the
 * next pass makes the others.
 */
static void
leave_to_next_pass(Pass *pass, const TablePlan *table, int left)
{
	LeaveStep	step = {pass, table, left};
	ErrorData  *error = pass->attempt(leave_step, &step);

	if (error != NULL)
		ReThrowError(error);
}

/*
 * Makes partitions of a table that nobody uses, until somebody waits for it. False
 * if somebody uses it, or one fails, which the other way finds again, and reports.
 */
static bool
make_in_bulk(Pass *pass, TableStep *step)
{
	List	   *taken = list_copy(pass->taken);
	ErrorData  *error = create_together(pass, list_make1(step), 0);

	if (pass->background || error != NULL)
		pass->taken = taken;
	step->ended = error != NULL || step->backs_off;
	return error == NULL && step->place != NULL;
}

/*
 * Makes many partitions of a table, as long as nobody uses it; a few in the other
 * way where the worker finds somebody there. Returns those that are left for the
 * other way.
 */
static List *
create_in_bulk(Pass *pass, TablePlan *table)
{
	List	   *rest = table->creates;
	int			total = list_length(rest);

	while (list_length(rest) > 0)
	{
		TableStep	step = {table, list_copy(rest),.in_bulk = true};
		List	   *few;

		CHECK_FOR_INTERRUPTS();
		if (pass->background)
			step.creates = list_truncate(step.creates, BULK);
		progress_phase("creating", table->table_name);
		progress_count(total - list_length(rest), total);
		if (make_in_bulk(pass, &step))
			rest = list_copy_tail(rest, step.done);
		else if (step.ended || !pass->background)
			return rest;
		else
		{
			few = list_truncate(list_copy(rest), BATCH);
			rest = list_copy_tail(rest, BATCH);
			if (create_each(pass, table, few, false, list_length(rest)))
				return NIL;
		}
		if (step.ended)
			return rest;
		if (step.wanted && !pass->background)
		{
			leave_to_next_pass(pass, table, list_length(rest));
			return NIL;
		}
	}
	return NIL;
}

static void
leave_if_wanted(Pass *pass, TableStep *step)
{
	int			left = list_length(step->creates) - step->done + list_length(step->rest);

	if (!step->wanted)
		return;
	leave_to_next_pass(pass, step->table, left);
	step->ended = true;
}

/*
 * What these steps are to make in one transaction, and so under one lock on what
 * their tables are tied to. What that doesn't do is tried table by table, without
 * waiting again for a lock, and partition by partition.
 */
static void
create_group(Pass *pass, List *steps, int patience)
{
	ErrorData  *error;
	ListCell   *cell;

	foreach(cell, steps)
		begin_again((TableStep *) lfirst(cell));
	progress_phase("creating", ((TableStep *) linitial(steps))->table->table_name);
	error = create_together(pass, steps, patience);
	if (error == NULL)
	{
		foreach(cell, steps)
			leave_if_wanted(pass, (TableStep *) lfirst(cell));
		return;
	}
	if (list_length(steps) == 1)
		create_failed(pass, (TableStep *) linitial(steps), error);
	else
		foreach(cell, steps)
			create_group(pass, list_make1(lfirst(cell)),
						 error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ? 0 : patience);
}

/* The steps with a rest. */
static List *
unfinished(List *steps)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, steps)
	{
		TableStep  *step = (TableStep *) lfirst(cell);

		if (step->rest != NIL && !step->ended)
			result = lappend(result, step);
	}
	return result;
}

/*
 * All missing partitions of these tables: in the worker a few of each at a time, so
 * that others write in between. Only the first ones are worth a wait; if a later
 * lock isn't available, the next pass knows how much coverage is left by then.
 */
static void
create_batches(Pass *pass, List *tables, int patience)
{
	List	   *steps = NIL;
	ListCell   *cell;

	foreach(cell, tables)
	{
		TableStep  *step = (TableStep *) palloc0(sizeof(TableStep));

		step->table = (TablePlan *) lfirst(cell);
		step->rest = step->table->creates;
		steps = lappend(steps, step);
	}
	while ((steps = unfinished(steps)) != NIL)
	{
		int			each = pass->background ? Max(BATCH / list_length(steps), 1) : PLAN_MAX_CREATE;

		CHECK_FOR_INTERRUPTS();
		foreach(cell, steps)
		{
			TableStep  *step = (TableStep *) lfirst(cell);

			step->creates = list_truncate(list_copy(step->rest), each);
			step->rest = list_copy_tail(step->rest, each);
		}
		create_group(pass, steps, patience);
		patience = 0;
	}
}

static bool
have_common(const List *ties, const List *others)
{
	ListCell   *cell;

	foreach(cell, others)
	{
		if (list_member_oid(ties, lfirst_oid(cell)))
			return true;
	}
	return false;
}

/* The tables among the rest that are tied to what the group is; they leave the rest. */
static List *
tied_together(TablePlan *table, List **rest)
{
	List	   *group = list_make1(table);
	List	   *ties = list_copy(table->ties);
	bool		found = true;

	while (found)
	{
		ListCell   *cell;

		found = false;
		foreach(cell, *rest)
		{
			TablePlan  *other = (TablePlan *) lfirst(cell);

			if (!have_common(ties, other->ties))
				continue;
			group = lappend(group, other);
			ties = list_concat_unique_oid(ties, other->ties);
			*rest = foreach_delete_current(*rest, cell);
			found = true;
		}
	}
	return group;
}

/* All tables' missing partitions, those of tables that are tied to each other together. */
static void
create_partitions(Pass *pass, List *tables)
{
	List	   *rest = NIL;
	ListCell   *cell;

	foreach(cell, tables)
	{
		if (((TablePlan *) lfirst(cell))->creates != NIL)
			rest = lappend(rest, lfirst(cell));
	}
	while (rest != NIL)
	{
		TablePlan  *table = (TablePlan *) linitial(rest);
		List	   *group;
		int			patience = 0;

		CHECK_FOR_INTERRUPTS();
		rest = list_delete_first(rest);
		if (may_be_in_bulk(pass, table))
			table->creates = create_in_bulk(pass, table);
		if (table->creates == NIL)
			continue;
		group = pass->background ? tied_together(table, &rest) : list_make1(table);
		foreach(cell, group)
			patience = Max(patience, ((TablePlan *) lfirst(cell))->patience);
		if (pass->background && table->ties == NIL)
			(void) create_each(pass, table, table->creates, false, 0);
		else
			create_batches(pass, group, patience);
	}
}

/*
 * Makes what is missing, and then closes what cracks there are. A worker makes
 * each partition in a transaction of its own, unless that needs locks that others
 * notice: then a BATCH at a time; or nobody uses the table. The foreground keeps locks until its
 * transaction ends; and the end of a subtransaction looks at every lock and every
 * new file.
 */
void
create_missing(Pass *pass, List *tables)
{
	ListCell   *cell;

	create_partitions(pass, tables);
	foreach(cell, tables)
	{
		TablePlan  *table = (TablePlan *) lfirst(cell);

		(void) create_each(pass, table, table->cracks, true, 0);
	}
}

static char *
period_name(const Policy *policy, const PlanPolicy *plan, const PlanBound *period)
{
	Relation	parent = table_open(policy->parent, AccessShareLock);
	char	   *name = names_new_partition(parent, &plan->cal, plan_nominal_start(plan, period),
										   &plan->interval);

	table_close(parent, NoLock);
	return name;
}

static void
refuse_overlap(const Policy *policy, const ParentInfo *info, const PlanPolicy *plan,
			   const PlanBound *period, int existing)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
			 errmsg("partition \"%s\" would overlap partition %s",
					period_name(policy, plan, period),
					names_display(info->relids[existing])),
			 errdetail("The new partition's range is %s, the existing one's %s.",
					   key_display(info->kind, period),
					   key_display(info->kind, &info->bounds[existing])),
			 errhint("Inserts into the existing partition's range succeed without a new one; maintenance fills what is left between partitions.")));
}

/* Makes the partition for a time of the key, if there is none; its name. */
char *
create_at(Policy *policy, const ParentInfo *info, CalTime at, TimestampTz now)
{
	PlanPolicy	plan;
	PlanBound	period;
	int			existing;
	PlanResult	result;
	CalTime		now_of_key;
	Oid			created;
	Record		record = {{policy->parent}, ACTION_CREATE};

	policy_plan(policy, info->kind, &plan);
	result = plan_period_at(&plan, at, info->bounds, info->nparts, &period, &existing);
	if (result == PLAN_OK && existing >= 0)
		return names_display(info->relids[existing]);
	if (result == PLAN_OVERLAP)
		refuse_overlap(policy, info, &plan, &period, existing);
	if (result != PLAN_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("partition bound out of range"),
				 errhint("Use a date that a timestamp can hold.")));
	now_of_key = policy_key_time(policy, info->kind, now);
	created = create_partition(policy, &period, table_plan_patience(&plan, now_of_key, info));
	if (!OidIsValid(created))
		return period_name(policy, &plan, &period);
	times_note_creation(policy->parent, created, now);
	record.subject.table_name = names_display(policy->parent);
	record.subject.partition = created;
	record.subject.partition_name = names_display(created);
	record.details = psprintf("rows from %s", key_display(info->kind, &period));
	history_add(&record, now);
	return names_display(created);
}
