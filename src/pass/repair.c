/*
 * repair.c
 *		Looking for partitions that differ from their table, and mending them.
 *
 * Invariant: what differs is a row of sagaz_ha.problem. The worker mends by itself
 * only what nobody notices: it builds indexes concurrently, and attaches them. All
 * else waits for repair_partitions().
 */
#include "pass/repair.h"

#include "access/table.h"
#include "access/xact.h"
#include "base/compat.h"
#include "base/identity.h"
#include "base/settings.h"
#include "catalog/citus.h"
#include "catalog/drift.h"
#include "catalog/names.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/times.h"
#include "ddl/create.h"
#include "ddl/repair.h"
#include "ddl/toplevel.h"
#include "miscadmin.h"
#include "pass/report.h"
#include "pass/run.h"
#include "shmem/progress.h"
#include "shmem/shared.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/*
 * CREATE INDEX CONCURRENTLY waits for every transaction that uses the partition.
 * Nobody waits behind that, so it may be long; it ends, so that other work is done.
 */
#define BUILD_LOCK_TIMEOUT	"10min"

/* Should a change be missed: partitions are compared this often all the same. */
#define NET	USECS_PER_HOUR

/* How often a lock that isn't available is tried again, in ms. */
#define TRY_INTERVAL	10

/* Partitions of partitions of partitions: nobody has more. */
#define MAX_LEVELS	5

typedef struct RepairStep
{
	Pass	   *pass;
	Oid			parent;
	bool		looked;			/* the caller may look at the table */
	List	   *found;			/* of Drift * or DriftIndex * */
	const Drift *drift;
	const DriftIndex *index;
	Subject		subject;
	bool		skip;			/* there is nothing that the worker may do */
	char	   *statement;		/* what it does next; NULL: attach */
	long		patience;		/* ms of waiting for locks that are left */
	bool		alone;			/* the table is to be compared by itself */
} RepairStep;

static Subject
subject_of(Oid parent, Oid partition)
{
	Subject		subject = {parent, names_display(parent)};

	/* what the table as a whole lacks */
	if (partition != parent)
	{
		subject.partition = partition;
		subject.partition_name = names_display(partition);
	}
	return subject;
}

static void
find_step(void *arg)
{
	RepairStep *step = (RepairStep *) arg;

	step->found = drift_find(step->parent);
}

/* Notes in what one table's partitions differ from it, of what was found. */
static void
look_step(void *arg)
{
	RepairStep *step = (RepairStep *) arg;
	ListCell   *cell;

	step->subject = subject_of(step->parent, step->parent);
	if (step->subject.table_name == NULL ||
		!sagaz_owns_relation(step->parent, GetUserId()))
		return;
	if (step->alone)
		find_step(step);
	step->looked = true;
	foreach(cell, step->found)
	{
		const Drift *drift = (Drift *) lfirst(cell);
		Subject		subject = subject_of(step->parent, drift->partition);
		Problem    *known;

		if (drift->root != step->parent ||
			(drift->partition != step->parent && subject.partition_name == NULL))
			continue;
		/* why the worker couldn't mend it says more */
		known = problem_find(step->pass->problems, &subject);
		if (known != NULL && known->action == ACTION_ERROR && known->next_try != 0)
			known->seen = true;
		else
			report_drift(step->pass, &subject, drift->details);
	}
}

/* What is known of a table's partitions stays: it could not be looked at. */
static void
leave_table(const Pass *pass, Oid parent)
{
	ListCell   *cell;

	foreach(cell, pass->problems)
	{
		Problem    *problem = (Problem *) lfirst(cell);

		if (problem->parent == parent)
			problem->seen = true;
	}
}

typedef struct SweepStep
{
	Pass	   *pass;
	Oid			parent;			/* InvalidOid: all tables were looked at */
} SweepStep;

/* Removes what was mended. */
static void
sweep_step(void *arg)
{
	SweepStep  *step = (SweepStep *) arg;
	ListCell   *cell;

	foreach(cell, step->pass->problems)
	{
		Problem    *problem = (Problem *) lfirst(cell);

		if (!problem->seen && (!OidIsValid(step->parent) || problem->parent == step->parent))
			problem_remove(problem, step->pass->finder);
	}
}

static void
attempt_or_fail(Pass *pass, AttemptStep step, void *arg)
{
	ErrorData  *error = pass->attempt(step, arg);

	if (error != NULL)
		ReThrowError(error);
}

