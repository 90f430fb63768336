/*
 * conversion.c
 *		Tables become partitioned in place: the worker's steps.
 *
 * Invariant: each step is one transaction, or a statement that commits inside, and
 * is found again after a crash: a row's phase is the step that is to be done. What
 * takes long takes no lock that a reader or writer notices; what takes a strong lock
 * is short, and is tried again when the lock isn't to be had.
 */
#include "pass/conversion.h"

#include "base/identity.h"
#include "base/process.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/dropped.h"
#include "catalog/names.h"
#include "catalog/pg_inherits.h"
#include "catalog/policy.h"
#include "ddl/convert.h"
#include "ddl/convert_bound.h"
#include "ddl/convert_lock.h"
#include "ddl/toplevel.h"
#include "miscadmin.h"
#include "pass/convert_later.h"
#include "pass/convert_rows.h"
#include "pass/report.h"
#include "shmem/progress.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* A lock is tried again after this, twice this, and so on up to MAX_LOCK_NAP, in ms. */
#define LOCK_NAP		200
#define MAX_LOCK_NAP	5000

/* Who makes a lock noticed is looked at again after this, in ms. */
#define BLOCKER_NAP		200

/* An error is tried again after this, twice this, and so on up to MAX_ERROR_NAP, in ms. */
#define ERROR_NAP		1000
#define MAX_ERROR_NAP	3600000

/* The same of what has reached its time limit: other tables have their turn first. */
#define LIMIT_NAP		10000

/* A longer wait costs no process, in ms. */
#define SHORT_NAP		2000

/* What another session has locked, as who cancels it has, is looked at again after this, in ms. */
#define GONE_NAP		5000

typedef struct Step
{
	Pass	   *pass;
	Conversion *conversion;
	List	   *relids;			/* to be locked */
	ConversionPhase next;
	bool		gone;			/* cancelled, or done by somebody else */
	const char *blocker;
	TimestampTz locked_at;
	const char *text;
	long		nap;
	TimeOffset	held;
} Step;

static Subject
subject_of(const Conversion *conversion)
{
	Subject		subject = {conversion->relation, conversion->table_name};

	return subject;
}

/* The tables that a short lock is on, in the order in which all take them. */
static List *
tables_of(const Conversion *conversion)
{
	bool		both = conversion->kind != CONVERSION_TABLE ||
		conversion->phase == CONVERSION_RENAMING;

	return both ? list_make2_oid(conversion->parent, conversion->relation) :
		list_make1_oid(conversion->relation);
}

static const char *
point(const Conversion *conversion, const char *where)
{
	return psprintf("convert_%s:%s", conversion_phase_name(conversion->phase), where);
}

/* A step under a strong lock. */
static void
locked_step(void *arg)
{
	Step	   *step = (Step *) arg;
	Conversion *conversion = step->conversion;
	ConversionPhase phase = conversion->phase;
	const char *before_commit = point(conversion, "before_commit");
	SqlSession	session;
	List	   *companions;

	if (!conversion_lock(conversion) || conversion->phase != phase)
	{
		step->gone = true;
		return;
	}
	sql_begin(&session, GetUserId());
	convert_lock_gently(step->relids);
	companions = convert_companions(conversion->relation, conversion_phase_name(phase));
	convert_lock_gently(companions);
	step->blocker = convert_lock_blocker(list_concat_copy(step->relids, companions));
	if (step->blocker == NULL)
	{
		List	   *statements = convert_step(conversion, phase);

		step->locked_at = convert_lock_strongly(step->relids, companions);
		convert_run(statements);
	}
	else
		step->blocker = MemoryContextStrdup(session.caller, step->blocker);
	sql_end(&session);
	if (step->blocker == NULL)
	{
		conversion_enter(conversion, step->next);
		stop_point(before_commit);
	}
}

