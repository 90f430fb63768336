/*
 * upkeep.c
 *		What autovacuum doesn't do for partitioned tables.
 *
 * Invariant: takes no lock but ShareUpdateExclusive, which no reader or writer
 * notices; TRUNCATE false, because truncation takes AccessExclusive. It waits for
 * no partition, so that no pass waits for it: what is in use is for the next run.
 *
 * A parent's planner statistics: autovacuum never analyzes a partitioned
 * table. And one VACUUM FREEZE of a partition when its period is over and its
 * rows rest, so that no later wraparound vacuum rewrites all history at once.
 * Both can take long, so a worker of their own does them, with autovacuum's
 * cost delay.
 */
#include "pass/upkeep.h"

#include "access/table.h"
#include "access/xact.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/dropped.h"
#include "catalog/names.h"
#include "catalog/pg_type.h"
#include "catalog/times.h"
#include "ddl/locks.h"
#include "ddl/toplevel.h"
#include "miscadmin.h"
#include "pass/repair.h"
#include "pass/report.h"
#include "pass/run.h"
#include "pass/unique.h"
#include "postmaster/autovacuum.h"
#include "shmem/progress.h"
#include "shmem/shared.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* Partitions to freeze in one run; what is left is for the next. */
#define MAX_FREEZE		100

/* So often an ANALYZE is tried that another session's maintenance gets in the way of. */
#define CHORE_TRIES		3

/* How long a row of the history is kept: a year. */
#define KEPT_HISTORY	(366 * USECS_PER_DAY)

typedef struct Chore
{
	Subject		subject;		/* of a partition: freeze it; else analyze the
								 * table */
	char	   *plain_sql;
	char	   *sql;			/* the same, with what another session has
								 * left out */
} Chore;

typedef struct ChoreList
{
	Pass	   *pass;
	List	   *chores;			/* of Chore * */
	TimestampTz over_at;		/* when the next period is over; 0: none */
} ChoreList;

/*
 * Parents whose statistics are missing, or older than those of a partition
 * by at least an hour: ANALYZE of a parent reads a sample of all partitions.
 */
static const char *const analyze_query =
"SELECT p.parent, NULL::oid"
"  FROM sagaz_ha.partition_policy AS p"
"  JOIN pg_class AS c ON c.oid = p.parent AND c.relkind = 'p'"
"  CROSS JOIN LATERAL ("
"    SELECT max(greatest(pg_stat_get_last_analyze_time(i.inhrelid),"
"                        pg_stat_get_last_autoanalyze_time(i.inhrelid))) AS analyzed,"
"           sum(pg_stat_get_live_tuples(i.inhrelid)) AS live"
"      FROM pg_inherits AS i WHERE i.inhparent = p.parent) AS parts"
" WHERE p.auto_analyze AND parts.live > 0"
"   AND NOT EXISTS (SELECT FROM sagaz_ha.asleep AS a WHERE a.parent = p.parent)"
"   AND (pg_stat_get_last_analyze_time(p.parent) IS NULL"
"        OR parts.analyzed > pg_stat_get_last_analyze_time(p.parent) + interval '1 hour')";

/*
 * Partitions whose period is over and that have not been frozen since; and, without
 * a partition, when the first of those periods ends that are not over yet.
 */
static const char *const freeze_query =
"WITH m AS MATERIALIZED ("
" SELECT m.* FROM sagaz_ha.partitions(false) AS m"
"   JOIN sagaz_ha.partition_policy AS p ON p.parent = m.parent AND p.auto_freeze"
"  WHERE m.state IN ('past', 'current')"
")"
"(SELECT m.parent, m.partition, NULL::timestamptz"
"  FROM m JOIN pg_class AS c ON c.oid = m.partition AND c.relkind = 'r'"
" WHERE m.state = 'past'"
 /* the size is looked up under a lock, which isn't waited for */
"   AND CASE WHEN EXISTS (SELECT FROM pg_locks AS l WHERE l.locktype = 'relation'"
"                            AND l.relation = m.partition AND l.mode = 'AccessExclusiveLock'"
"                            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
"            THEN false ELSE pg_relation_size(m.partition) > 0 END"
"   AND NOT EXISTS (SELECT FROM sagaz_ha.asleep AS a WHERE a.parent = m.parent)"
"   AND NOT EXISTS (SELECT FROM sagaz_ha.partition_times AS t"
"                    WHERE t.partition = m.partition AND t.frozen_at IS NOT NULL)"
" ORDER BY m.partition_start LIMIT $1)"
" UNION ALL"
" SELECT NULL, NULL, min(m.partition_end) FROM m WHERE m.state = 'current' AND isfinite(m.partition_end)";

