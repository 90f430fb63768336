/*
 * convert_rows.c
 *		Rows are moved out of a default partition.
 *
 * Invariant: a range's rows leave the default partition in the transaction that
 * attaches their own partition. It has a strong lock on the partitioned table: a
 * query that was planned with the partitions before would look in the default
 * partition alone, and find the rows gone. ATTACH reads that partition under the
 * lock, so both have a bounded size. No trigger fires, and no foreign key acts: no
 * row is deleted.
 */
#include "pass/convert_rows.h"

#include "access/table.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/parent.h"
#include "catalog/pg_type.h"
#include "catalog/policy.h"
#include "catalog/times.h"
#include "ddl/convert.h"
#include "ddl/convert_bound.h"
#include "ddl/convert_lock.h"
#include "ddl/create.h"
#include "ddl/protect.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* Rows that are moved in one transaction at most. */
#define MAX_ROWS		10000

/* Blocks of a default partition that are read under the lock at most: 256 MB. */
#define MAX_BLOCKS		(256 * 1024 * 1024 / BLCKSZ)

typedef struct Range
{
	const ParentInfo *info;
	PlanBound	bound;
} Range;

/* That a row is in the partition to be made, whose bounds may have low bits. */
static char *
range_condition(const ParentInfo *info, const PlanBound *bound)
{
	const char *column = quote_identifier(parent_key_name(info));
	KeyRange	range;

	parent_range(info, bound, &range);
	return psprintf("%s >= %s AND %s < %s", column, key_datum_literal(info->kind, range.lower),
					column, key_datum_literal(info->kind, range.upper));
}

/* The columns that a row is made of. Inside SPI. */
static char *
stored_columns(Oid relid)
{
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(relid));
	(void) sql_execute("SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute"
					   " WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = ''", &args);
	return sql_text(0, 1);
}

/*
 * The ALTER TABLE commands that keep what is ENABLE ALWAYS or REPLICA from firing
 * for a DELETE, and those that let it again; NULL: there is nothing. Inside SPI.
 */
static void
firing_commands(Oid relid, char **off, char **on)
{
	static const char *const query =
		"SELECT string_agg('DISABLE ' || x.what, ', '),"
		"       string_agg(CASE x.enabled WHEN 'A' THEN 'ENABLE ALWAYS ' ELSE 'ENABLE REPLICA ' END || x.what, ', ')"
		"  FROM (SELECT format('TRIGGER %I', t.tgname), t.tgenabled FROM pg_trigger AS t"
		"         WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND t.tgtype & 8 <> 0"
		"        UNION ALL"
		"        SELECT format('RULE %I', r.rulename), r.ev_enabled FROM pg_rewrite AS r"
		"         WHERE r.ev_class = $1 AND r.ev_type = '4') AS x (what, enabled)"
		" WHERE x.enabled IN ('A', 'R')";
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(relid));
	(void) sql_execute(query, &args);
	*off = sql_text(0, 1);
	*on = sql_text(0, 2);
}

/*
 * Deletes the rows that were moved. Triggers and rules that session_replication_role
 * doesn't stop are disabled meanwhile: the strong lock keeps that from everybody.
 */
static void
delete_moved(Oid relid, const char *condition)
{
	const char *table = names_qualified(relid);
	char	   *off;
	char	   *on;

	firing_commands(relid, &off, &on);
	if (off != NULL)
		sql_run(psprintf("ALTER TABLE ONLY %s %s", table, off));
	(void) sql_execute_latest(NULL, psprintf("DELETE FROM ONLY %s WHERE %s", table, condition), NULL);
	if (on != NULL)
		sql_run(psprintf("ALTER TABLE ONLY %s %s", table, on));
}

/* Moves the rows, as the table's owner, between a partition's making and its ATTACH. */
static void
fill(Oid partition, void *arg)
{
	const Range *range = (const Range *) arg;
	const char *source = names_qualified(range->info->default_relid);
	const char *condition = range_condition(range->info, &range->bound);
	char	   *columns = stored_columns(range->info->default_relid);
	int			level = NewGUCNestLevel();

	(void) set_config_option("session_replication_role", "replica", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) sql_execute_latest(NULL, psprintf("INSERT INTO %s (%s) SELECT %s FROM ONLY %s WHERE %s",
											 names_qualified(partition), columns, columns, source,
											 condition), NULL);
	delete_moved(range->info->default_relid, condition);
	AtEOXact_GUC(false, level);
}

/* The least key from a time on; false: there is none. As the owner. */
static bool
least_key(const ParentInfo *info, CalTime from, Datum *least)
{
	const char *column = quote_identifier(parent_key_name(info));
	PlanBound	before = {CAL_MINUS_INFINITY, from};
	char	   *condition = "IS NOT NULL";
	KeyRange	range;
	SqlSession	session;
	bool		isnull;
	bool		found;

	if (cal_is_finite(from))
	{
		parent_range(info, &before, &range);
		condition = psprintf(">= %s", key_datum_literal(info->kind, range.upper));
	}
	sql_begin(&session, info->owner);
	/* not min(), which uuid has from 18 on */
	found = sql_execute_latest(NULL, psprintf("SELECT %s FROM ONLY %s WHERE %s %s ORDER BY %s LIMIT 1", column,
											  names_qualified(info->default_relid), column, condition, column), NULL) > 0;
	if (found)
	{
		MemoryContext old;

		*least = sql_value(0, 1, &isnull);
		old = MemoryContextSwitchTo(session.caller);
		*least = datumCopy(*least, get_typbyval(info->kind->type), get_typlen(info->kind->type));
		MemoryContextSwitchTo(old);
	}
	sql_end(&session);
	return found;
}

