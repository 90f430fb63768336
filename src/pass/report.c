/*
 * report.c
 *		Recording what a pass did and found, and what is wrong now.
 *
 * Invariant: a record is written in the transaction that did or found it. A state
 * that lasts (KEEP, DEFER, ERROR) is a row of sagaz_ha.problem, and comes into the
 * history, the log and the notifications when it begins or becomes another one:
 * a pass with nothing new writes nothing there.
 */
#include "pass/report.h"

#include "catalog/names.h"
#include "shmem/progress.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* So many partitions of a table are looked at, one after the other. */
void
report_begin_table(Pass *pass, int partitions)
{
	pass->left = partitions;
	pass->table_failed = false;
}

/* What a report about a table as a whole is about. */
Subject
report_table(const TablePlan *table)
{
	Subject		subject = {table->policy->parent, table->table_name};

	return subject;
}

/* What a report about a partition is about; it may not exist yet. */
Subject
report_partition(const TablePlan *table, Oid partition, const char *name)
{
	Subject		subject = {table->policy->parent, table->table_name, partition, name};

	return subject;
}

static void
tell(Pass *pass, const Record *record)
{
	if (pass->emit != NULL)
		pass->emit(record, pass->arg);
}

/* Records it in the history and, in the background, in the log. */
static void
record_news(Pass *pass, const Record *record)
{
	const Subject *subject = &record->subject;

	history_add(record, pass->now);
	if (!pass->background)
		return;
	progress_action();
	ereport(LOG,
			(errmsg("sagaz_ha: %s %s: %s", history_action_name(record->action),
					subject->partition_name ? subject->partition_name : subject->table_name,
					record->details)));
}

/* What is known of a subject, which the pass has met now. */
static Problem *
meet(Pass *pass, const Subject *subject)
{
	Problem    *known = problem_find(pass->problems, subject);

	if (known != NULL)
		known->seen = true;
	return known;
}

/* Something was done, so what hindered it is solved. */
void
report_done(Pass *pass, const Subject *subject, Action action, const char *details)
{
	Record		record = {*subject, action, details};
	Problem    *known = meet(pass, subject);

	tell(pass, &record);
	record_news(pass, &record);
	if (known == NULL)
		return;
	problem_remove(known, pass->finder);
	/* no state that lasts: a later report of this pass is news */
	known->action = action;
}

/* A later report of the same pass is compared with this one. */
static void
remember(Pass *pass, Problem *known, const ProblemReport *report)
{
	const Record *record = report->record;

	if (known == NULL)
	{
		known = (Problem *) palloc0(sizeof(Problem));
		pass->problems = lappend(pass->problems, known);
	}
	known->parent = record->subject.parent;
	known->table_name = pstrdup(record->subject.table_name);
	known->partition = record->subject.partition;
	known->partition_name = record->subject.partition_name ?
		pstrdup(record->subject.partition_name) : NULL;
	known->action = record->action;
	known->sqlerrcode = report->sqlerrcode;
	known->details = pstrdup(record->details);
	known->times = report->times;
	known->next_try = report->next_try;
	known->seen = true;
}

/* A state that lasts. What only goes on, as it did, is not written again. */
static void
report_lasting(Pass *pass, const Record *record, int sqlerrcode, bool is_try)
{
	Problem    *known = meet(pass, &record->subject);
	bool		same = problem_is_same(known, record, sqlerrcode);
	ProblemReport report = {record, sqlerrcode, 0, 1};

	tell(pass, record);
	if (same && is_try)
		report.times = known->unchanged ? known->times + 1 : 1;
	if (pass->background && record->action == ACTION_ERROR)
	{
		report.next_try = problem_back_off(GetCurrentTimestamp(), report.times);
		if (pass->next_try == 0 || report.next_try < pass->next_try)
			pass->next_try = report.next_try;
	}
	else if (pass->background && is_try)
		report.next_try = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pass->defer_nap);
	if (same && !is_try && strcmp(known->details, record->details) == 0)
		return;
	if (!problem_save(&report, pass->finder, same, pass->now))
		return;
	remember(pass, known, &report);
	if (!same)
		record_news(pass, record);
}