static void
note_try_step(void *arg)
{
	Step	   *step = (Step *) arg;
	Conversion *conversion = step->conversion;
	Record		record = {subject_of(conversion), ACTION_ERROR, step->text};

	if (step->text !=NULL && conversion->tries == 0)
		history_add(&record, step->pass->now);
	conversion_note_try(conversion, step->blocker, step->text, step->nap);
}

static void
require(ErrorData *error)
{
	if (error != NULL)
		ReThrowError(error);
}

static void
note_try(Pass *pass, Conversion *conversion, const char *blocker, const char *text, long nap)
{
	Step		step = {pass, conversion};

	step.blocker = blocker;
	step.text = text;

	step.nap = nap;
	progress_waiting_for(blocker ? blocker : "");
	if (text !=NULL)
	{
		progress_error(text);
		ereport(LOG, (errmsg("sagaz_ha: converting %s: %s", conversion->table_name, text)));
	}
	require(attempt_in_transaction(note_try_step, &step));
}

static void
holders_step(void *arg)
{
	Step	   *step = (Step *) arg;

	step->blocker = convert_lock_blocker(step->relids);
}

static void
note_lock_step(void *arg)
{
	Step	   *step = (Step *) arg;

	conversion_note_lock(step->conversion, step->held);
}

static long
back_off(long first, int tries, long most)
{
	return Min(first << Min(tries, 20), most);
}

/* What came of a failed step: how long to wait until the next try, in ms. */
static long
failed(Pass *pass, Conversion *conversion, const ErrorData *error)
{
	Step		step = {pass, conversion, tables_of(conversion)};

	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlerrcode == ERRCODE_OBJECT_IN_USE)
	{
		long		nap = back_off(LOCK_NAP, conversion->tries, MAX_LOCK_NAP);

		require(attempt_in_transaction(holders_step, &step));
		/* a transaction that is too short to be named */
		note_try(pass, conversion, step.blocker ? step.blocker : "a lock that another session has", NULL, nap);
		return nap;
	}
	step.nap = back_off(error->sqlerrcode == ERRCODE_QUERY_CANCELED ? LIMIT_NAP : ERROR_NAP,
						conversion->tries, MAX_ERROR_NAP);
	note_try(pass, conversion, NULL, attempt_error_text(error), step.nap);
	return step.nap;
}

/* Under the strong lock; 0: done, else how long to wait, in ms. */
static long
run_locked(Pass *pass, Conversion *conversion, ConversionPhase next)
{
	Step		step = {pass, conversion, tables_of(conversion), next};
	Conversion	before = *conversion;
	const char *after_commit = point(conversion, "after_commit");
	ErrorData  *error = attempt_in_transaction(locked_step, &step);

	if (error != NULL)
	{
		*conversion = before;
		return failed(pass, conversion, error);
	}
	if (step.gone)
		return GONE_NAP;
	if (step.blocker != NULL)
	{
		note_try(pass, conversion, step.blocker, NULL, BLOCKER_NAP);
		return BLOCKER_NAP;
	}
	step.held = GetCurrentTimestamp() - step.locked_at;
	stop_point(after_commit);
	progress_waiting_for("");
	require(attempt_in_transaction(note_lock_step, &step));
	return 0;
}

static void
enter_step(void *arg)
{
	Step	   *step = (Step *) arg;
	Conversion *conversion = step->conversion;
	ConversionPhase phase = conversion->phase;
	const char *before_commit = point(conversion, "before_commit");

	if (!conversion_lock(conversion) || conversion->phase != phase)
	{
		step->gone = true;
		return;
	}
	if (phase == CONVERSION_LINKING)
	{
		identity_set_local("lock_timeout", psprintf("%d", sagaz_conversion_lock_timeout));
		convert_run(convert_step(conversion, phase));
	}
	conversion_enter(conversion, step->next);
	stop_point(before_commit);
}

