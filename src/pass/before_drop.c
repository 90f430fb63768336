/*
 * before_drop.c
 *		Asking a policy's function whether a detached partition may go.
 *
 * Invariant: each call is counted in a transaction before its own, so that one
 * which ends the process, or the server, backs off as one that fails does. That
 * the function has agreed is committed with what it has done: until then it is
 * called again, and so at least once. A call that doesn't return true is undone.
 */
#include "pass/before_drop.h"

#include "base/limit.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/hook.h"
#include "catalog/names.h"
#include "catalog/parent.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "catalog/retirement.h"
#include "ddl/retire.h"
#include "miscadmin.h"
#include "pass/report.h"
#include "shmem/calls.h"
#include "shmem/progress.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

typedef struct CallStep
{
	Pass	   *pass;
	Oid			partition;
	Subject		subject;		/* without names: nothing is to be called */
	Policy	   *policy;
	bool		lost;			/* the last calls ended without a word */
} CallStep;

/* Whether a partition still waits for its policy's function; fills the step. */
static bool
still_waits(CallStep *step, Retirement *retirement)
{
	List	   *policies;

	step->subject.table_name = NULL;
	if (!retirement_find(step->partition, retirement) ||
		retirement->phase != RETIREMENT_BEFORE_DROP ||
		get_rel_name(step->partition) == NULL || get_rel_relispartition(step->partition))
		return false;
	policies = policy_load(retirement->parent);
	if (policies == NIL || ((Policy *) linitial(policies))->before_drop == NULL)
		return false;
	step->policy = (Policy *) linitial(policies);
	step->subject.parent = retirement->parent;
	step->subject.partition = step->partition;
	step->subject.partition_name = names_display(step->partition);
	step->subject.table_name = names_display(retirement->parent);
	return true;
}

/*
 * When it is to be called. After an error that somebody may have mended, or a pass
 * by hand, that is now; a clock that was set back delays nothing.
 */
static TimestampTz
next_call(const Pass *pass, const Subject *subject, const Retirement *retirement)
{
	Problem    *known = problem_find(pass->problems, subject);
	TimestampTz now = GetCurrentTimestamp();

	if (retirement->calls == 0 || retirement->called_at > now)
		return now;
	if (known != NULL && known->action == ACTION_ERROR &&
		(known->next_try == 0 || !known->unchanged))
		return now;
	return problem_back_off(retirement->called_at, retirement->calls);
}

/*
 * Whether calls have ended, and their process could say nothing of it. One may have
 * been ended on purpose, as by a stop of the server.
 */
static bool
is_lost(const CallStep *step, const Retirement *retirement)
{
	Problem    *known;

	if (retirement->calls < 2)
		return false;
	/* as it is now: a call may have failed since the pass began */
	known = problem_find(problem_load(step->pass->finder, true), &step->subject);
	return known == NULL || known->action != ACTION_ERROR;
}

static void
lost_step(void *arg)
{
	const CallStep *step = (const CallStep *) arg;

	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("the process that called before_drop function %s ended before the function did",
					step->policy->before_drop),
			 errhint("The server's log says why. No function may catch query_canceled, with which sagaz_ha.before_drop_timeout ends it.")));
}

static void
ask_step(void *arg)
{
	CallStep   *step = (CallStep *) arg;
	Pass	   *pass = step->pass;
	bool		has_call = calls_has(step->partition);
	Retirement	retirement;
	ParentInfo	info;
	TimestampTz at;

	if (!still_waits(step, &retirement))
		return;
	report_leave(pass, &step->subject);
	if (step->policy->drops_held_back)
		return;
	parent_require_by_oid(retirement.parent, AccessShareLock, &info);
	/* it comes back as soon as that can be */
	if (!retire_is_expired(step->policy, &info, step->partition, pass->now))
		return;
	step->lost = !has_call && is_lost(step, &retirement);
	at = next_call(pass, &step->subject, &retirement);
	if (at > GetCurrentTimestamp())
	{
		if (pass->next_try == 0 || at < pass->next_try)
			pass->next_try = at;
	}
	else
		/* when a call ends, there is a pass again */
		(void) calls_want(retirement.parent, step->partition, step->subject.partition_name);
}

static void
load_step(void *arg)
{
	*(List **) arg = retirement_load();
}