/* An expired partition stays. */
void
report_keep(Pass *pass, const Subject *subject, const char *details)
{
	Record		record = {*subject, ACTION_KEEP, details};

	report_lasting(pass, &record, 0, false);
}

/* Something is put off until others are ready. */
void
report_defer(Pass *pass, const Subject *subject, const char *details)
{
	Record		record = {*subject, ACTION_DEFER, details};

	report_lasting(pass, &record, 0, false);
}

/* A partition differs from its table. */
void
report_drift(Pass *pass, const Subject *subject, const char *details)
{
	Record		record = {*subject, ACTION_DRIFT, details};

	report_lasting(pass, &record, 0, false);
}

/*
 * A retirement that has failed and is tried again is that error until it is done:
 * or else each try would be news, and none would be the next of the last one.
 */
static bool
is_tried_again(Pass *pass, const Record *record)
{
	Problem    *known = meet(pass, &record->subject);

	if (known == NULL || known->action != ACTION_ERROR)
		return false;
	tell(pass, record);
	return true;
}

/* A retirement waits for sessions or standbys. */
void
report_waits(Pass *pass, const Subject *subject, const char *details)
{
	Record		record = {*subject, ACTION_DEFER, details};

	if (!is_tried_again(pass, &record))
		report_lasting(pass, &record, 0, false);
}

/* A retirement begins, or comes to its last step: that is news, though something deferred it before. */
void
report_announced(Pass *pass, const Subject *subject, const char *details)
{
	Record		record = {*subject, ACTION_DEFER, details};
	Problem    *known = meet(pass, subject);
	ProblemReport report = {&record, 0, 0, 1};

	if (is_tried_again(pass, &record))
		return;
	tell(pass, &record);
	if (problem_save(&report, pass->finder, false, pass->now))
		remember(pass, known, &report);
	record_news(pass, &record);
}

/*
 * Whether an error is only that something is in use: by another session, or by an
 * open cursor or a pending trigger of this very one.
 */
bool
report_is_for_later(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_OBJECT_IN_USE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

typedef struct Failure
{
	Pass	   *pass;
	const Subject *subject;
	const ErrorData *error;
	int			left;			/* how many more would meet it */
} Failure;

static bool
is_gone(const Subject *subject)
{
	return (OidIsValid(subject->parent) && get_rel_name(subject->parent) == NULL) ||
		(OidIsValid(subject->partition) && get_rel_name(subject->partition) == NULL);
}

static void
failure_step(void *arg)
{
	Failure    *failure = (Failure *) arg;
	Pass	   *pass = failure->pass;
	const ErrorData *error = failure->error;
	Record		record = {*failure->subject};
	bool		defer = report_is_for_later(error);

	/* it failed because the table or the partition was dropped concurrently */
	if (is_gone(failure->subject))
		return;
	record.action = defer ? ACTION_DEFER : ACTION_ERROR;
	record.details = defer ? error->message : attempt_error_text(error);
	if (failure->left > 0)
		record.details = psprintf("%s (%d more %s left)", record.details, failure->left,
								  failure->left == 1 ? "partition is" : "partitions are");
	if (defer)
	{
		pass->deferred = true;
		progress_waiting_for(record.details);
	}
	else
		progress_error(record.details);
	report_lasting(pass, &record, defer ? 0 : error->sqlerrcode, true);
}

/*
 * Whether the table's next partition would meet the same error: it is out of
 * something, or something that all of them need is missing. What follows from the
 * rows or the name of one, or from what depends on it, is an error of that one.
 * Locks, privileges and limits of time are the table's where partitions are made,
 * and later those of each one.
 */
static bool
is_of_table(int sqlerrcode, bool creating)
{
	if (sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE ||
		sqlerrcode == ERRCODE_QUERY_CANCELED)
		return creating;
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_FEATURE_NOT_SUPPORTED:
		case ERRCODE_INVALID_TRANSACTION_STATE:
		case ERRCODE_UNDEFINED_SCHEMA:
			return true;
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
			return sqlerrcode != ERRCODE_DUPLICATE_TABLE &&
				sqlerrcode != ERRCODE_DUPLICATE_OBJECT &&
				sqlerrcode != ERRCODE_INVALID_OBJECT_DEFINITION &&
				sqlerrcode != ERRCODE_UNDEFINED_TABLE &&
				sqlerrcode != ERRCODE_WRONG_OBJECT_TYPE;
	}
	return false;
}

