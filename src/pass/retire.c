/*
 * retire.c
 *		The worker's way of retiring partitions: no lock that anybody notices.
 *
 *		expired -> announced -> fenced -> detach pending -> gone
 *
 * Each arrow is a transaction, and each state can be told from the catalogs,
 * so the next pass goes on after a crash anywhere. That a pending detach is
 * ours, and not begun by somebody who wants to keep the rows, is known from
 * the history row that is committed before the detach begins.
 */
#include "pass/retire.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "ddl/execute.h"
#include "executor/spi.h"
#include "ddl/fence.h"
#include "shmem/proxy_lock.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shmem/progress.h"
#include "base/settings.h"
#include "storage/latch.h"
#include "ddl/toplevel.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Longest wait for a lock of a detach, in ms, and so of the wait that ends it. */
#define DETACH_LOCK_TIMEOUT		"50"

/* So often, and after so many ms, a pass looks again before it leaves it. */
#define FINISH_TRIES	10
#define FINISH_NAP		100

typedef struct Step
{
	Pass	   *pass;
	TablePlan  *table;
	Oid			partition;
	char	   *name;
	char	   *sql;
	bool		exclusive;		/* it can't be detached concurrently */
	bool		gone;			/* nothing is left to be done */
	bool		detached;
	List	   *partitions;		/* of Leftover * */
} Step;

/* A partition that the history has as being retired, and that exists. */
typedef struct Leftover
{
	Oid			parent;
	Oid			partition;
} Leftover;

/* Every step begins with what is true now. */
static void
refresh(TablePlan *table)
{
	Relation	rel = table_open(table->policy->parent, AccessShareLock);

	partition_require_parent(rel, &table->info);
	table_close(rel, NoLock);
}

static bool
is_attached(const ParentInfo *info, Oid partition)
{
	for (int i = 0; i < info->nparts; i++)
		if (info->relids[i] == partition)
			return true;
	return false;
}

/*
 * Whether the history says that we are retiring it, and since when; or since
 * when it has to wait. What failed or had to wait meanwhile, or a freeze that
 * was just under way, doesn't change that. Nor does a KEEP beside a fence: who
 * gives a retirement up lowers that, but a pass by hand only says what it saw.
 */