static void
add_chore(uint64 row, void *arg)
{
	ChoreList  *list = (ChoreList *) arg;
	Chore	   *chore = (Chore *) palloc0(sizeof(Chore));
	Subject    *subject = &chore->subject;
	bool		isnull;

	subject->parent = sql_oid(row, 1);
	if (!OidIsValid(subject->parent))
	{
		list->over_at = DatumGetTimestampTz(sql_value(row, 3, &isnull));
		return;
	}
	subject->partition = sql_oid(row, 2);
	subject->table_name = names_display(subject->parent);
	if (OidIsValid(subject->partition))
	{
		subject->partition_name = names_display(subject->partition);
		chore->plain_sql = psprintf("VACUUM (FREEZE, TRUNCATE false) %s",
									names_qualified(subject->partition));
	}
	else
		chore->plain_sql = psprintf("ANALYZE %s", names_qualified(subject->parent));
	if (!report_backs_off(list->pass, subject))
		list->chores = lappend(list->chores, chore);
}

static void
find_chores_step(void *arg)
{
	ChoreList  *list = (ChoreList *) arg;
	SqlSession	session;
	SqlArgs		args = {0};

	sql_begin_as_extension(&session);
	sql_each_row(&session, sql_execute(analyze_query, NULL), add_chore, list);
	sql_arg(&args, INT4OID, Int32GetDatum(MAX_FREEZE));
	sql_each_row(&session, sql_execute(freeze_query, &args), add_chore, list);
	sql_end(&session);
}

static void
prune_step(void *arg)
{
	history_prune(((ChoreList *) arg)->pass->now - KEPT_HISTORY);
	dropped_forget_orphans();
	dropped_forget_times();
}

typedef struct DoneStep
{
	Pass	   *pass;
	const Subject *subject;
	TimestampTz began;
} DoneStep;

/* SKIP_LOCKED leaves out the parent itself without an error, too. */
static void
require_analyzed(Oid parent, TimestampTz began)
{
	static const char *const query =
		"SELECT coalesce(pg_stat_get_last_analyze_time($1) >= $2,"
		"                NOT current_setting('track_counts')::boolean)";
	SqlSession	session;
	SqlArgs		args = {0};
	bool		isnull;

	sql_begin(&session, GetUserId());
	sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(began));
	(void) sql_execute(query, &args);
	if (!DatumGetBool(sql_value(0, 1, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("table %s is in use by another session's maintenance",
						names_display(parent))));
	sql_end(&session);
}

static void
done_step(void *arg)
{
	DoneStep   *step = (DoneStep *) arg;
	const Subject *subject = step->subject;

	if (OidIsValid(subject->partition))
	{
		times_note_freeze(subject->parent, subject->partition, step->pass->now);
		report_done(step->pass, subject, ACTION_FREEZE, "its period is over");
	}
	else
	{
		require_analyzed(subject->parent, step->began);
		report_done(step->pass, subject, ACTION_ANALYZE, "planner statistics of the parent");
	}
}

/* Removes the problems of upkeep that didn't come again. */
static void
sweep_step(void *arg)
{
	Pass	   *pass = ((ChoreList *) arg)->pass;
	ListCell   *cell;

	foreach(cell, pass->problems)
	{
		Problem    *problem = (Problem *) lfirst(cell);

		if (!problem->seen)
			problem_remove(problem, pass->finder);
	}
}

/*
 * Looks before it waits, because ANALYZE waits for its partitions with a lock on the
 * parent in hand. Those that a vacuum has are left out, and the parent's statistics
 * are made all the same.
 */
static void
look_step(void *arg)
{
	Chore	   *chore = (Chore *) arg;
	const Subject *subject = &chore->subject;
	SqlSession	session;
	bool		skip = false;

	sql_begin(&session, GetUserId());
	if (OidIsValid(subject->partition))
		(void) locks_look(subject->partition, true);
	else
		skip = locks_look(subject->parent, false);
	if (skip)
		/* or else a creation that is going on would have it left out */
		table_close(locks_open_parent(subject->parent, ShareUpdateExclusiveLock), NoLock);
	sql_end(&session);
	chore->sql = skip ?
		psprintf("ANALYZE (SKIP_LOCKED) %s", names_qualified(subject->parent)) : chore->plain_sql;
}