/* The same of a step's error, if there is one. */
bool
report_ends_table(const ErrorData *error, bool creating)
{
	return error != NULL && is_of_table(error->sqlerrcode, creating);
}

/*
 * A step has failed. An unavailable lock is for later; all else is an error,
 * unless what it is about is gone.
 */
void
report_failure(Pass *pass, const Subject *subject, const ErrorData *error)
{
	bool		all = report_ends_table(error, false);

	pass->table_failed = pass->table_failed || all;
	report_failure_of_all(pass, subject, error, all ? pass->left : 0);
}

/* The same, and so many more partitions are left because they would meet it as well. */
void
report_failure_of_all(Pass *pass, const Subject *subject, const ErrorData *error, int left)
{
	Failure		failure = {pass, subject, error, left};
	ErrorData  *second = pass->attempt(failure_step, &failure);

	if (second != NULL)
		ReThrowError(second);
}

/*
 * The same of a retirement that was undone. That it has changed the partition
 * itself since the last try is no reason to try again sooner.
 */
void
report_failed_retirement(Pass *pass, const Subject *subject, const ErrorData *error)
{
	Problem    *known = problem_find(pass->problems, subject);

	if (known != NULL)
		known->unchanged = true;
	report_failure(pass, subject, error);
}

/* Whether the worker has failed with it so lately that it is too early to try again. */
bool
report_backs_off(Pass *pass, const Subject *subject)
{
	Problem    *known = problem_find(pass->problems, subject);

	if (!pass->background || known == NULL || !problem_backs_off(known))
		return false;
	known->seen = true;
	if (pass->next_try == 0 || known->next_try < pass->next_try)
		pass->next_try = known->next_try;
	return true;
}

/* The same, of an error that the table's other partitions would meet as well. */
bool
report_table_backs_off(Pass *pass, const Subject *subject, bool creating)
{
	return report_backs_off(pass, subject) &&
		is_of_table(problem_find(pass->problems, subject)->sqlerrcode, creating);
}

/* What is known of a subject stays: it isn't looked at now. */
void
report_leave(Pass *pass, const Subject *subject)
{
	(void) meet(pass, subject);
}

/* What was wrong with a subject is over, and nothing else is to be recorded. */
void
report_solved(Pass *pass, const Subject *subject)
{
	Problem    *known = meet(pass, subject);

	if (known != NULL)
		problem_remove(known, pass->finder);
}

/* What is known of expired partitions stays: the pass has not come to them. */
void
report_leave_expired(Pass *pass, const TablePlan *table)
{
	ListCell   *cell;

	foreach(cell, pass->problems)
	{
		Problem    *problem = (Problem *) lfirst(cell);

		if (problem->parent == table->policy->parent && OidIsValid(problem->partition) &&
			table_plan_expires(table, problem->partition))
			problem->seen = true;
	}
}

/* The same of the partitions that are missing, by the names that they will have. */
void
report_leave_missing(Pass *pass, const TablePlan *table)
{
	ListCell   *cell;

	if (pass->problems == NIL)
		return;
	foreach(cell, table->creates)
	{
		Subject		subject = report_partition(table, InvalidOid,
											   table_plan_new_name(table, (PlanBound *) lfirst(cell)));

		(void) meet(pass, &subject);
	}
}
