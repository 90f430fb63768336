/*
 * run.c
 *		Running a pass: policies, plan, creations, retirements.
 *
 * Invariant: every creation of every table comes before the first drop of any, or
 * in the background is another process's, which waits for no retirement. What
 * keeps a partition is looked at before the first lock that a writer could notice.
 * Each action is a transaction or a subtransaction: what fails is reported, and the
 * rest goes on.
 */
#include "pass/run.h"

#include "base/identity.h"
#include "base/settings.h"
#include "catalog/asleep.h"
#include "catalog/conversion.h"
#include "catalog/names.h"
#include "catalog/retirement.h"
#include "miscadmin.h"
#include "pass/before_drop.h"
#include "pass/create.h"
#include "pass/expire.h"
#include "pass/leftovers.h"
#include "pass/protect.h"
#include "pass/report.h"
#include "pass/retirement.h"
#include "shmem/shared.h"

/* A pass in the caller's transaction. */
void
run_init_foreground(Pass *pass, TimestampTz now, PassEmit emit, void *arg)
{
	memset(pass, 0, sizeof(*pass));
	pass->now = now;
	pass->attempt = attempt_in_subtransaction;
	pass->creates = true;
	pass->retire = expire_foreground;
	pass->emit = emit;
	pass->arg = arg;
	pass->finder = PROBLEM_OF_PASS;
}

/* A worker's work; an unavailable lock is tried again after defer_nap ms. */
void
run_init_background(Pass *pass, TimestampTz now, WorkerKind kind, long defer_nap)
{
	memset(pass, 0, sizeof(*pass));
	pass->now = now;
	pass->attempt = attempt_in_transaction;
	pass->creates = kind == WORKER_PASS;
	pass->retire = kind == WORKER_RETIREMENT ? retirement_go_on : NULL;
	pass->background = true;
	pass->finder = kind == WORKER_UPKEEP ? PROBLEM_OF_UPKEEP : PROBLEM_OF_PASS;
	pass->defer_nap = defer_nap;
	pass->due = SHARED_NET_NAP;
}

typedef struct LoadStep
{
	Pass	   *pass;
	Oid			parent;
	List	   *policies;
} LoadStep;

static void
load_problems_step(void *arg)
{
	Pass	   *pass = (Pass *) arg;

	pass->problems = problem_load(pass->finder, pass->background);
	pass->loaded = true;
}

/* Reads what is wrong so far, unless that is known already. */
void
run_load_problems(Pass *pass)
{
	ErrorData  *error = pass->loaded ? NULL : pass->attempt(load_problems_step, pass);

	if (error != NULL)
		ReThrowError(error);
}

static void
load_policies_step(void *arg)
{
	LoadStep   *step = (LoadStep *) arg;

	step->policies = policy_load(step->parent);
}

typedef struct PlanStep
{
	Pass	   *pass;
	Policy	   *policy;
	char	   *name;			/* NULL: a table that is gone has no policy
								 * either */
	bool		is_owner;
	TablePlan  *table;			/* NULL: nothing to be done */
} PlanStep;

/*
 * Whether a table that came in a restore is left alone. By hand it is enough that
 * it is whole now; the worker looks twice.
 */
static bool
sleeps_on(Pass *pass, const Policy *policy, const Subject *subject)
{
	char	   *reason;

	if (!policy->asleep)
		return false;
	reason = asleep_reason(policy->parent);
	if (pass->background ? asleep_is_stable(policy->parent) : reason == NULL)
	{
		asleep_end(policy->parent);
		return false;
	}
	report_defer(pass, subject, psprintf("it was restored, and maintenance has not begun: %s",
										 reason ? reason : "it is looked at once more"));
	if (reason == NULL)
		pass->waiting = true;
	else
		pass->deferred = true;
	return true;
}

static void
plan_step(void *arg)
{
	PlanStep   *step = (PlanStep *) arg;
	Subject		subject = {step->policy->parent};

	step->name = names_display(step->policy->parent);
	if (step->name == NULL)
		return;
	subject.table_name = step->name;
	identity_require_owner(step->policy->parent);
	step->is_owner = true;
	if (sleeps_on(step->pass, step->policy, &subject) ||
		report_backs_off(step->pass, &subject))
		return;
	step->table = table_plan_make(step->policy, step->pass->now);
	if (step->table != NULL)
		report_leave_missing(step->pass, step->table);
}