/* Enters the next phase; with foreign keys, after they were made. */
static long
enter(Pass *pass, Conversion *conversion, ConversionPhase next)
{
	Step		step = {pass, conversion, NIL, next};
	Conversion	before = *conversion;
	const char *after_commit = point(conversion, "after_commit");
	ErrorData  *error = attempt_in_transaction(enter_step, &step);

	if (error != NULL)
	{
		*conversion = before;
		return failed(pass, conversion, error);
	}
	stop_point(after_commit);
	return step.gone ? GONE_NAP : 0;
}

typedef struct Reading
{
	Conversion *conversion;
	List	   *statements;
	ConvertStatement one;
	bool		found;
	bool		gone;			/* cancelled, or done by somebody else */
} Reading;

/* One that is just being cancelled is left alone. */
static bool
still_to_do(Reading *reading)
{
	ConversionPhase phase = reading->conversion->phase;

	reading->gone = !conversion_lock(reading->conversion) || reading->conversion->phase != phase;
	return !reading->gone;
}

static void
read_statements_step(void *arg)
{
	Reading    *reading = (Reading *) arg;

	if (!still_to_do(reading))
		return;
	reading->statements = reading->conversion->phase == CONVERSION_FINISHING ?
		convert_finishing(reading->conversion) :
		convert_step(reading->conversion, reading->conversion->phase);
}

static void
read_index_step(void *arg)
{
	Reading    *reading = (Reading *) arg;

	if (still_to_do(reading))
		reading->found = convert_next_index(reading->conversion, &reading->one);
}

/* Statements that take long, and no lock that is noticed. */
static ErrorData *
run_long(Conversion *conversion, bool *gone)
{
	Reading		reading = {conversion};
	ErrorData  *failure = attempt_in_transaction(read_statements_step, &reading);
	ListCell   *cell;

	*gone = reading.gone;
	if (failure != NULL)
		return failure;
	foreach(cell, reading.statements)
	{
		const ConvertStatement *statement = (const ConvertStatement *) lfirst(cell);
		bool		committed;
		ErrorData  *error = toplevel_execute_limited(statement->sql, statement->run_as,
													 conversion->relation, &committed);

		if (error != NULL)
			return error;
	}
	return NULL;
}

static ErrorData *
run_indexing(Conversion *conversion, bool *gone)
{
	for (;;)
	{
		Reading		reading = {conversion};
		bool		committed;
		ErrorData  *error;

		error = attempt_in_transaction(read_index_step, &reading);
		*gone = reading.gone;
		if (error != NULL || !reading.found)
			return error;
		error = toplevel_execute_limited(reading.one.sql, reading.one.run_as, conversion->relation,
										 &committed);
		stop_point("convert_indexing:one_made");
		if (error != NULL)
			return error;
	}
}

static void
undo(Conversion *conversion, List *relids, bool only_check)
{
	SqlSession	session;
	List	   *companions = NIL;
	List	   *statements;

	sql_begin(&session, GetUserId());
	/* of a partition there is nothing but the CHECK */
	if (!only_check && conversion->kind == CONVERSION_TABLE)
		companions = convert_companions(conversion->relation, "undoing");
	convert_lock_prepare(list_concat_copy(relids, companions));
	statements = only_check ? convert_dropping_check(conversion) : convert_undoing(conversion);
	(void) convert_lock_strongly(relids, companions);
	convert_run(statements);
	sql_end(&session);
}

/*
 * Takes the conversion back in one transaction, as far as it has come. The caller
 * has locked its row.
 */
void
conversion_undo(Conversion *conversion)
{
	List	   *relids = list_make1_oid(conversion->relation);

	if (OidIsValid(conversion->parent) && get_rel_name(conversion->parent) == NULL)
		conversion->parent = InvalidOid;
	if (OidIsValid(conversion->parent))
		relids = lcons_oid(conversion->parent, relids);
	undo(conversion, relids, false);
	conversion_restore_policy(conversion);
}

static void
give_up_step(void *arg)
{
	Step	   *step = (Step *) arg;
	Record		record = {subject_of(step->conversion), ACTION_ERROR, step->text};

	if (!conversion_lock(step->conversion))
	{
		step->gone = true;
		return;
	}
	conversion_undo(step->conversion);
	conversion_fail(step->conversion, step->text, true);
	history_add(&record, step->pass->now);
}

