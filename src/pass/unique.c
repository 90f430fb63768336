/*
 * unique.c
 *		Bringing unique keys across partitions into force, step by step.
 *
 * Invariant: building → checking → in force, each a transaction of the worker, and
 * each found again in sagaz_ha.unique_key after a crash. Of a small table all are
 * done in the caller's transaction. A partition that lost its index gets it again;
 * triggers that are lost are back when add_unique() is called, because in a restore
 * they are only yet to come.
 */
#include "pass/unique.h"

#include "access/table.h"
#include "base/process.h"
#include "base/settings.h"
#include "catalog/names.h"
#include "ddl/locks.h"
#include "ddl/toplevel.h"
#include "ddl/unique.h"
#include "ddl/unique_look.h"
#include "miscadmin.h"
#include "pass/report.h"
#include "shmem/progress.h"
#include "utils/timestamp.h"

/* A table up to this size, in blocks, gets its indexes at once: they take milliseconds. */
#define SMALL_TABLE		2000

/* Between two tries for a lock that writers would notice, in ms. */
#define RETRY_NAP		200

static void
build_and_enforce_step(void *arg)
{
	UniqueKeyRow *row = (UniqueKeyRow *) arg;

	unique_build_all(row->parent, row->columns);
	unique_enforce(row);
}

static void
enforce_step(void *arg)
{
	unique_enforce((UniqueKeyRow *) arg);
}

/* What is left of a large table's building is the worker's. */
static void
tell_building(const UniqueKeyRow *row, int missing)
{
	if (missing > 0)
		ereport(NOTICE,
				(errmsg("unique constraint \"%s\" is not in force yet", row->name),
				 errdetail("%d partitions of table %s get their indexes from the worker, by CREATE INDEX CONCURRENTLY.",
						   missing, names_display(row->parent)),
				 errhint("See sagaz_ha.unique_key. Without a worker, make the indexes by hand and call this again.")));
	else
		ereport(NOTICE,
				(errmsg("unique constraint \"%s\" is not in force yet", row->name),
				 errdetail("Table %s is in use.", names_display(row->parent)),
				 errhint("The worker tries again. Without one, call this again.")));
}

/* From 'building': in the caller's transaction, as far as nobody notices. */
static void
advance(UniqueKeyRow *row, TimestampTz now)
{
	bool		small = unique_blocks(row->parent) <= SMALL_TABLE;
	int			missing = list_length(unique_missing(row->parent, row->columns));
	ErrorData  *error = NULL;

	if (row->phase != UNIQUE_BUILDING && unique_key_lacks_triggers(row))
	{
		row->phase = UNIQUE_BUILDING;
		unique_key_set_phase(row->parent, row->name, row->phase);
	}
	if (row->phase == UNIQUE_BUILDING)
	{
		if (small || missing == 0)
			error = attempt_in_subtransaction(small ? build_and_enforce_step : enforce_step, row);
		if (error != NULL && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ReThrowError(error);
		if (error != NULL || (!small && missing > 0))
		{
			tell_building(row, error != NULL ? 0 : missing);
			return;
		}
		row->phase = UNIQUE_CHECKING;
		unique_key_set_phase(row->parent, row->name, row->phase);
		if (!small)
		{
			ereport(NOTICE,
					(errmsg("unique constraint \"%s\" is in force for new rows", row->name),
					 errdetail("The worker looks for duplicates among those that exist."),
					 errhint("See sagaz_ha.unique_key. Without a worker, call this again in a new transaction.")));
			return;
		}
	}
	if (row->phase == UNIQUE_CHECKING)
	{
		unique_look(row, unique_enforced_columns(row->parent, row->name), now);
		unique_key_set_phase(row->parent, row->name, UNIQUE_IN_FORCE);
	}
}

static bool
same_within(const Interval *a, const Interval *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return a->month == b->month && a->day == b->day && a->time == b->time;
}

/* A table's key on these columns, or NULL. */
static UniqueKeyRow *
find_row(Oid table, List *columns)
{
	char	   *name = unique_find(table, columns);
	ListCell   *cell;

	foreach(cell, name == NULL ? NIL : unique_key_load(table))
	{
		UniqueKeyRow *row = (UniqueKeyRow *) lfirst(cell);

		if (strcmp(row->name, name) == 0)
			return row;
	}
	return NULL;
}

/*
 * Adds a key, or goes on with one that was added; its name. Two that add keys to
 * the same table wait for each other.
 */
char *
unique_add(UniqueKeyRow *row, TimestampTz now)
{
	UniqueKeyRow *known;

	/* ALTER TABLE refuses a table that this session has open */
	table_close(locks_open_parent(row->parent, ShareUpdateExclusiveLock), NoLock);
	unique_require(row->parent, row->columns, row->skips);
	known = find_row(row->parent, row->columns);
	if (known != NULL && (known->skips != row->skips || !same_within(known->within, row->within)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("table %s has unique constraint \"%s\" on these columns already, with other terms",
						names_display(row->parent), known->name),
				 errhint("Remove it with sagaz_ha.drop_unique() first.")));
	if (known == NULL)
	{
		row->name = unique_choose_name(row->parent, row->columns);
		row->phase = UNIQUE_BUILDING;
		unique_key_add(row, now);
		known = row;
	}
	/* what they are called now */
	known->columns = row->columns;
	advance(known, now);
	return known->name;
}

static void
refuse_to_keep(Oid table)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("keeping columns of table %s unique would take long under a lock",
					names_display(table)),
			 errhint("The table was changed meanwhile: cancel its conversion, and begin again.")));
}

