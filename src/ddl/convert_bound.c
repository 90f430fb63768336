/*
 * convert_bound.c
 *		Where the partition of a table's present rows ends.
 *
 * Invariant: rows are read as the table's owner. The bound is one of the policy's
 * calendar, after the greatest key, and so far ahead that no row reaches it before
 * the conversion has ended. A row in the far future is no sign of how far ahead rows
 * are written: it is named, and not obeyed.
 */
#include "ddl/convert_bound.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/pg_am.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Bytes of a table that are converted in a day at the very least. */
#define DAILY_BYTES		INT64CONST(200000000000)

/* Room between the last moment and the first row that would be refused. */
#define MARGIN			USECS_PER_HOUR

/* What the rows of a table say. */
typedef struct Rows
{
	int64		nulls;			/* without a key */
	char	   *null_row;		/* one of them */
	int64		beyond;			/* from the horizon on */
	char	   *beyond_row;
	CalTime		greatest;		/* of the others; -infinity: there is none */
} Rows;

static char *
row_of(const KeyKind *kind, TupleTableSlot *slot, Datum value, bool isnull)
{
	char	   *tid = DatumGetCString(DirectFunctionCall1(tidout, PointerGetDatum(&slot->tts_tid)));
	Oid			output;
	bool		varlena;

	if (isnull)
		return psprintf("the one at %s", tid);
	getTypeOutputInfo(kind->type, &output, &varlena);
	return psprintf("the one at %s, %s", tid, OidOutputFunctionCall(output, value));
}

/* Reads every row, without running anything of the table's owner, or for whom policies hide it. */
static void
scan_rows(Relation rel, AttrNumber attnum, const KeyKind *kind, Datum horizon, Rows *rows)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, attnum, &isnull);
		bool		before = !isnull && key_compare(kind, value, horizon) < 0;

		CHECK_FOR_INTERRUPTS();
		if (isnull && rows->nulls++ == 0)
			rows->null_row = row_of(kind, slot, value, isnull);
		else if (!isnull && !before && rows->beyond++ == 0)
			rows->beyond_row = row_of(kind, slot, value, isnull);
		if (before)
			rows->greatest = Max(rows->greatest, key_time(kind, value));
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
}

/* Runs a query that an index on the key makes fast, as the table's owner. */
static void
count_rows(const char *table, const char *condition, int64 *count, char **row, MemoryContext context)
{
	bool		isnull;

	(void) sql_execute_latest(NULL, psprintf("SELECT pg_catalog.count(*),"
											 " 'the one at ' || left(min(t.ctid::text || ', ' || t::text), 200)"
											 "  FROM ONLY %s AS t WHERE %s", table, condition), NULL);
	*count = DatumGetInt64(sql_value(0, 1, &isnull));
	*row = *count == 0 ? NULL : MemoryContextStrdup(context, sql_text(0, 2));
}

static void
query_rows(Relation rel, const char *key, const KeyKind *kind, Datum horizon, Rows *rows)
{
	const char *column = quote_identifier(key);
	const char *table = names_qualified(RelationGetRelid(rel));
	const char *bound = key_datum_literal(kind, horizon);
	SqlSession	session;
	bool		isnull;
	Datum		value;

	sql_begin(&session, rel->rd_rel->relowner);
	count_rows(table, psprintf("%s IS NULL", column), &rows->nulls, &rows->null_row, session.caller);
	count_rows(table, psprintf("%s >= %s", column, bound), &rows->beyond, &rows->beyond_row, session.caller);
	/* not max(), which uuid has from 18 on */
	if (sql_execute_latest(NULL, psprintf("SELECT %s FROM ONLY %s WHERE %s < %s ORDER BY %s DESC LIMIT 1",
										  column, table, column, bound, column), NULL) > 0)
	{
		value = sql_value(0, 1, &isnull);
		rows->greatest = key_time(kind, value);
	}
	sql_end(&session);
}

