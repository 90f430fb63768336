/*
 * upkeep.c
 *		What autovacuum doesn't do for partitioned tables.
 *
 * Invariant: takes no lock but ShareUpdateExclusive, which no reader or writer
 * notices; TRUNCATE false, because truncation takes AccessExclusive.
 *
 * A parent's planner statistics: autovacuum never analyzes a partitioned
 * table. And one VACUUM FREEZE of a partition when its period is over and its
 * rows rest, so that no later wraparound vacuum rewrites all history at once.
 * Both can take long, so a worker of their own does them, with autovacuum's
 * cost delay.
 */
#include "pass/upkeep.h"

#include "access/xact.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/dropped.h"
#include "catalog/names.h"
#include "catalog/pg_type.h"
#include "catalog/times.h"
#include "ddl/toplevel.h"
#include "miscadmin.h"
#include "pass/repair.h"
#include "pass/report.h"
#include "pass/run.h"
#include "postmaster/autovacuum.h"
#include "shmem/progress.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* Partitions to freeze in one run; what is left is for the next. */
#define MAX_FREEZE		100

/* How long a row of the history is kept: a year. */
#define KEPT_HISTORY	(366 * USECS_PER_DAY)

typedef struct Chore
{
	Subject		subject;		/* of a partition: freeze it; else analyze the
								 * table */
	char	   *sql;
} Chore;

typedef struct ChoreList
{
	Pass	   *pass;
	List	   *chores;			/* of Chore * */
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

/* Partitions whose period is over and that have not been frozen since. */
static const char *const freeze_query =
"SELECT m.parent, m.partition"
"  FROM sagaz_ha.partitions(false) AS m"
"  JOIN sagaz_ha.partition_policy AS p ON p.parent = m.parent AND p.auto_freeze"
"  JOIN pg_class AS c ON c.oid = m.partition AND c.relkind = 'r'"
" WHERE m.state = 'past' AND pg_relation_size(m.partition) > 0"
"   AND NOT EXISTS (SELECT FROM sagaz_ha.asleep AS a WHERE a.parent = m.parent)"
"   AND NOT EXISTS (SELECT FROM sagaz_ha.partition_times AS t"
"                    WHERE t.partition = m.partition AND t.frozen_at IS NOT NULL)"
" ORDER BY m.partition_start LIMIT $1";

static void
add_chore(uint64 row, void *arg)
{
	ChoreList  *list = (ChoreList *) arg;
	Chore	   *chore = (Chore *) palloc0(sizeof(Chore));
	Subject    *subject = &chore->subject;

	subject->parent = sql_oid(row, 1);
	subject->partition = sql_oid(row, 2);
	subject->table_name = names_display(subject->parent);
	if (OidIsValid(subject->partition))
	{
		subject->partition_name = names_display(subject->partition);
		chore->sql = psprintf("VACUUM (FREEZE, TRUNCATE false) %s",
							  names_qualified(subject->partition));
	}
	else
		chore->sql = psprintf("ANALYZE %s", names_qualified(subject->parent));
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
} DoneStep;

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
		report_done(step->pass, subject, ACTION_ANALYZE, "planner statistics of the parent");
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

static void
do_chore(Pass *pass, const Chore *chore)
{
	const Subject *subject = &chore->subject;
	DoneStep	step = {pass, subject};
	bool		committed;
	ErrorData  *error = toplevel_execute(chore->sql, GetUserId(), false, &committed);

	if (error == NULL)
		error = pass->attempt(done_step, &step);
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

/* Analyzes and freezes what needs it, one after the other. */
void
upkeep_run(Pass *pass)
{
	ChoreList	list = {pass, NIL};
	ErrorData  *error;
	int			done = 0;
	ListCell   *cell;

	repair_in_background(pass->now, pass->defer_nap);
	run_load_problems(pass);
	error = pass->attempt(prune_step, &list);
	if (error == NULL)
		error = pass->attempt(find_chores_step, &list);
	/* another session has locked a table: nothing here is so urgent */
	if (error != NULL && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		return;
	if (error != NULL)
		ReThrowError(error);
	set_limits();
	foreach(cell, list.chores)
	{
		const Chore *chore = (Chore *) lfirst(cell);
		const Subject *subject = &chore->subject;

		CHECK_FOR_INTERRUPTS();
		progress_phase(OidIsValid(subject->partition) ? "freezing" : "analyzing",
					   subject->partition_name ? subject->partition_name : subject->table_name);
		progress_count(done++, list_length(list.chores));
		do_chore(pass, chore);
	}
	if (pass->problems != NIL && (error = pass->attempt(sweep_step, &list)) != NULL)
		ReThrowError(error);
}