/* That the caller may not maintain a table is nothing that is wrong with the table. */
static void
tell_not_owner(Pass *pass, const PlanStep *step, const ErrorData *error)
{
	Record		record = {{step->policy->parent, step->name}, ACTION_ERROR, attempt_error_text(error)};

	if (pass->emit != NULL)
		pass->emit(&record, pass->arg);
}

/* The plan of each table that has one; those that don't are reported. */
static List *
plan_tables(Pass *pass, List *policies)
{
	List	   *tables = NIL;
	ListCell   *cell;

	foreach(cell, policies)
	{
		PlanStep	step = {pass, (Policy *) lfirst(cell)};
		Subject		subject = {step.policy->parent};
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		error = pass->attempt(plan_step, &step);
		if (error == NULL && step.table != NULL)
			tables = lappend(tables, step.table);
		if (error == NULL)
			continue;
		subject.table_name = step.name ? step.name : psprintf("%u", step.policy->parent);
		if (step.name != NULL && !step.is_owner)
			tell_not_owner(pass, &step, error);
		/* one that retires leaves it to the one that creates to say so */
		else if (pass->creates)
			report_failure(pass, &subject, error);
	}
	return tables;
}

static void
create_everywhere(Pass *pass, List *tables)
{
	ListCell   *cell;

	foreach(cell, tables)
	{
		TablePlan  *table = (TablePlan *) lfirst(cell);

		if (expire_drops_are_held_back(pass, table))
		{
			report_leave_expired(pass, table);
			table->expired = NIL;
		}
	}
	create_missing(pass, tables);
}

/* Guards the new partitions of protected tables, and those that were in use before. */
static void
protect_everywhere(Pass *pass, List *tables)
{
	ListCell   *cell;

	foreach(cell, tables)
		protect_table(pass, (TablePlan *) lfirst(cell));
}

/* Whether it stays, or is left because all others of its table would meet an error. */
static bool
stays(Pass *pass, const TablePlan *table, const ExpiredPartition *expired)
{
	bool		result;

	pass->left--;
	if (pass->table_failed)
		return true;
	result = expire_stays(pass, table, expired);
	if (pass->table_failed)
		report_leave_expired(pass, table);
	return result;
}

/* Notes when the first of the tables has more to be done. */
static void
note_due(Pass *pass, List *tables)
{
	ListCell   *cell;

	foreach(cell, tables)
		pass->due = table_plan_due((const TablePlan *) lfirst(cell), pass->now, pass->due);
}

/*
 * Leaves in each plan the expired partitions that may go. Whether drops are held
 * back is asked after the plan was made: where they are because the clock jumped,
 * that was written before the partitions that a plan finds for the new time.
 */
static void
keep_what_stays(Pass *pass, List *tables)
{
	ListCell   *cell;

	foreach(cell, tables)
	{
		TablePlan  *table = (TablePlan *) lfirst(cell);
		ListCell   *inner;

		if (!pass->creates && !expire_may_go_on(pass, table))
		{
			report_leave_expired(pass, table);
			table->expired = NIL;
		}
		report_begin_table(pass, list_length(table->expired));
		foreach(inner, table->expired)
		{
			CHECK_FOR_INTERRUPTS();
			if (stays(pass, table, (ExpiredPartition *) lfirst(inner)))
				table->expired = foreach_delete_current(table->expired, inner);
		}
		report_begin_table(pass, 0);
	}
}

static const TablePlan *
find_table(List *tables, Oid parent)
{
	ListCell   *cell;

	foreach(cell, tables)
	{
		if (((TablePlan *) lfirst(cell))->policy->parent == parent)
			return (TablePlan *) lfirst(cell);
	}
	return NULL;
}

static bool
has_policy(List *policies, Oid parent)
{
	ListCell   *cell;

	foreach(cell, policies)
	{
		if (((Policy *) lfirst(cell))->parent == parent)
			return true;
	}
	return false;
}

/* Whether the problem is one that this process would have met: each half has its own. */
static bool
is_of_this_half(const Pass *pass, const Problem *problem)
{
	return OidIsValid(problem->partition) ? pass->retire != NULL : pass->creates;
}

/*
 * Whether a problem that this pass hasn't met is solved: it would have been met
 * if it were there. A pending detach, and what the worker is retiring, is nothing
 * that a pass by hand looks at.
 */