static bool
has_index(Relation rel, AttrNumber attnum)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *cell;
	bool		found = false;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		found = found || (index->rd_index->indkey.values[0] == attnum &&
						  index->rd_rel->relam == BTREE_AM_OID &&
						  RelationGetIndexPredicate(index) == NIL);
		index_close(index, AccessShareLock);
	}
	return found;
}

static void
look_at_rows(Oid relation, const char *key, const KeyKind *kind, Datum horizon, Rows *rows)
{
	Relation	rel = table_open(relation, AccessShareLock);
	AttrNumber	attnum = get_attnum(relation, key);

	memset(rows, 0, sizeof(*rows));
	rows->greatest = CAL_MINUS_INFINITY;
	/* a policy hides rows even from the owner, if that is forced */
	if (has_index(rel, attnum) && !rel->rd_rel->relforcerowsecurity)
		query_rows(rel, key, kind, horizon, rows);
	else
		scan_rows(rel, attnum, kind, horizon, rows);
	table_close(rel, NoLock);
}

/* The first bound after a time. */
static CalTime
first_bound_after(const PlanPolicy *plan, CalTime t)
{
	CalTime		lower;
	CalTime		upper;

	if (!cal_floor(&plan->cal, t, &plan->interval, &lower) ||
		!cal_add(&plan->cal, lower, &plan->interval, 1, &upper))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("partition bound out of range"),
				 errhint("Look at partition_interval.")));
	return upper;
}

static void
add_obstacle(ConvertBound *bound, char *problem, char *hint)
{
	ConvertObstacle *obstacle = (ConvertObstacle *) palloc(sizeof(ConvertObstacle));

	obstacle->problem = problem;
	obstacle->hint = hint;
	bound->obstacles = lappend(bound->obstacles, obstacle);
}

/* In how many days a conversion has surely ended: the more, the more there is to be read. */
int64
convert_bound_days(Oid relation)
{
	Relation	rel = table_open(relation, AccessShareLock);
	int64		days = 1 + (int64) RelationGetNumberOfBlocks(rel) * BLCKSZ / DAILY_BYTES;

	table_close(rel, NoLock);
	return days;
}

/* Finds the bound, and the rows that can't be in the partition. */
void
convert_bound(const Policy *policy, Oid relation, const char *key,
			  const KeyKind *kind, TimestampTz now, ConvertBound *bound)
{
	CalTime		now_key = policy_key_time(policy, kind, now);
	const char *column = quote_identifier(key);
	PlanPolicy	plan;
	Rows		rows;
	CalTime		lead;
	int64		days = convert_bound_days(relation);

	memset(bound, 0, sizeof(*bound));
	policy_plan(policy, kind, &plan);
	look_at_rows(relation, key, kind, key_datum(kind, now_key + FAR_FUTURE), &rows);
	if (rows.nulls > 0)
		add_obstacle(bound, psprintf("table %s has %lld %s without %s, such as %s", names_display(relation),
									 (long long) rows.nulls, rows.nulls == 1 ? "row" : "rows", column, rows.null_row),
					 psprintf("Give these rows a time, or delete them: UPDATE %s SET %s = ... WHERE %s IS NULL;",
							  names_display(relation), column, column));
	if (rows.beyond > 0)
		add_obstacle(bound, psprintf("table %s has %lld %s whose %s is more than a year ahead, such as %s",
									 names_display(relation), (long long) rows.beyond,
									 rows.beyond == 1 ? "row" : "rows", column, rows.beyond_row),
					 key_proper_name(kind) == NULL ? "Correct or delete these rows." :
					 psprintf("Correct or delete these rows: a value that is no %s has a random time.", key_proper_name(kind)));
	lead = rows.greatest > now_key ? rows.greatest - now_key : 0;
	bound->upper = first_bound_after(&plan, now_key + lead + days * USECS_PER_DAY);
	bound->finish_by = now + (bound->upper - lead - now_key) - MARGIN;
}

/* Whether every row of a table has a key before this one. */
bool
convert_rows_before(Oid relation, const char *key, const KeyKind *kind, Datum upper)
{
	Rows		rows;

	look_at_rows(relation, key, kind, upper, &rows);
	return rows.nulls == 0 && rows.beyond == 0;
}