static int64
count_rows(const ParentInfo *info, const char *condition)
{
	SqlSession	session;
	bool		isnull;
	int64		count;

	sql_begin(&session, info->owner);
	(void) sql_execute_latest(NULL, psprintf("SELECT pg_catalog.count(*) FROM ONLY %s WHERE %s",
											 names_qualified(info->default_relid), condition), NULL);
	count = DatumGetInt64(sql_value(0, 1, &isnull));
	sql_end(&session);
	return count;
}

/* The period of a key that no partition has, as far as none is there. */
static void
free_period(const PlanPolicy *plan, const ParentInfo *info, Datum key, PlanBound *period)
{
	PlanBound	gap = {CAL_MINUS_INFINITY, CAL_INFINITY};
	CalTime		t = key_time(info->kind, key);

	for (int i = 0; i < info->nparts; i++)
	{
		const KeyRange *range = &info->ranges[i];

		if (range->lower_kind == PARTITION_RANGE_DATUM_VALUE &&
			key_compare(info->kind, key, range->lower) < 0)
			gap.upper = Min(gap.upper, info->bounds[i].lower);
		else
			gap.lower = Max(gap.lower, info->bounds[i].upper);
	}

	/*
	 * a partition may begin in the very millisecond of the key, with other
	 * low bits
	 */
	t = Min(t, gap.upper - 1);
	if (!cal_floor(&plan->cal, t, &plan->interval, &period->lower) ||
		!cal_add(&plan->cal, period->lower, &plan->interval, 1, &period->upper))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("partition bound out of range")));
	period->lower = Max(period->lower, gap.lower);
	period->upper = Min(period->upper, gap.upper);
}

static void
note_stuck(ConvertRows *rows, const char *what)
{
	rows->stuck = rows->stuck == NULL ? pstrdup(what) : psprintf("%s; %s", rows->stuck, what);
}

static int64
blocks_of(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	int64		blocks = RelationGetNumberOfBlocks(rel);

	table_close(rel, NoLock);
	return blocks;
}

/* Whether a key in the far future is of another kind, so that its time is random. */
static bool
is_junk(const Policy *policy, const KeyKind *kind, CalTime t, TimestampTz now)
{
	return key_proper_name(kind) != NULL && t >= policy_key_time(policy, kind, now) + FAR_FUTURE;
}

/*
 * Moves the rows of the earliest period that has some, in the current
 * transaction. What can't be moved is noted, and the next call goes on behind it.
 */
void
convert_rows_move(const Conversion *conversion, TimestampTz now, ConvertRows *rows)
{
	Policy	   *policy = conversion_policy(conversion);
	ParentInfo	info;
	PlanPolicy	plan;
	Datum		key;
	CalTime		least;
	Range		range = {&info};
	int64		count;

	parent_require_by_oid(conversion->parent, ShareUpdateExclusiveLock, &info);
	rows->created = InvalidOid;
	rows->ended = !OidIsValid(info.default_relid) || !least_key(&info, rows->from, &key);
	if (rows->ended)
		return;
	policy_plan(policy, info.kind, &plan);
	least = key_time(info.kind, key);
	if (!cal_is_finite(least))
	{
		note_stuck(rows, "rows whose key is infinite");
		rows->from = CAL_FIRST;
		rows->ended = least == CAL_INFINITY;
		return;
	}
	if (is_junk(policy, info.kind, least, now))
	{
		note_stuck(rows, psprintf("rows whose key is no %s, or more than a year ahead",
								  key_proper_name(info.kind)));
		rows->ended = true;
		return;
	}
	free_period(&plan, &info, key, &range.bound);
	count = count_rows(&info, range_condition(&info, &range.bound));
	if (count > MAX_ROWS || blocks_of(info.default_relid) > MAX_BLOCKS)
	{
		note_stuck(rows, psprintf("%lld rows from %s", (long long) count, key_display(info.kind, &range.bound)));
		rows->from = range.bound.upper;
		return;
	}
	rows->locked_at = convert_lock_strongly(list_make2_oid(conversion->parent, info.default_relid), NIL);
	rows->created = create_partition_filled(policy, &range.bound, fill, &range);
	times_note_creation(conversion->parent, rows->created, now);
	rows->record.action = ACTION_CREATE;
	rows->record.subject.parent = conversion->parent;
	rows->record.subject.table_name = names_display(conversion->parent);
	rows->record.subject.partition = rows->created;
	rows->record.subject.partition_name = names_display(rows->created);
	rows->record.details = psprintf("%lld rows from %s, moved out of the default partition", (long long) count,
									key_display(info.kind, &range.bound));
}

/* Drops the default partition, which is empty; one that has rows is noted. */
void
convert_rows_drop_default(const Conversion *conversion, ConvertRows *rows)
{
	SqlSession	session;
	Identity	caller;
	ParentInfo	info;
	List	   *relids = list_make2_oid(conversion->parent, conversion->relation);
	MemoryContext context = CurrentMemoryContext;

	sql_begin(&session, GetUserId());
	(void) convert_lock_strongly(relids, NIL);
	parent_require_by_oid(conversion->parent, NoLock, &info);
	if (info.default_relid == conversion->relation)
	{
		if (convert_has_rows(conversion->relation))
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			note_stuck(rows, "rows without a key, or that came meanwhile");
			MemoryContextSwitchTo(old);
		}
		else
		{
			identity_assume(&caller, info.owner);
			protect_let_through();
			sql_run(psprintf("DROP TABLE %s", names_qualified(conversion->relation)));
			identity_restore(&caller);
		}
	}
	sql_end(&session);
}