/*
 * One table, or all, whose policies these are; whether each could be compared. An
 * expression that is compared may need a lock on its table for a moment: of all tables
 * at once, for one that can't be had all would be left out. Who has it locked is no
 * difference.
 */
static bool
look_at(Pass *pass, List *policies, Oid parent)
{
	RepairStep	find = {pass, parent};
	SweepStep	sweep = {pass, parent};
	bool		complete = true;
	ErrorData  *failed = pass->attempt(find_step, &find);
	ListCell   *cell;

	if (failed != NULL && failed->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(failed);
	foreach(cell, policies)
	{
		const Policy *policy = (Policy *) lfirst(cell);
		RepairStep	step = {pass, policy->parent,.found = find.found,.alone = failed != NULL};
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		if (policy->asleep)
			continue;
		error = pass->attempt(look_step, &step);
		if (error != NULL || !step.looked)
		{
			complete = false;
			leave_table(pass, policy->parent);
		}
		if (error != NULL && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			report_failure(pass, &step.subject, error);
	}
	if (pass->problems != NIL)
		attempt_or_fail(pass, sweep_step, &sweep);
	return complete;
}

/* Looks at one table; what it finds stands in sagaz_ha.problem. */
void
repair_look_by_hand(TimestampTz now, Oid parent)
{
	Pass		pass;

	run_init_foreground(&pass, now, NULL, NULL);
	pass.finder = PROBLEM_OF_DRIFT;
	run_load_problems(&pass);
	(void) look_at(&pass, policy_load(parent), parent);
}

/*
 * Where the newest partition ends isn't where one should begin: the one partition
 * that mends it. No plan is made, which could fail.
 */
bool
repair_way_back(const Policy *policy, ParentInfo *info, PlanBound *odd)
{
	Relation	rel = try_table_open(policy->parent, AccessShareLock);
	ParentProblem problem;
	PlanPolicy	plan;
	bool		found = false;

	if (rel == NULL)
		return false;
	if (policy->tz != NULL && parent_read(rel, info, &problem))
	{
		policy_plan(policy, info->kind, &plan);
		found = plan_way_back(&plan, info->bounds, info->nparts, odd);
	}
	table_close(rel, NoLock);
	return found;
}

static void
tell(const Pass *pass, const Subject *subject, Action action, const char *details)
{
	Record		record = {*subject, action, details};

	pass->emit(&record, pass->arg);
}

static void
apply_step(void *arg)
{
	repair_apply(((RepairStep *) arg)->drift);
}

static void
build_step(void *arg)
{
	repair_build_index(((RepairStep *) arg)->index);
}

/* Tells what came of it. The row of the problem is for the look that follows. */
static void
tell_outcome(Pass *pass, const Subject *subject, const ErrorData *error, const char *details)
{
	if (error == NULL)
		report_done(pass, subject, ACTION_REPAIR, details);
	else if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		tell(pass, subject, ACTION_DEFER, error->message);
	else
		tell(pass, subject, ACTION_ERROR, attempt_error_text(error));
}

/*
 * Tries again while a lock isn't available, and gives back the others in between,
 * for so many ms of waiting. By hand these are for the whole call, because what was
 * mended before stays locked until it ends.
 */
static ErrorData *
try_with_patience(const Pass *pass, AttemptStep step, void *arg, long *patience)
{
	for (;;)
	{
		TimestampTz began = GetCurrentTimestamp();
		ErrorData  *error = pass->attempt(step, arg);

		if (error == NULL || error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE || *patience <= 0)
			return error;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(TRY_INTERVAL * 1000L);
		*patience -= Max(TimestampDifferenceMilliseconds(began, GetCurrentTimestamp()), 1);
	}
}

/* One call by hand. */
typedef struct ByHand
{
	Pass	   *pass;
	Oid			parent;
	long		patience;		/* ms of waiting for locks that are left */
	List	   *failed;			/* partitions that aren't tried again */
} ByHand;

/* Mends by hand what isn't an index, of owners or of all else; whether anything was mended. */
static bool
mend_all(ByHand *hand, bool owners)
{
	bool		mended = false;
	List	   *failed = NIL;
	ListCell   *cell;

	foreach(cell, drift_repairs(hand->parent))
	{
		RepairStep	step = {hand->pass, hand->parent};
		const Drift *drift = step.drift = (Drift *) lfirst(cell);
		Subject		subject = subject_of(hand->parent, drift->partition);
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		if (!repair_is_possible(drift) || owners != (strcmp(drift->kind, "owner") == 0) ||
			list_member_oid(hand->failed, drift->partition))
			continue;
		error = try_with_patience(hand->pass, apply_step, &step, &hand->patience);
		if (error == NULL)
			mended = true;
		else if (!owners)
			failed = list_append_unique_oid(failed, drift->partition);
		tell_outcome(hand->pass, &subject, error, drift->details);
	}
	hand->failed = list_concat_unique_oid(hand->failed, failed);
	return mended;
}

/* Tells of what is left. */
static void
tell_rest(const Pass *pass, Oid parent)
{
	ListCell   *cell;

	foreach(cell, drift_repairs(parent))
	{
		const Drift *drift = (Drift *) lfirst(cell);
		Subject		subject = subject_of(parent, drift->partition);

		if (!repair_is_possible(drift))
			tell(pass, &subject, ACTION_DRIFT,
				 psprintf("%s: that takes a long lock, and is left to you", drift->details));
	}
}

static char *
index_details(const DriftIndex *index)
{
	return psprintf("has its part of index %s", names_display(index->table_index));
}

static void
odd_partition_step(void *arg)
{
	RepairStep *step = (RepairStep *) arg;
	Pass	   *pass = step->pass;
	Policy	   *policy = (Policy *) linitial(step->found);
	ParentInfo	info;
	PlanPolicy	plan;
	PlanBound	odd;
	Subject		subject;
	Oid			created;
	int			patience;

	if (!repair_way_back(policy, &info, &odd))
		return;
	policy_plan(policy, info.kind, &plan);
	patience = table_plan_patience(&plan, policy_key_time(policy, info.kind, pass->now), &info);
	created = create_partition(policy, &odd, Min(patience, Max(step->patience, 0)));
	if (!OidIsValid(created))
		return;
	subject = subject_of(step->parent, created);
	times_note_creation(step->parent, created, pass->now);
	report_done(pass, &subject, ACTION_CREATE,
				psprintf("rows from %s; later partitions follow the calendar",
						 key_display(info.kind, &odd)));
}

/* Makes a table's partitions what the table is, as far as short locks allow. */
void
repair_by_hand(Policy *policy, TimestampTz now, PassEmit emit, void *arg)
{
	Oid			parent = policy->parent;
	RepairStep	odd = {.parent = parent,.found = list_make1(policy)};
	Subject		subject = subject_of(parent, parent);
	Pass		pass;
	ByHand		hand = {&pass, parent, sagaz_lock_timeout};
	ErrorData  *error;
	ListCell   *cell;

	run_init_foreground(&pass, now, emit, arg);
	pass.finder = PROBLEM_OF_DRIFT;
	run_load_problems(&pass);
	(void) mend_all(&hand, true);
	foreach(cell, drift_indexes(parent))
	{
		RepairStep	step = {&pass, parent};

		CHECK_FOR_INTERRUPTS();
		step.index = (DriftIndex *) lfirst(cell);
		subject = subject_of(parent, step.index->partition);
		error = try_with_patience(&pass, build_step, &step, &hand.patience);
		tell_outcome(&pass, &subject, error, index_details(step.index));
	}
	/* what was mended in a partition may be lacking in its own partitions */
	for (int level = 0; level < MAX_LEVELS && mend_all(&hand, false); level++)
		CHECK_FOR_INTERRUPTS();
	tell_rest(&pass, parent);
	odd.pass = &pass;
	odd.patience = hand.patience;
	subject = subject_of(parent, parent);
	error = pass.attempt(odd_partition_step, &odd);
	if (error != NULL)
		tell_outcome(&pass, &subject, error, NULL);
	repair_look_by_hand(now, parent);
}

static void
find_indexes_step(void *arg)
{
	RepairStep *step = (RepairStep *) arg;

	/*
	 * Citus builds a distributed table's indexes elsewhere, and in its own
	 * way
	 */
	step->found = citus_distributes(step->parent) ? NIL : drift_indexes(step->parent);
}

/*
 * What the worker does next about an index: a statement of its own, or, if there
 * is none, it only has to be attached. An exclusion constraint's can't be built
 * concurrently, and another owner's partition isn't the table's owner's to change.
 */
static void
prepare_step(void *arg)
{
	RepairStep *step = (RepairStep *) arg;
	const DriftIndex *wanted = step->index;
	ListCell   *cell;

	step->subject = subject_of(step->parent, wanted->partition);
	step->statement = NULL;
	step->skip = true;
	foreach(cell, drift_indexes(step->parent))
	{
		const DriftIndex *index = (DriftIndex *) lfirst(cell);

		if (index->partition != wanted->partition || index->table_index != wanted->table_index)
			continue;
		step->index = index;
		if (index->relkind != RELKIND_RELATION || index->contype == CONSTRAINT_EXCLUSION ||
			index->owner != index->table_owner ||
			report_backs_off(step->pass, &step->subject))
			return;
		step->skip = false;
		if (index->valid)
			return;
		if (OidIsValid(index->found) || OidIsValid(index->attached))
			repair_require_no_build(index);
		step->statement = repair_concurrent_statement(index);
		return;
	}
}

static void
attach_step(void *arg)
{
	RepairStep *step = (RepairStep *) arg;

	repair_attach_index(step->index);
	report_done(step->pass, &step->subject, ACTION_REPAIR, index_details(step->index));
}

/* At most: drop what an interrupted build left, build, attach. */
#define MAX_STATEMENTS	3

static ErrorData *
mend_index(RepairStep *step)
{
	long		patience = sagaz_lock_timeout;

	for (int i = 0; i < MAX_STATEMENTS; i++)
	{
		bool		committed;
		ErrorData  *error = step->pass->attempt(prepare_step, step);

		if (error != NULL || step->skip)
			return error;
		if (step->statement == NULL)
			return try_with_patience(step->pass, attach_step, step, &patience);
		SetConfigOption("lock_timeout", BUILD_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION);
		error = toplevel_execute_limited(step->statement, step->index->table_owner,
										 step->index->partition, &committed);
		SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);
		if (error != NULL)
			return error;
		stop_point("repair:after_build");
	}
	return NULL;
}

/* Builds and attaches the indexes that a table's partitions lack. */
static void
mend_indexes(Pass *pass, Oid parent)
{
	RepairStep	step = {pass, parent};
	ErrorData  *error = pass->attempt(find_indexes_step, &step);
	int			done = 0;
	ListCell   *cell;

	if (error != NULL)
		return;
	foreach(cell, step.found)
	{
		RepairStep	mend = {pass, parent};

		CHECK_FOR_INTERRUPTS();
		mend.index = (DriftIndex *) lfirst(cell);
		progress_count(done++, list_length(step.found));
		error = mend_index(&mend);
		if (error != NULL)
			report_failure(pass, &mend.subject, error);
	}
}

typedef struct LoadStep
{
	Pass	   *pass;
	List	   *policies;
	int64		changes;
	bool		known;			/* there is nothing to see */
} LoadStep;

/* Where nothing has been changed, and nothing is to be mended, there is nothing to see. */
static void
load_step(void *arg)
{
	LoadStep   *step = (LoadStep *) arg;

	step->changes = drift_changes();
	step->known = step->pass->problems == NIL && step->changes >= 0 &&
		shared_was_compared(step->changes, GetCurrentTimestamp() - NET);
	if (!step->known)
		step->policies = policy_load(InvalidOid);
}

/*
 * Looks at all tables. What changed meanwhile is for the next time; and what this
 * transaction has changed may yet be undone.
 */
static void
look_at_all(Pass *pass, const LoadStep *load)
{
	if (look_at(pass, load->policies, InvalidOid) && load->changes >= 0 &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		shared_note_comparison(load->changes);
}

/* By hand: looks at all tables, if anything may have changed since the last time. */
void
repair_look_if_changed(TimestampTz now)
{
	Pass		pass;
	LoadStep	load = {&pass};

	run_init_foreground(&pass, now, NULL, NULL);
	pass.finder = PROBLEM_OF_DRIFT;
	run_load_problems(&pass);
	attempt_or_fail(&pass, load_step, &load);
	if (!load.known)
		look_at_all(&pass, &load);
}

/* The worker's way: over all tables that are whole; false: nothing has changed. */
bool
repair_in_background(TimestampTz now, long defer_nap)
{
	Pass		pass;
	LoadStep	load = {&pass};
	ListCell   *cell;

	run_init_background(&pass, now, WORKER_UPKEEP, defer_nap);
	pass.finder = PROBLEM_OF_DRIFT;
	run_load_problems(&pass);
	attempt_or_fail(&pass, load_step, &load);
	if (load.known)
		return false;
	progress_phase("repairing", NULL);
	foreach(cell, load.policies)
	{
		const Policy *policy = (Policy *) lfirst(cell);

		if (!policy->asleep)
			mend_indexes(&pass, policy->parent);
	}
	look_at_all(&pass, &load);
	return true;
}
