/*
 * dropped.c
 *		Forgetting what was said about tables that were dropped.
 *
 * Invariant: no row outlives its table, because pg_dump would write an OID, which
 * in another database may be another table's.
 */
#include "postgres.h"

#include "catalog/dropped.h"

#include "base/sql.h"
#include "catalog/pg_type.h"

/* The tables that the statement of a sql_drop trigger has dropped. */
static const char *const dropped_query =
"SELECT array_agg(d.objid) FROM pg_catalog.pg_event_trigger_dropped_objects() AS d"
" WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0";

typedef struct Forgetting
{
	const char *table;			/* where there is nothing to forget while it
								 * is empty */
	const char *look;			/* NULL: nothing happens when nothing is
								 * removed */
	const char *remove;
	SPIPlanPtr	look_plan;
	SPIPlanPtr	remove_plan;
} Forgetting;

/* A row that a pass is just writing is left to the next pass: DROP would wait for it. */
#define UNLOCKED(table, condition) \
	"DELETE FROM " table " WHERE ctid = ANY (ARRAY(" \
	"  SELECT t.ctid FROM " table " AS t WHERE " condition " FOR UPDATE SKIP LOCKED))"

/*
 * Of a table that was dropped while it was becoming partitioned, the partitioned one
 * is left, which nobody knows: the worker drops it, and then forgets the row.
 */
#define LEAVES_PARENT \
	"(t.kind = 'table' AND t.phase NOT IN ('finishing', 'failed')" \
	" AND EXISTS (SELECT FROM pg_catalog.pg_class AS p WHERE p.oid = t.parent))"

/* Where a DELETE of nothing would fire the trigger that wakes the worker, it looks first. */
static void
forget(Forgetting *forgetting, SqlArgs *args)
{
	if (sql_is_empty(forgetting->table))
		return;
	if (forgetting->look == NULL ||
		sql_execute_latest(&forgetting->look_plan, forgetting->look, args) > 0)
		(void) sql_execute_latest(&forgetting->remove_plan, forgetting->remove, args);
}

/* The rows about the tables that the statement has dropped; in a sql_drop trigger. */
void
dropped_forget_in_event_trigger(void)
{
	static Forgetting forgettings[] = {
		/* of the empty table that it was to be a partition of */
		{"conversion", "SELECT FROM sagaz_ha.conversion WHERE relation = ANY ($1)",
			"DELETE FROM sagaz_ha.partition_policy AS p USING sagaz_ha.conversion AS v"
			" WHERE p.parent = v.parent AND v.relation = ANY ($1)"
		"   AND v.kind = 'table' AND v.phase <> 'finishing'"},
		{"partition_policy", "SELECT FROM sagaz_ha.partition_policy WHERE parent = ANY ($1)",
		"DELETE FROM sagaz_ha.partition_policy WHERE parent = ANY ($1)"},
		{"partition_hold", "SELECT FROM sagaz_ha.partition_hold WHERE partition = ANY ($1)",
		"DELETE FROM sagaz_ha.partition_hold WHERE partition = ANY ($1)"},
		{"unique_key", "SELECT FROM sagaz_ha.unique_key WHERE parent = ANY ($1)",
		"DELETE FROM sagaz_ha.unique_key WHERE parent = ANY ($1)"},
		{"partition_times", NULL, "DELETE FROM sagaz_ha.partition_times WHERE partition = ANY ($1)"},
		{"conversion", NULL, UNLOCKED("sagaz_ha.conversion", "t.relation = ANY ($1) AND NOT " LEAVES_PARENT)},
		{"retirement", NULL, UNLOCKED("sagaz_ha.retirement", "t.partition = ANY ($1)")},
		{"problem", NULL, UNLOCKED("sagaz_ha.problem", "t.partition = ANY ($1) OR t.parent = ANY ($1)")}
	};
	static SPIPlanPtr plan = NULL;
	SqlSession	session;
	SqlArgs		none = {0};
	SqlArgs		args = {0};
	Datum		dropped;
	bool		isnull;

	sql_begin_as_extension(&session);
	(void) sql_execute_kept(&plan, dropped_query, &none);
	dropped = sql_value(0, 1, &isnull);
	sql_arg(&args, OIDARRAYOID, dropped);
	for (int i = 0; !isnull && i < lengthof(forgettings); i++)
		forget(&forgettings[i], &args);
	sql_end(&session);
}

#define IS_GONE(column) \
	" AS t WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = t." column ")"

/*
 * The policies, holds, unique keys and conversions of tables that were dropped while
 * event triggers were off.
 */
void
dropped_forget_orphans(void)
{
	static Forgetting forgettings[] = {
		{"partition_policy", "SELECT FROM sagaz_ha.partition_policy" IS_GONE("parent"),
		"DELETE FROM sagaz_ha.partition_policy" IS_GONE("parent")},
		{"partition_hold", "SELECT FROM sagaz_ha.partition_hold" IS_GONE("partition"),
		"DELETE FROM sagaz_ha.partition_hold" IS_GONE("partition")},
		{"unique_key", "SELECT FROM sagaz_ha.unique_key" IS_GONE("parent"),
		"DELETE FROM sagaz_ha.unique_key" IS_GONE("parent")},
		/* one that was locked by a step when its table went, too */
		{"conversion", NULL, UNLOCKED("sagaz_ha.conversion",
									  "NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = t.relation)"
									  " AND NOT " LEAVES_PARENT)}
	};
	SqlSession	session;

	sql_begin_as_extension(&session);
	for (int i = 0; i < lengthof(forgettings); i++)
		forget(&forgettings[i], NULL);
	sql_end(&session);
}

/* The same of the times of partitions, of which there can be thousands. */
void
dropped_forget_times(void)
{
	static Forgetting forgetting =
	{"partition_times", NULL, "DELETE FROM sagaz_ha.partition_times" IS_GONE("partition")};
	SqlSession	session;

	sql_begin_as_extension(&session);
	forget(&forgetting, NULL);
	sql_end(&session);
}