static bool
is_solved(const Pass *pass, const Problem *problem, List *policies, List *tables, bool all)
{
	const TablePlan *table = find_table(tables, problem->parent);
	Retirement	retirement;

	if (problem->seen || !is_of_this_half(pass, problem))
		return false;
	/* a saga table that could not be made: only a pass by hand makes it */
	if (!OidIsValid(problem->parent))
		return !pass->background;
	if (table == NULL)
		return all && !has_policy(policies, problem->parent);
	if (!OidIsValid(problem->partition))
		return true;
	return problem->partition != table->info.pending_relid &&
		(pass->background || !retirement_find(problem->partition, &retirement));
}

typedef struct SweepStep
{
	Pass	   *pass;
	List	   *policies;
	List	   *tables;
	bool		all;			/* the pass was over all tables */
} SweepStep;

/* Removes the problems that are solved; a pass by hand has the worker try the others. */
static void
sweep_step(void *arg)
{
	SweepStep  *step = (SweepStep *) arg;
	Pass	   *pass = step->pass;
	bool		put_off = false;
	ListCell   *cell;

	foreach(cell, pass->problems)
	{
		Problem    *problem = (Problem *) lfirst(cell);

		if (is_solved(pass, problem, step->policies, step->tables, step->all))
			problem_remove(problem, pass->finder);
		else if (!pass->background && problem->next_try != 0 &&
				 find_table(step->tables, problem->parent) != NULL)
		{
			problem_try_now(problem->parent);
			put_off = true;
		}
	}
	if (put_off)
		shared_wake_database_at_commit();
}

typedef struct FindExpiredStep
{
	Pass	   *pass;
	List	   *tables;
} FindExpiredStep;

/*
 * Whether the other half has anything to do: to retire, to end, or to find solved; and
 * whether conversions have.
 */
static void
find_expired_step(void *arg)
{
	FindExpiredStep *step = (FindExpiredStep *) arg;
	Pass	   *pass = step->pass;
	ListCell   *cell;

	pass->found_expired = retirement_load() != NIL;
	foreach(cell, conversion_load())
	{
		if (((Conversion *) lfirst(cell))->phase != CONVERSION_FAILED)
			pass->found_conversion = true;
	}
	foreach(cell, step->tables)
	{
		const TablePlan *table = (const TablePlan *) lfirst(cell);

		if (table->expired != NIL || OidIsValid(table->info.pending_relid))
			pass->found_expired = true;
	}
	foreach(cell, pass->problems)
	{
		if (OidIsValid(((Problem *) lfirst(cell))->partition))
			pass->found_expired = true;
	}
}

static void
find_expired(Pass *pass, List *tables)
{
	FindExpiredStep step = {pass, tables};
	ErrorData  *error = pass->attempt(find_expired_step, &step);

	if (error != NULL)
		ReThrowError(error);
}

/* Retires what is expired and doesn't stay. */
static void
retire_everywhere(Pass *pass, List *tables)
{
	ListCell   *cell;

	keep_what_stays(pass, tables);
	foreach(cell, tables)
		pass->retire(pass, (TablePlan *) lfirst(cell));
	if (pass->background)
		before_drop_ask(pass);
}

/* A pass over one table, or over all. */
void
run_pass(Pass *pass, Oid parent)
{
	LoadStep	step = {pass, parent};
	SweepStep	sweep = {pass};
	ErrorData  *error;

	run_load_problems(pass);
	if (pass->background && pass->retire != NULL)
		leftovers_end(pass);
	error = pass->attempt(load_policies_step, &step);
	if (error != NULL)
		ReThrowError(error);
	sweep.policies = step.policies;
	sweep.tables = plan_tables(pass, step.policies);
	sweep.all = !OidIsValid(parent);
	if (pass->creates)
	{
		note_due(pass, sweep.tables);
		create_everywhere(pass, sweep.tables);
		protect_everywhere(pass, sweep.tables);
	}
	if (pass->retire != NULL)
		retire_everywhere(pass, sweep.tables);
	else
		find_expired(pass, sweep.tables);
	/* what is kept, deferred, or to be retired, may change without a sign */
	if (pass->problems != NIL || pass->found_expired)
		pass->due = Min(pass->due, settings_naptime_ms());
	if (pass->problems == NIL)
		return;
	error = pass->attempt(sweep_step, &sweep);
	if (error != NULL)
		ReThrowError(error);
}