/* A row hinders the conversion: everything becomes as it was. */
static long
give_up(Pass *pass, Conversion *conversion, const ErrorData *error)
{
	Step		step = {pass, conversion};
	ErrorData  *second;

	step.text = attempt_error_text(error);
	second = attempt_in_transaction(give_up_step, &step);
	if (second != NULL)
		return failed(pass, conversion, second);
	progress_error(step.text);
	return -1;
}

static void
begin_again_step(void *arg)
{
	Step	   *step = (Step *) arg;
	Conversion *conversion = step->conversion;
	const KeyKind *kind;
	Policy	   *policy;
	ConvertBound bound;

	if (!conversion_lock(conversion) || conversion->phase > CONVERSION_ATTACHING)
	{
		step->gone = true;
		return;
	}
	if (convert_later_is_below(conversion))
	{
		/* its bound stays: later partitions are made again */
		undo(conversion, tables_of(conversion), true);
		conversion->finish_by = 0;
		conversion_note_bound(conversion);
		conversion_enter(conversion, CONVERSION_CHECKING);
		return;
	}
	policy = conversion_policy(conversion);
	kind = key_kind_told(get_atttype(conversion->relation,
									 get_attnum(conversion->relation, conversion->key)),
						 policy->key_encoding);
	if (kind == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the key of table \"%s\" is gone", conversion->table_name),
				 errhint("sagaz_ha.cancel_partition_table() takes the conversion back.")));
	convert_bound(policy, conversion->relation, conversion->key, kind, step->pass->now, &bound);
	undo(conversion, list_make1_oid(conversion->relation), true);
	conversion->upper = key_literal(kind, bound.upper);
	conversion->finish_by = bound.finish_by;
	conversion_note_bound(conversion);
	conversion_enter(conversion, CONVERSION_CHECKING);
}

/* Rows come near the bound: a later one is needed. */
static long
begin_again(Pass *pass, Conversion *conversion)
{
	Step		step = {pass, conversion};
	ErrorData  *error = attempt_in_transaction(begin_again_step, &step);

	if (error != NULL)
		return failed(pass, conversion, error);
	return step.gone ? GONE_NAP : 0;
}

static void
end_step(void *arg)
{
	Step	   *step = (Step *) arg;
	Conversion *conversion = step->conversion;
	Record		record = {subject_of(conversion), ACTION_CONVERT};

	if (!conversion_lock(conversion))
		return;
	record.subject.parent = conversion->parent;
	record.subject.table_name = names_display(conversion->parent);
	record.subject.partition = conversion->relation;
	record.subject.partition_name = names_display(conversion->relation);
	record.details = conversion->relation == conversion->parent ?
		"foreign keys to it are validated" :
		psprintf("is partitioned; rows before %s are in partition %s; longest lock %.1f ms", conversion->upper,
				 record.subject.partition_name, conversion->longest_lock / 1000.0);
	conversion_end(conversion->relation);
	history_add(&record, step->pass->now);
	shared_wake_database_at_commit();
	stop_point("convert_finishing:before_commit");
}

/* The later partitions are made, and what was put off is done. */
static long
finish(Pass *pass, Conversion *conversion)
{
	Step		step = {pass, conversion};
	ErrorData  *error = convert_later_finish(pass, conversion);

	if (error == NULL)
		error = run_long(conversion, &step.gone);
	if (step.gone)
		return GONE_NAP;
	if (error == NULL)
		error = attempt_in_transaction(end_step, &step);
	if (error != NULL)
		return failed(pass, conversion, error);
	ereport(LOG, (errmsg("sagaz_ha: CONVERT %s: is partitioned", conversion->table_name)));
	progress_action();
	stop_point("convert_finishing:after_commit");
	return -1;
}

