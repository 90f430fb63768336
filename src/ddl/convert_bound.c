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

#include "access/table.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* What is further ahead than this isn't meant. */
#define FAR_FUTURE		(366 * USECS_PER_DAY)

/* Bytes of a table that are converted in a day at the very least. */
#define DAILY_BYTES		INT64CONST(200000000000)

/* Room between the last moment and the first row that would be refused. */
#define MARGIN			USECS_PER_HOUR

static Oid
owner_of(Oid relation)
{
	Relation	rel = table_open(relation, AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	table_close(rel, NoLock);
	return owner;
}

/* How many rows there are, and one of them; NULL: none. */
static ConvertObstacle *
look_for_rows(Oid relation, const char *condition, const char *what, const char *hint)
{
	ConvertObstacle *obstacle = NULL;
	MemoryContext context = CurrentMemoryContext;
	SqlSession	session;
	char	   *count;

	sql_begin(&session, owner_of(relation));
	(void) sql_execute_latest(NULL, psprintf("SELECT count(*), left(min(t.ctid::text || ' ' || t::text), 200)"
											 "  FROM ONLY %s AS t WHERE %s",
											 names_qualified(relation), condition), NULL);
	count = sql_text(0, 1);
	if (strcmp(count, "0") != 0)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		obstacle = (ConvertObstacle *) palloc(sizeof(ConvertObstacle));
		obstacle->problem = psprintf("table %s has %s %s %s, such as %s", names_display(relation),
									 count, strcmp(count, "1") == 0 ? "row" : "rows", what,
									 sql_text(0, 2));
		obstacle->hint = pstrdup(hint);
		MemoryContextSwitchTo(old);
	}
	sql_end(&session);
	return obstacle;
}

/* The greatest key before a time; -infinity: there is none. */
static CalTime
greatest_key(Oid relation, const char *key, const KeyKind *kind, CalTime before)
{
	SqlSession	session;
	const char *column = quote_identifier(key);
	bool		isnull;
	Datum		value;
	CalTime		greatest = CAL_MINUS_INFINITY;

	sql_begin(&session, owner_of(relation));
	(void) sql_execute_latest(NULL, psprintf("SELECT pg_catalog.max(%s) FROM ONLY %s WHERE %s < %s", column,
											 names_qualified(relation), column,
											 key_literal(kind, before)), NULL);
	value = sql_value(0, 1, &isnull);
	if (!isnull)
		greatest = kind->to_time(value);
	sql_end(&session);
	return greatest;
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

/* Finds the bound, and the rows that can't be in the partition. */
void
convert_bound(const Policy *policy, Oid relation, const char *key,
			  const KeyKind *kind, TimestampTz now, ConvertBound *bound)
{
	CalTime		now_key = policy_key_time(policy, kind, now);
	CalTime		horizon = now_key + FAR_FUTURE;
	const char *column = quote_identifier(key);
	PlanPolicy	plan;
	CalTime		greatest;
	CalTime		lead;
	ConvertObstacle *obstacle;
	Relation	rel = table_open(relation, AccessShareLock);
	int64		days = 1 + (int64) RelationGetNumberOfBlocks(rel) * BLCKSZ / DAILY_BYTES;

	table_close(rel, NoLock);
	memset(bound, 0, sizeof(*bound));
	policy_plan(policy, kind, &plan);
	obstacle = look_for_rows(relation, psprintf("%s IS NULL", column),
							 psprintf("without %s", column),
							 psprintf("Give them a time, or delete them: UPDATE %s SET %s = ... WHERE %s IS NULL;",
									  names_display(relation), column, column));
	if (obstacle != NULL)
		bound->obstacles = lappend(bound->obstacles, obstacle);
	obstacle = look_for_rows(relation, psprintf("%s >= %s", column, key_literal(kind, horizon)),
							 psprintf("whose %s is more than a year ahead", column),
							 "Correct or delete them.");
	if (obstacle != NULL)
		bound->obstacles = lappend(bound->obstacles, obstacle);

	greatest = greatest_key(relation, key, kind, horizon);
	lead = greatest > now_key ? greatest - now_key : 0;
	bound->upper = first_bound_after(&plan, now_key + lead + days * USECS_PER_DAY);
	bound->finish_by = now + (bound->upper - lead - now_key) - MARGIN;
}

/* Whether every row of a table is before a time. */
bool
convert_rows_before(Oid relation, const char *key, const KeyKind *kind, CalTime upper)
{
	const char *column = quote_identifier(key);

	return look_for_rows(relation, psprintf("%s IS NULL OR %s >= %s", column, column,
											key_literal(kind, upper)), "", "") == NULL;
}
