/*
 * upkeep.c
 *		What autovacuum doesn't do for partitioned tables.
 *
 * A parent's planner statistics: autovacuum never analyzes a partitioned
 * table. And one VACUUM FREEZE of a partition when its period is over and its
 * rows rest, so that no later wraparound vacuum rewrites all history at once.
 * Both can take long, so a worker of their own does them, with autovacuum's
 * cost delay. They take ShareUpdateExclusive, which no reader or writer
 * notices; TRUNCATE false, because truncation takes AccessExclusive.
 */
#include "pass/upkeep.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "base/identity.h"
#include "miscadmin.h"
#include "postmaster/autovacuum.h"
#include "shmem/progress.h"
#include "base/settings.h"
#include "ddl/toplevel.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* Partitions to freeze in one run; what is left is for the next. */
#define MAX_FREEZE		100

typedef struct Chore
{
	Pass	   *pass;
	TablePlan	table;			/* for the report only */
	Policy		policy;
	Oid			partition;		/* InvalidOid: the parent is to be analyzed */
	char	   *name;
	char	   *sql;
} Chore;

typedef struct ChoreList
{
	Pass	   *pass;
	List	   *chores;
} ChoreList;

/*
 * Parents whose statistics are missing, or older than those of a partition
 * by at least an hour: ANALYZE of a parent reads a sample of all partitions.
 */
static const char *const analyze_sql =
	"SELECT p.parent, NULL::oid"
	"  FROM sagaz_ha.partition_policy AS p"
	"  JOIN pg_class AS c ON c.oid = p.parent AND c.relkind = 'p'"
	"  CROSS JOIN LATERAL ("
	"    SELECT max(greatest(pg_stat_get_last_analyze_time(i.inhrelid),"
	"                        pg_stat_get_last_autoanalyze_time(i.inhrelid))) AS analyzed,"
	"           sum(pg_stat_get_live_tuples(i.inhrelid)) AS live"
	"      FROM pg_inherits AS i WHERE i.inhparent = p.parent) AS parts"
	" WHERE p.auto_analyze AND parts.live > 0"
	"   AND (pg_stat_get_last_analyze_time(p.parent) IS NULL"
	"        OR parts.analyzed > pg_stat_get_last_analyze_time(p.parent) + interval '1 hour')";

/* Partitions whose period is over and that have not been frozen since. */
static const char *const freeze_sql =
	"SELECT m.parent, m.partition"
	"  FROM sagaz_ha.partitions() AS m"
	"  JOIN sagaz_ha.partition_policy AS p ON p.parent = m.parent AND p.auto_freeze"
	"  JOIN pg_class AS c ON c.oid = m.partition AND c.relkind = 'r'"
	" WHERE m.state = 'past' AND pg_relation_size(m.partition) > 0"
	"   AND NOT EXISTS (SELECT FROM sagaz_ha.partition_history AS h"
	"                    WHERE h.partition = m.partition AND h.action = '" ACTION_FREEZE "')"
	" ORDER BY m.partition_start LIMIT $1";

static void
add_chore(ChoreList *list, HeapTuple row, TupleDesc desc)
{
	Chore	   *chore = (Chore *) palloc0(sizeof(Chore));
	bool		isnull;
	Datum		partition = SPI_getbinval(row, desc, 2, &isnull);

	chore->pass = list->pass;
	chore->policy.parent = DatumGetObjectId(SPI_getbinval(row, desc, 1, &isnull));
	chore->partition = SPI_getvalue(row, desc, 2) ? DatumGetObjectId(partition) : InvalidOid;
	chore->table.policy = &chore->policy;
	chore->table.table_name = partition_display_name(chore->policy.parent);
	chore->name = OidIsValid(chore->partition) ? partition_display_name(chore->partition) : NULL;
	chore->sql = OidIsValid(chore->partition) ?
		psprintf("VACUUM (FREEZE, TRUNCATE false) %s",
				 partition_qualified_name(chore->partition)) :
		psprintf("ANALYZE %s", partition_qualified_name(chore->policy.parent));
	list->chores = lappend(list->chores, chore);
}

static void
find_chores(ChoreList *list, const char *sql, int nargs)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(MAX_FREEZE)};
	Identity	saved;

	SPI_connect();
	identity_assume(&saved, identity_extension_owner());
	if (SPI_execute_with_args(sql, nargs, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for tables to analyze or freeze");
	identity_restore(&saved);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);

		add_chore(list, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
}

/*
 * A year of history is enough, but for partitions that still exist: their
 * state is in it. Nothing is looked through while the oldest row is younger.
 */
static void
prune_step(void *arg)
{
	static const char *const sql =
		"DELETE FROM sagaz_ha.partition_history AS h"
		" WHERE h.recorded_at < $1 - interval '1 year'"
		"   AND (SELECT o.recorded_at FROM sagaz_ha.partition_history AS o"
		"         ORDER BY o.id LIMIT 1) < $1 - interval '1 year'"
		"   AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = h.partition)";
	Oid			types[1] = {TIMESTAMPTZOID};
	Datum		values[1] = {TimestampTzGetDatum(((ChoreList *) arg)->pass->now)};
	Identity	saved;

	SPI_connect();
	identity_assume(&saved, identity_extension_owner());
	if (SPI_execute_with_args(sql, 1, types, values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not prune partition history");
	identity_restore(&saved);
	SPI_finish();
}

static void
find_chores_step(void *arg)
{
	ChoreList  *list = (ChoreList *) arg;

	find_chores(list, analyze_sql, 0);
	find_chores(list, freeze_sql, 1);
}

static void
report_step(void *arg)
{
	Chore	   *chore = (Chore *) arg;

	if (OidIsValid(chore->partition))
		maintain_report(chore->pass, &chore->table, ACTION_FREEZE, chore->partition,
						chore->name, "its period is over");
	else
		maintain_report(chore->pass, &chore->table, ACTION_ANALYZE, InvalidOid, NULL,
						"planner statistics of the parent");
}

void
upkeep_run(Pass *pass)
{
	ChoreList	list = {pass, NIL};
	ErrorData  *error = pass->attempt(prune_step, &list);
	int			done = 0;
	ListCell   *cell;

	if (error == NULL)
		error = pass->attempt(find_chores_step, &list);
	/* somebody has locked a table: nothing here is so urgent */
	if (error != NULL && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		return;
	if (error != NULL)
		ReThrowError(error);
	SetConfigOption("lock_timeout", psprintf("%d", sagaz_lock_timeout),
					PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("vacuum_cost_delay",
					psprintf("%g", autovacuum_vac_cost_delay >= 0 ? autovacuum_vac_cost_delay : 2.0),
					PGC_USERSET, PGC_S_SESSION);
	foreach(cell, list.chores)
	{
		Chore	   *chore = (Chore *) lfirst(cell);
		bool		committed;

		CHECK_FOR_INTERRUPTS();
		progress_phase(OidIsValid(chore->partition) ? "freezing" : "analyzing",
					   chore->name ? chore->name : chore->table.table_name);
		progress_count(done++, list_length(list.chores));
		error = toplevel_execute(chore->sql, GetUserId(), false, &committed);
		if (error == NULL)
			error = pass->attempt(report_step, chore);
		if (error != NULL)
			maintain_report_failure(pass, &chore->table, chore->partition, chore->name, error);
	}
}