typedef struct Move
{
	Step		step;
	ConvertRows rows;
	bool		drop;
} Move;

static void
move_step(void *arg)
{
	Move	   *move = (Move *) arg;
	Conversion *conversion = move->step.conversion;

	if (!conversion_lock(conversion))
	{
		move->step.gone = true;
		return;
	}
	convert_lock_prepare(tables_of(conversion));
	if (move->drop)
		convert_rows_drop_default(conversion, &move->rows);
	else
		convert_rows_move(conversion, move->step.pass->now, &move->rows);
	if (OidIsValid(move->rows.created))
		history_add(&move->rows.record, move->step.pass->now);
	if (!move->drop)
	{
		if (OidIsValid(move->rows.created))
			stop_point("convert_moving:before_commit");
		return;
	}
	if (move->rows.stuck != NULL)
		conversion_fail(conversion,
						psprintf("these rows of partition %s can't be moved in one short transaction: %s",
								 names_display(conversion->relation), move->rows.stuck), false);
	else
		conversion_enter(conversion, CONVERSION_FINISHING);
}

/* Rows leave the default partition, range by range; then it goes. */
static long
move_rows(Pass *pass, Conversion *conversion)
{
	Move		move = {{pass, conversion}};

	move.rows.from = CAL_MINUS_INFINITY;
	for (;;)
	{
		ErrorData  *error = attempt_in_transaction(move_step, &move);

		if (error != NULL)
			return failed(pass, conversion, error);
		if (move.step.gone)
			return GONE_NAP;
		if (move.drop)
			return move.rows.stuck != NULL ? -1 : 0;
		if (OidIsValid(move.rows.created))
		{
			move.step.held = GetCurrentTimestamp() - move.rows.locked_at;
			stop_point("convert_moving:after_commit");
			require(attempt_in_transaction(note_lock_step, &move.step));
		}
		move.drop = move.rows.ended;
	}
}

/* Does what takes long, by a function that returns what went wrong, and enters the next phase. */
static long
long_step(Pass *pass, Conversion *conversion, ErrorData *(*run) (Conversion *, bool *),
		  ConversionPhase next)
{
	bool		gone;
	ErrorData  *error = run(conversion, &gone);

	if (gone)
		return GONE_NAP;
	if (error == NULL)
		return enter(pass, conversion, next);
	if (error->sqlerrcode == ERRCODE_CHECK_VIOLATION && conversion->phase == CONVERSION_VALIDATING)
		return give_up(pass, conversion, error);
	return failed(pass, conversion, error);
}

/* Later partitions couldn't be made yet; why is a problem of the table. */
static long
wait_for_partitions(Pass *pass, Conversion *conversion)
{
	long		nap = back_off(LOCK_NAP, conversion->tries, MAX_LOCK_NAP);

	note_try(pass, conversion, "later partitions, which cannot be made yet", NULL, nap);
	return nap;
}

/* One step. 0: go on; -1: there is nothing more to do; else how long to wait, in ms. */
static long
advance(Pass *pass, Conversion *conversion)
{
	bool		whole = conversion->kind == CONVERSION_TABLE;
	ErrorData  *error;
	bool		made;

	/*
	 * before its row is looked at: who cancels it locks that, and then ends
	 * this process
	 */
	progress_subject(conversion->relation);
	progress_phase(psprintf("converting, %s", conversion_phase_name(conversion->phase)),
				   conversion->table_name);
	if (conversion->finish_by != 0 && conversion->phase <= CONVERSION_ATTACHING &&
		pass->now >= conversion->finish_by)
		return begin_again(pass, conversion);
	switch (conversion->phase)
	{
		case CONVERSION_CHECKING:
			error = convert_later_make(pass, conversion, &made);
			if (error != NULL)
				return failed(pass, conversion, error);
			if (!made)
				return wait_for_partitions(pass, conversion);
			return run_locked(pass, conversion, CONVERSION_VALIDATING);
		case CONVERSION_VALIDATING:
			return long_step(pass, conversion, run_long,
							 whole ? CONVERSION_INDEXING : CONVERSION_ATTACHING);
		case CONVERSION_INDEXING:
			return long_step(pass, conversion, run_indexing, CONVERSION_LINKING);
		case CONVERSION_LINKING:
			return enter(pass, conversion, CONVERSION_ATTACHING);
		case CONVERSION_ATTACHING:
			return run_locked(pass, conversion, CONVERSION_ANALYZING);
		case CONVERSION_ANALYZING:
			return long_step(pass, conversion, run_long,
							 whole ? CONVERSION_RENAMING : CONVERSION_FINISHING);
		case CONVERSION_RENAMING:
			return run_locked(pass, conversion, CONVERSION_FINISHING);
		case CONVERSION_FINISHING:
			return finish(pass, conversion);
		case CONVERSION_MOVING:
			return move_rows(pass, conversion);
		case CONVERSION_FAILED:
			break;
	}
	return -1;
}