static bool
is_retiring(Oid partition, TimestampTz *since)
{
	static const char *const sql =
		"SELECT coalesce(state.retiring, false),"
		"       CASE WHEN state.retiring THEN state.recorded_at"
		"            WHEN latest.action = 'DEFER' THEN latest.recorded_at END"
		"  FROM (SELECT h.action, h.recorded_at FROM sagaz_ha.partition_history AS h"
		"         WHERE h.partition = $1 ORDER BY h.id DESC LIMIT 1) AS latest"
		"  LEFT JOIN (SELECT h.action = 'DEFER' AS retiring, h.recorded_at"
		"               FROM sagaz_ha.partition_history AS h"
		"              WHERE h.partition = $1 AND h.action NOT IN ('ERROR', 'FREEZE')"
		"                AND (h.action <> 'DEFER' OR h.details LIKE '" RETIRING "%')"
		"                AND NOT (h.action = 'KEEP' AND $2)"
		"              ORDER BY h.id DESC LIMIT 1) AS state ON true";
	Oid			types[2] = {OIDOID, BOOLOID};
	Datum		values[2] = {ObjectIdGetDatum(partition), BoolGetDatum(fence_is_up(partition))};
	bool		retiring = false;
	bool		isnull;

	SPI_connect();
	if (SPI_execute_with_args(sql, 2, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read partition history");
	if (SPI_processed > 0)
	{
		HeapTuple	row = SPI_tuptable->vals[0];
		Datum		time = SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull);

		if (!isnull)
			*since = DatumGetTimestampTz(time);
		retiring = DatumGetBool(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_finish();
	return retiring;
}

/*
 * The announcement also says that the detach was ours, once it has begun: only
 * then may a table that is found without a parent be dropped.
 */
static void
note_detached_step(void *arg)
{
	static const char *const sql =
		"UPDATE sagaz_ha.partition_history AS h"
		" SET details = '" DETACHED ": waiting for transactions that may see it'"
		" WHERE h.id = (SELECT max(a.id) FROM sagaz_ha.partition_history AS a"
		"                WHERE a.partition = $1 AND a.action = 'DEFER'"
		"                  AND a.details LIKE '" RETIRING "%')";
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(((Step *) arg)->partition)};

	SPI_connect();
	if (SPI_execute_with_args(sql, 1, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not write partition history");
	SPI_finish();
}

/* Whether we had detached it, and it is nobody's partition now. */
static bool
is_ours_detached(Oid partition)
{
	static const char *const sql =
		"SELECT FROM pg_catalog.pg_class AS c"
		" WHERE c.oid = $1 AND NOT c.relispartition"
		"   AND (SELECT h.details FROM sagaz_ha.partition_history AS h"
		"         WHERE h.partition = $1 AND h.action = 'DEFER' AND h.details LIKE '" RETIRING "%'"
		"         ORDER BY h.id DESC LIMIT 1) LIKE '" DETACHED "%'";
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(partition)};
	bool		ours;

	SPI_connect();
	if (SPI_execute_with_args(sql, 1, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read partition history");
	ours = SPI_processed > 0;
	SPI_finish();
	return ours;
}

static void
report_result(Step *step, const RetireResult *result)
{
	static const char *const actions[] = {
		[RETIRE_DROPPED] = ACTION_DROP,
		[RETIRE_DETACHED] = ACTION_DETACH,
		[RETIRE_KEPT] = ACTION_KEEP
	};

	if (result->outcome != RETIRE_GONE)
		maintain_report(step->pass, step->table, actions[result->outcome],
						step->partition, step->name, result->details);
}

static void
finalize_step(void *arg)
{
	Step	   *step = (Step *) arg;
	RetireResult result;
	TimestampTz since = settings_now();
	bool		retiring;

	refresh(step->table);
	step->partition = step->table->info.pending_relid;
	if (!OidIsValid(step->partition))
		return;
	step->name = partition_display_name(step->partition);
	retiring = is_retiring(step->partition, &since);
	execute_finalize(step->table->policy, step->partition, retiring, since, &result);
	report_result(step, &result);
	stop_point("finalize:before_commit");
}

/*
 * Finishes the table's pending detach, whoever left it. False when it has to
 * wait: there can be no other one until then.
 */
static bool
finish_pending(Pass *pass, TablePlan *table)
{
	Step		step = {.pass = pass, .table = table};
	ErrorData  *error;

	/* who is only just in the way is waited for: with no lock and no snapshot */
	for (int tries = 0;; tries++)
	{
		error = pass->attempt(finalize_step, &step);
		if (error == NULL || error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE ||
			tries == FINISH_TRIES)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 FINISH_NAP, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	if (error == NULL)
	{
		stop_point("finalize:after_commit");
		return true;
	}
	maintain_report_failure(pass, table, step.partition, step.name, error);
	pass->waiting = true;
	return false;
}

/*
 * The first look: is it still there, and how can it be detached? DETACH
 * CONCURRENTLY is refused beside a default partition, and where foreign keys
 * are, it would wait for locks on other tables.
 */
static void
announce_step(void *arg)
{
	Step	   *step = (Step *) arg;
	ParentInfo *info = &step->table->info;
	TimestampTz since = 0;

	refresh(step->table);
	step->name = partition_display_name(step->partition);
	step->gone = !is_attached(info, step->partition);
	step->exclusive = OidIsValid(info->default_relid) ||
		partition_referenced_tables(info->relid) != NIL ||
		partition_referencing_tables(info->relid) != NIL;
	if (!step->gone && !step->exclusive && !is_retiring(step->partition, &since))
		maintain_report(step->pass, step->table, ACTION_DEFER, step->partition, step->name,
						RETIRING ": waiting for transactions that may see it");
	step->sql = psprintf("ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY",
						 partition_qualified_name(info->relid),
						 partition_qualified_name(step->partition));
	stop_point("announce:before_commit");
}

static void
fence_step(void *arg)
{
	Step	   *step = (Step *) arg;

	fence_raise(step->table->info.owner, step->partition);
	stop_point("fence:before_commit");
}

/*
 * The detach's first transaction, and nothing of its second: that waits for
 * the launcher's lock until the timeout ends it, and should the launcher be
 * gone, it is undone. The error is returned, unless it is the one that was
 * wanted.
 */
static ErrorData *
detach(Step *step)
{
	ErrorData  *error;
	bool		committed;

	if (!proxy_lock_acquire(step->table->policy->parent))
	{
		step->pass->waiting = true;
		return NULL;
	}
	SetConfigOption("lock_timeout", DETACH_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION);
	error = toplevel_execute(step->sql, step->table->info.owner, true, &committed);
	SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	proxy_lock_release();
	step->detached = committed;
	return committed ? step->pass->attempt(note_detached_step, step) : error;
}

/* Whether somebody dropped, detached or renamed it since it was announced. */
static void
recheck_step(void *arg)
{
	Step	   *step = (Step *) arg;
	ParentInfo *info = &step->table->info;

	refresh(step->table);
	step->gone = (!is_attached(info, step->partition) && info->pending_relid != step->partition) ||
		strcmp(partition_display_name(step->partition), step->name) != 0;
}

/* Retires one expired partition as far as it goes now; false: it waits. */
static bool
retire_partition(Pass *pass, TablePlan *table, const ExpiredPartition *expired)
{
	Step		step = {.pass = pass, .table = table, .partition = expired->relid};
	ErrorData  *error = pass->attempt(announce_step, &step);

	stop_point("announce:after_commit");
	if (error == NULL && step.gone)
		return true;
	if (error == NULL && step.exclusive)
	{
		maintain_retire_at_once(pass, table, expired);
		return true;
	}
	if (error == NULL && table->policy->unfinished_when != NULL)
	{
		error = pass->attempt(fence_step, &step);
		if (error == NULL)
		{
			stop_point("fence:after_commit");

			/* now it can't change any more: whoever wrote has committed */
			if (maintain_keep_unfinished(pass, table, expired))
				return true;
		}
	}
	if (error == NULL)
	{
		stop_point("detach:before");
		error = detach(&step);
		/* else a lock couldn't be had: that's for the next pass */
		if (step.detached)
			stop_point("detach:after_first_commit");
	}
	if (error == NULL)
		return finish_pending(pass, table);
	/* then the next pass does what is to be done with it now */
	if (step.name != NULL && pass->attempt(recheck_step, &step) == NULL && step.gone)
		pass->deferred = true;
	else
		maintain_report_failure(pass, table, expired->relid, step.name, error);
	return true;
}

void
retire_background(Pass *pass, TablePlan *table)
{
	int			done = 0;
	ListCell   *cell;

	if (table->policy->drops_held)
		return;
	if (table->expired != NIL || OidIsValid(table->info.pending_relid))
		progress_phase("retiring", table->table_name);
	if (OidIsValid(table->info.pending_relid) && !finish_pending(pass, table))
		return;
	foreach(cell, table->expired)
	{
		CHECK_FOR_INTERRUPTS();
		progress_count(done++, list_length(table->expired));
		if (!retire_partition(pass, table, (ExpiredPartition *) lfirst(cell)))
			return;
	}
}

static void
leftovers_step(void *arg)
{
	static const char *const sql =
		"SELECT DISTINCT h.parent, h.partition FROM sagaz_ha.partition_history AS h"
		"  JOIN pg_catalog.pg_class AS c ON c.oid = h.partition"
		" WHERE h.action = 'DEFER' AND h.details LIKE '" RETIRING "%'";
	Step	   *step = (Step *) arg;
	MemoryContext context = CurrentMemoryContext;

	SPI_connect();
	if (SPI_execute(sql, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read partition history");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		MemoryContext spi = MemoryContextSwitchTo(context);
		Leftover   *leftover = (Leftover *) palloc(sizeof(Leftover));
		bool		isnull;

		leftover->parent = DatumGetObjectId(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
		leftover->partition = DatumGetObjectId(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull));
		step->partitions = lappend(step->partitions, leftover);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
}

/*
 * A partition that was to be retired, but wasn't: it's open for writes again.
 * Our own detach is never finished but by dropping the table. If somebody else
 * finished it, it's still ours to drop; but one that somebody else detached, or
 * made another table's partition, is wanted by whoever did that.
 */
static void
leftover_step(void *arg)
{
	Step	   *step = (Step *) arg;
	List	   *policies = policy_load(step->table->policy->parent);
	ParentInfo *info = &step->table->info;
	RetireResult result;
	TimestampTz since;
	TablePlan  *now;

	step->name = partition_display_name(step->partition);
	if (step->name == NULL || !is_retiring(step->partition, &since))
		return;
	step->table->table_name = partition_display_name(step->table->policy->parent);
	if (policies == NIL)
	{
		fence_lower(step->partition);
		if (step->table->table_name != NULL)
			maintain_report(step->pass, step->table, ACTION_KEEP, step->partition,
							step->name, "its table is not managed any more");
		return;
	}
	step->table->policy = (Policy *) linitial(policies);
	refresh(step->table);
	if (step->table->policy->drops_held)
	{
		if (is_attached(info, step->partition))
			fence_lower(step->partition);
		return;
	}
	if (info->pending_relid == step->partition)
		return;
	if (!is_attached(info, step->partition) && is_ours_detached(step->partition))
	{
		execute_retire_detached(step->table->policy, info->owner, step->partition, &result);
		report_result(step, &result);
		return;
	}
	if (!is_attached(info, step->partition))
	{
		fence_lower(step->partition);
		maintain_report(step->pass, step->table, ACTION_DETACH, step->partition, step->name,
						"somebody else detached it: it's left alone");
		return;
	}

	/* attached: fine as long as it's still expired; else it's open again */
	now = maintain_plan_table(step->table->policy, step->pass->now);
	for (int i = 0; now != NULL && i < list_length(now->expired); i++)
		if (((ExpiredPartition *) list_nth(now->expired, i))->relid == step->partition)
			return;
	fence_lower(step->partition);
	maintain_report(step->pass, step->table, ACTION_KEEP, step->partition, step->name,
					"not expired any more");
}

/*
 * What an earlier worker left between two transactions: partitions that are
 * fenced though they don't expire any more, or nobody manages them any more.
 */
void
retire_leftovers(Pass *pass)
{
	Step		step = {.pass = pass};
	ErrorData  *error = pass->attempt(leftovers_step, &step);
	ListCell   *cell;

	if (error != NULL)
		ReThrowError(error);
	foreach(cell, step.partitions)
	{
		Leftover   *leftover = (Leftover *) lfirst(cell);
		Policy		policy = {.parent = leftover->parent};
		TablePlan	table = {.policy = &policy, .table_name = ""};
		Step		one = {.pass = pass, .table = &table};

		one.partition = leftover->partition;
		CHECK_FOR_INTERRUPTS();
		error = pass->attempt(leftover_step, &one);
		if (error != NULL && table.table_name != NULL && table.table_name[0] != '\0')
			maintain_report_failure(pass, &table, one.partition, one.name, error);
	}
}