/* Has processes call the functions that partitions wait for, the oldest first. */
void
before_drop_ask(Pass *pass)
{
	List	   *retirements = NIL;
	ErrorData  *error = pass->attempt(load_step, &retirements);
	ListCell   *cell;

	foreach(cell, retirements)
	{
		const Retirement *retirement = (const Retirement *) lfirst(cell);
		CallStep	step = {pass, retirement->partition};

		if (error == NULL && sagaz_retire && retirement->phase == RETIREMENT_BEFORE_DROP)
			error = pass->attempt(ask_step, &step);
		if (error == NULL && step.lost)
			report_failed_retirement(pass, &step.subject, pass->attempt(lost_step, &step));
	}
	if (error != NULL)
		ReThrowError(error);
}

/* Counts the call before it begins. */
static void
note_step(void *arg)
{
	CallStep   *step = (CallStep *) arg;
	Retirement	retirement;

	if (still_waits(step, &retirement))
		retirement_note_call(step->partition, GetCurrentTimestamp());
}

/* What the function returns, as text; true is "true". */
static const char *
call_function(const CallStep *step, Oid owner)
{
	Oid			function = hook_require(step->policy->before_drop, owner);
	char	   *schema = get_namespace_name(get_func_namespace(function));
	char	   *name = quote_qualified_identifier(schema, get_func_name(function));
	TimeLimit	limit = {psprintf("before_drop function %s", step->policy->before_drop),
	"sagaz_ha.before_drop_timeout", sagaz_before_drop_timeout * 1000, step->partition};
	SqlSession	session;
	SqlArgs		args = {0};
	bool		isnull;
	bool		agreed;

	sql_begin(&session, owner);
	/* what lies beside the function is found by its bare name */
	identity_set_local("search_path",
					   psprintf("pg_catalog, %s, pg_temp", quote_identifier(schema)));
	/* it has a limit of its own */
	identity_set_local("lock_timeout", "0");
	identity_set_local("timezone", step->policy->time_zone);
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(step->partition));
	limit_begin(&limit);
	(void) sql_execute(psprintf("SELECT %s($1)", name), &args);
	limit_end(&limit);
	agreed = DatumGetBool(sql_value(0, 1, &isnull));
	sql_end(&session);
	return isnull ? "null" : agreed ? "true" : "false";
}

/* Whether a table is a partition of another one now, in this transaction. */
static bool
is_partition_of(Oid relid, Oid parent)
{
	return get_rel_name(relid) != NULL && get_rel_relispartition(relid) &&
		get_partition_parent(relid, true) == parent;
}

/*
 * The call. The lock keeps the table as long as it lasts: it can't be brought back,
 * dropped or moved.
 */
static void
call_step(void *arg)
{
	CallStep   *step = (CallStep *) arg;
	Retirement	retirement;
	const char *result;

	LockRelationOid(step->partition, AccessShareLock);
	if (!still_waits(step, &retirement))
		return;
	result = call_function(step, identity_owner_of(retirement.parent));
	if (strcmp(result, "true") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("before_drop function %s returned %s for table %s",
						step->policy->before_drop, result, step->subject.partition_name),
				 errhint("It is called again, and has to return true; or bring the partition back with sagaz_ha.reattach_partition().")));
	/* it would be retired again at once, and so on for ever */
	if (is_partition_of(step->partition, retirement.parent))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("before_drop function %s attached table %s to %s again",
						step->policy->before_drop, step->subject.partition_name,
						step->subject.table_name),
				 errhint("That is undone. If the partition is to stay, the function has to return false; or bring it back with sagaz_ha.reattach_partition().")));
	if (get_rel_name(step->partition) == NULL)
		report_done(step->pass, &step->subject, ACTION_DROP,
					psprintf("by before_drop function %s", step->policy->before_drop));
	else if (!retirement_note_agreed(step->partition))
		elog(ERROR, "partition %s doesn't wait for a function any more",
			 step->subject.partition_name);
	else
		report_solved(step->pass, &step->subject);
	stop_point("before_drop:before_commit");
}

/* Calls the function for one partition; in a process that does nothing else. */
void
before_drop_call(Pass *pass, Oid partition)
{
	CallStep	step = {pass, partition};
	ErrorData  *error = pass->attempt(note_step, &step);
	Subject		subject = step.subject;

	if (error != NULL)
		ReThrowError(error);
	if (subject.table_name == NULL)
		return;
	progress_phase("calling before_drop", subject.partition_name);
	stop_point("before_drop:before_call");
	error = pass->attempt(call_step, &step);
	if (error != NULL)
		report_failure(pass, &subject, error);
	else
		stop_point("before_drop:after_commit");
}
