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
#include "ddl/widen.h"
#include "miscadmin.h"
#include "pass/report.h"
#include "shmem/progress.h"

typedef struct CreateStep
{
	Pass	   *pass;
	const TablePlan *table;
	const PlanBound *bound;
	char	   *name;			/* that it will have */
	bool		is_crack;		/* a hole that a neighbour should close */
} CreateStep;

/* Whether a hole was closed by widening a partition. */
static bool
close_crack(const CreateStep *step)
{
	Oid			widened = widen_over_hole(step->table->policy, step->bound);
	Subject		subject;

	if (!OidIsValid(widened))
		return false;
	subject = report_partition(step->table, widened, names_display(widened));
	report_done(step->pass, &subject, ACTION_ATTACH,
				psprintf("widened over the hole of %s",
						 table_plan_bound_details(step->table, step->bound)));
	return true;
}

static void
create_step(void *arg)
{
	CreateStep *step = (CreateStep *) arg;
	Oid			parent = step->table->policy->parent;
	Subject		subject;
	Oid			created;

	step->name = table_plan_new_name(step->table, step->bound);
	subject = report_partition(step->table, InvalidOid, step->name);
	if (report_backs_off(step->pass, &subject))
		return;
	if (step->is_crack && close_crack(step))
		return;
	created = create_partition(step->table->policy, step->bound);
	if (OidIsValid(created))
	{
		subject.partition = created;
		times_note_creation(parent, created, step->pass->now);
		report_done(step->pass, &subject, ACTION_CREATE,
					table_plan_bound_details(step->table, step->bound));
	}
	stop_point("create:before_commit");
}

static void
create_all_step(void *arg)
{
	CreateStep	step = *(CreateStep *) arg;
	ListCell   *cell;

	foreach(cell, step.table->creates)
	{
		CHECK_FOR_INTERRUPTS();
		step.bound = (PlanBound *) lfirst(cell);
		create_step(&step);
	}
}

static void
collect_record(const Record *record, void *arg)
{
	List	  **records = (List **) arg;
	Record	   *copy = (Record *) palloc(sizeof(Record));

	*copy = *record;
	*records = lappend(*records, copy);
}

/*
 * All partitions in one subtransaction, because the end of each looks at every
 * lock of the transaction and every new file. Tells of them when they are there
 * to stay; false if they aren't.
 */
static bool
create_together(const Pass *pass, const TablePlan *table)
{
	List	   *records = NIL;
	Pass		quiet = *pass;
	CreateStep	step = {&quiet, table};
	ListCell   *cell;

	quiet.emit = collect_record;
	quiet.arg = &records;
	if (pass->attempt(create_all_step, &step) != NULL)
		return false;
	foreach(cell, records)
	{
		if (pass->emit != NULL)
			pass->emit((Record *) lfirst(cell), pass->arg);
	}
	return true;
}

/* One after the other, each an attempt by itself. */
static void
create_each(CreateStep step, List *bounds)
{
	Pass	   *pass = step.pass;
	const TablePlan *table = step.table;
	int			done = 0;
	ListCell   *cell;

	if (bounds != NIL)
		progress_phase("creating", table->table_name);
	foreach(cell, bounds)
	{
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		progress_count(done++, list_length(bounds));
		step.bound = (PlanBound *) lfirst(cell);
		step.name = NULL;
		error = pass->attempt(create_step, &step);
		stop_point("create:after_commit");
		if (error != NULL)
		{
			Subject		subject = report_partition(table, InvalidOid, step.name);

			report_failure(pass, &subject, error);
		}
	}
}

/* Makes a table's missing partitions, and then closes what cracks it has. */
void
create_missing(Pass *pass, const TablePlan *table)
{
	CreateStep	step = {pass, table};

	if (pass->background || list_length(table->creates) <= 1 ||
		!create_together(pass, table))
		create_each(step, table->creates);
	step.is_crack = true;
	create_each(step, table->cracks);
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
	created = create_partition(policy, &period);
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