static ErrorData *
try_chore(Pass *pass, Chore *chore)
{
	DoneStep	step = {pass, &chore->subject, GetCurrentTimestamp()};
	bool		committed;
	ErrorData  *error = pass->attempt(look_step, chore);

	if (error == NULL)
		error = toplevel_execute_limited(chore->sql, GetUserId(),
										 OidIsValid(chore->subject.partition) ? chore->subject.partition :
										 chore->subject.parent, &committed);
	return error == NULL ? pass->attempt(done_step, &step) : error;
}

static void
do_chore(Pass *pass, Chore *chore)
{
	const Subject *subject = &chore->subject;
	ErrorData  *error = NULL;

	/* between two looks, a creation may have come */
	for (int tries = 0; tries < CHORE_TRIES; tries++)
	{
		error = try_chore(pass, chore);
		if (error == NULL || !report_is_for_later(error))
			break;
	}
	if (error != NULL)
		report_failure(pass, subject, error);
}

static void
set_limits(void)
{
	SetConfigOption("lock_timeout", psprintf("%d", sagaz_lock_timeout),
					PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("vacuum_cost_delay",
					psprintf("%g", autovacuum_vac_cost_delay >= 0 ? autovacuum_vac_cost_delay : 2.0),
					PGC_USERSET, PGC_S_SESSION);
}

/* How soon, in ms, a unique key wants another try; 0: it doesn't. */
static int
unique_due(const Pass *pass)
{
	long		until;

	if (pass->deferred)
		return Min(pass->defer_nap, settings_naptime_ms());
	if (pass->next_try == 0)
		return 0;
	until = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), pass->next_try);
	return Min(Max(until, 1), settings_naptime_ms());
}

/* Does one after the other. */
static void
do_chores(Pass *pass, List *chores)
{
	int			done = 0;
	ListCell   *cell;

	foreach(cell, chores)
	{
		Chore	   *chore = (Chore *) lfirst(cell);
		const Subject *subject = &chore->subject;

		CHECK_FOR_INTERRUPTS();
		progress_phase(OidIsValid(subject->partition) ? "freezing" : "analyzing",
					   subject->partition_name ? subject->partition_name : subject->table_name);
		progress_count(done++, list_length(chores));
		do_chore(pass, chore);
	}
}

/*
 * In how many ms there is more to do. What was done, has changed or hinders may be
 * followed by more; else there is a period's end, and what is written (launcher.c).
 */
static int
next_upkeep(const ChoreList *list, bool changed)
{
	const Pass *pass = list->pass;
	int			next = SHARED_LONG_NAP;

	if (changed || list->chores != NIL || pass->problems != NIL)
		next = settings_naptime_ms();
	if (list->over_at > pass->now)
		next = Min(next, TimestampDifferenceMilliseconds(pass->now, list->over_at) + 1);
	return next;
}

/*
 * Brings unique keys into force; analyzes and freezes what needs it. In how many ms
 * the next run is due. Sets whether that is for a unique key.
 */
int
upkeep_run(Pass *pass, bool *waits)
{
	ChoreList	list = {pass};
	ErrorData  *error;
	int			soon;
	bool		changed = repair_in_background(pass->now, pass->defer_nap);

	/* of changes that wake no pass themselves, the catalogs' counters tell */
	if (changed)
		shared_want(WORKER_PASS);
	run_load_problems(pass);
	set_limits();
	unique_go_on(pass);
	soon = unique_due(pass);
	*waits = soon > 0;
	error = pass->attempt(prune_step, &list);
	if (error == NULL)
		error = pass->attempt(find_chores_step, &list);
	/* another session has locked a table: nothing here is so urgent */
	if (error != NULL && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		return soon > 0 ? soon : settings_naptime_ms();
	if (error != NULL)
		ReThrowError(error);
	do_chores(pass, list.chores);
	if (pass->problems != NIL && (error = pass->attempt(sweep_step, &list)) != NULL)
		ReThrowError(error);
	return soon > 0 ? soon : next_upkeep(&list, changed);
}