/* As far as it goes now; how soon, in ms, to look again; 0: not before it is asked for. */
static long
go_on(Pass *pass, Conversion *conversion)
{
	static TimestampTz begun = 0;
	static TimestampTz begun_at;

	if (begun == 0)
	{
		begun = pass->now;
		begun_at = GetCurrentTimestamp();
	}
	for (;;)
	{
		long		nap = 0;

		CHECK_FOR_INTERRUPTS();
		/* it can take days */
		pass->now = begun + (GetCurrentTimestamp() - begun_at);
		if (conversion->next_try != 0)
			nap = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), conversion->next_try);
		conversion->next_try = 0;
		if (nap == 0)
			nap = advance(pass, conversion);
		if (nap < 0)
			return 0;
		if (nap > SHORT_NAP)
			return nap;
		if (nap > 0)
			process_nap(nap);
	}
}

/* Drops the partitioned table whose plain one is gone, unless somebody gave it partitions. */
static void
drop_left_step(void *arg)
{
	Step	   *step = (Step *) arg;
	Oid			parent = step->conversion->parent;

	conversion_end(step->conversion->relation);
	if (get_rel_name(parent) == NULL)
		return;
	identity_set_local("lock_timeout", psprintf("%d", sagaz_conversion_lock_timeout));
	LockRelationOid(parent, AccessExclusiveLock);
	if (get_rel_name(parent) == NULL || find_inheritance_children(parent, NoLock) != NIL)
		return;
	convert_drop_left(parent);
	stop_point("convert_left:before_commit");
}

/* Ends the conversion of a table that was dropped; how soon to look again, in ms. */
static long
drop_left(Pass *pass, Conversion *conversion)
{
	Step		step = {pass, conversion};
	ErrorData  *error = attempt_in_transaction(drop_left_step, &step);

	return error == NULL ? 0 : failed(pass, conversion, error);
}

static void
find_left_step(void *arg)
{
	Step	   *step = (Step *) arg;

	step->gone = get_rel_name(step->conversion->relation) == NULL;
}

static bool
is_left(Pass *pass, Conversion *conversion)
{
	Step		step = {pass, conversion};

	require(attempt_in_transaction(find_left_step, &step));
	return step.gone;
}

static void
load_step(void *arg)
{
	dropped_forget_orphans();
	*(List **) arg = conversion_load();
}

/* Goes on with every conversion of the database; how soon, in ms, the next look is due. */
int
conversion_run(Pass *pass)
{
	List	   *conversions = NIL;
	ListCell   *cell;
	long		soon = 0;

	require(attempt_in_transaction(load_step, &conversions));
	foreach(cell, conversions)
	{
		Conversion *conversion = (Conversion *) lfirst(cell);
		long		nap;

		nap = is_left(pass, conversion) ? drop_left(pass, conversion) : go_on(pass, conversion);
		if (nap > 0)
			soon = soon == 0 ? nap : Min(soon, nap);
	}
	return (int) soon;
}