/*
 * Adds a key that is in force when this returns, for a table that has just been
 * converted: all its rows are in one partition, which has the index, and the caller
 * has locked both.
 */
char *
unique_keep(UniqueKeyRow *row, TimestampTz now)
{
	char	   *known;

	/* ALTER TABLE refuses a table that this session has open */
	table_close(locks_open_parent(row->parent, ShareUpdateExclusiveLock), NoLock);
	unique_require(row->parent, row->columns, false);
	known = unique_find(row->parent, row->columns);
	if (known != NULL)
		return known;
	if (unique_missing(row->parent, row->columns) != NIL)
		refuse_to_keep(row->parent);
	row->name = unique_choose_name(row->parent, row->columns);
	row->phase = UNIQUE_IN_FORCE;
	unique_key_add(row, now);
	unique_enforce(row);
	if (!unique_look_is_needless(row->parent))
		refuse_to_keep(row->parent);
	return row->name;
}

static void
end_step(void *arg)
{
	const UniqueKeyRow *row = (const UniqueKeyRow *) arg;

	unique_end(row->parent, row->name);
}

/*
 * Removes the key on these columns; false if there is none. Each try for the lock is
 * a subtransaction, so between two tries readers and writers go on.
 */
bool
unique_drop(Oid table, List *columns)
{
	UniqueKeyRow *row = find_row(table, columns);
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), sagaz_lock_timeout);
	ErrorData  *error;

	if (row == NULL)
		return false;
	while ((error = attempt_in_subtransaction(end_step, row)) != NULL)
	{
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE || GetCurrentTimestamp() >= until)
			ReThrowError(error);
		process_nap(RETRY_NAP);
	}
	return unique_key_remove(table, row->name);
}

/* One key while the worker is at it. */
typedef struct KeyStep
{
	Pass	   *pass;
	UniqueKeyRow *row;
	Subject		subject;
	bool		back_off;
	List	   *columns;		/* as they are called now */
	bool		enforced;
	List	   *missing;		/* of UniqueMissing * */
} KeyStep;

static void
load_step(void *arg)
{
	*(List **) arg = unique_key_load(InvalidOid);
}

static void
plan_step(void *arg)
{
	KeyStep    *step = (KeyStep *) arg;
	UniqueKeyRow *row = step->row;

	step->subject.parent = row->parent;
	step->subject.table_name = names_display(row->parent);
	step->subject.partition_name = row->name;
	step->back_off = report_backs_off(step->pass, &step->subject);
	step->columns = unique_enforced_columns(row->parent, row->name);
	step->enforced = step->columns != NIL;
	if (!step->enforced)
		step->columns = row->columns;
	/* in a restore the trigger comes last: until then the rest isn't ours */
	if (!step->enforced && row->phase != UNIQUE_BUILDING)
		return;
	if (!step->enforced)
		unique_require(row->parent, row->columns, row->skips);
	step->missing = unique_missing(row->parent, step->columns);
}

/* Makes one index; false if that has failed. */
static bool
build(KeyStep *step, const UniqueMissing *missing)
{
	bool		committed;
	ErrorData  *error = NULL;

	progress_phase("indexing", missing->name);
	if (missing->leftover != NULL)
		error = toplevel_execute(psprintf("DROP INDEX CONCURRENTLY IF EXISTS %s", missing->leftover),
								 missing->owner, &committed);
	if (error == NULL)
		error = toplevel_execute(missing->statement, missing->owner, &committed);
	if (error != NULL)
		report_failure(step->pass, &step->subject, error);
	return error == NULL;
}

static void
force_step(void *arg)
{
	KeyStep    *step = (KeyStep *) arg;
	UniqueKeyRow *row = step->row;

	if (row->phase == UNIQUE_BUILDING)
	{
		row->columns = step->columns;
		if (unique_key_lacks_triggers(row))
			unique_enforce(row);
		unique_key_set_phase(row->parent, row->name, UNIQUE_CHECKING);
	}
}

static void
check_step(void *arg)
{
	KeyStep    *step = (KeyStep *) arg;
	UniqueKeyRow *row = step->row;
	List	   *columns = unique_enforced_columns(row->parent, row->name);

	if (columns == NIL)
		return;
	unique_look(row, columns, step->pass->now);
	unique_key_set_phase(row->parent, row->name, UNIQUE_IN_FORCE);
	report_done(step->pass, &step->subject, ACTION_CREATE, "unique across partitions");
}

static void
go_on_with(Pass *pass, UniqueKeyRow *row)
{
	KeyStep		step = {pass, row};
	ErrorData  *error = pass->attempt(plan_step, &step);
	ListCell   *cell;

	if (error == NULL && step.back_off)
		return;
	foreach(cell, step.missing)
	{
		CHECK_FOR_INTERRUPTS();
		progress_count(foreach_current_index(cell), list_length(step.missing));
		if (!build(&step, (UniqueMissing *) lfirst(cell)))
			return;
	}
	if (error == NULL)
		error = pass->attempt(force_step, &step);
	if (error == NULL && row->phase != UNIQUE_IN_FORCE)
		error = pass->attempt(check_step, &step);
	if (error != NULL)
		report_failure(pass, &step.subject, error);
}

/* The worker's steps, of all keys. */
void
unique_go_on(Pass *pass)
{
	List	   *rows = NIL;
	ErrorData  *error = pass->attempt(load_step, &rows);
	ListCell   *cell;

	if (error != NULL)
		ReThrowError(error);
	foreach(cell, rows)
	{
		CHECK_FOR_INTERRUPTS();
		go_on_with(pass, (UniqueKeyRow *) lfirst(cell));
	}
}
