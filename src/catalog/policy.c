/*
 * policy.c
 *		How each table wants to be maintained: loading.
 *
 * Invariant: a stored policy has been checked (register.c), but the objects
 * that it names may be gone since.
 */
#include "catalog/policy.h"

#include "base/restored.h"
#include "base/sql.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#define UNIX_TO_POSTGRES_SECONDS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

static int32_t
zone_offset(CalTime instant, void *arg)
{
	pg_time_t	seconds = (instant >= 0 ? instant : instant - (USECS_PER_SEC - 1)) /
		USECS_PER_SEC + UNIX_TO_POSTGRES_SECONDS;
	struct pg_tm *tm = pg_localtime(&seconds, (pg_tz *) arg);

	return tm == NULL ? 0 : (int32_t) tm->tm_gmtoff;
}

static CalSpan
span_of(const Interval *interval)
{
	CalSpan		span = {interval->month, interval->day, interval->time};

	return span;
}

static Calendar
zone_calendar(const Policy *policy)
{
	Calendar	cal = {NULL, NULL};

	if (policy->tz == NULL)
		(void) policy_time_zone(policy->time_zone);
	if (strcmp(pg_get_timezone_name(policy->tz), "UTC") != 0)
	{
		cal.offset = zone_offset;
		cal.arg = policy->tz;
	}
	return cal;
}

/*
 * The planner's view of a policy. Columns without a time zone hold the wall
 * clock of the policy's zone, so for them only "now" is converted.
 */
void
policy_plan(const Policy *policy, const KeyKind *kind, PlanPolicy *plan)
{
	memset(plan, 0, sizeof(*plan));
	if (kind->is_instant)
		plan->cal = zone_calendar(policy);
	plan->interval = span_of(&policy->interval);
	plan->premake = policy->premake;
	plan->has_retention = policy->retention != NULL;
	if (plan->has_retention)
		plan->retention = span_of(policy->retention);
}

/* What the wall clock of the policy's zone shows at an instant. */
static CalTime
local_time(const Policy *policy, TimestampTz t)
{
	Calendar	cal = zone_calendar(policy);

	return cal_to_local(&cal, t);
}

/* An instant that the wall clock of the policy's zone shows so. */
TimestampTz
policy_instant_of_local(const Policy *policy, CalTime local)
{
	Calendar	cal = zone_calendar(policy);

	return cal_from_local(&cal, local);
}

/* An instant as a time of the partition key. */
CalTime
policy_key_time(const Policy *policy, const KeyKind *kind, TimestampTz t)
{
	return kind->is_instant ? t : local_time(policy, t);
}

/* A time of the partition key as an instant; infinity stays infinite. */
TimestampTz
policy_instant(const Policy *policy, const KeyKind *kind, CalTime t)
{
	Calendar	cal = zone_calendar(policy);

	if (!cal_is_finite(t))
		return t == CAL_MINUS_INFINITY ? DT_NOBEGIN : DT_NOEND;
	return kind->is_instant ? t : cal_from_local(&cal, t);
}

/* The zone of this name; an error if there is none. */
pg_tz *
policy_time_zone(const char *name)
{
	pg_tz	   *tz = pg_tzset(name);

	if (tz == NULL || !pg_tz_acceptable(tz))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time zone \"%s\" not recognized", name),
				 errhint("View pg_timezone_names lists the names that are known.")));
	return tz;
}

/* The schema that partitions are archived in; NULL if they are not. */
char *
policy_archive_schema(const Policy *policy)
{
	if (policy->archive_schema != NULL &&
		!OidIsValid(get_namespace_oid(policy->archive_schema, true)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_SCHEMA),
				 errmsg("archive_schema \"%s\" does not exist", policy->archive_schema),
				 errhint("Create it, or name another with sagaz_ha.manage_partitions().")));
	return policy->archive_schema;
}

static const char *const action_names[] = {
	[RETENTION_DROP] = "drop",
	[RETENTION_DETACH] = "detach",
	[RETENTION_ARCHIVE] = "archive"
};

/* What a retention action is called. */
const char *
policy_action_name(RetentionAction action)
{
	return action_names[action];
}

/* The retention action of this name; false if there is none. */
bool
policy_parse_action(const char *name, RetentionAction *action)
{
	for (int i = 0; i < lengthof(action_names); i++)
		if (strcmp(name, action_names[i]) == 0)
		{
			*action = (RetentionAction) i;
			return true;
		}
	return false;
}

/* A restore that the row doesn't know yet holds drops back, before all else. */
static void
read_held_back(Policy *policy, uint64 row, TimestampTz restored)
{
	bool		free;
	bool		unnoted;
	Datum		since = sql_value(row, 13, &free);
	Datum		noted = sql_value(row, 14, &unnoted);

	if (restored != 0 && (unnoted || DatumGetTimestampTz(noted) != restored))
		policy->restore_to_note = restored;
	policy->drops_held_back = !free || policy->restore_to_note != 0;
	policy->restored = policy->restore_to_note != 0 ||
		(!free && !unnoted && DatumGetTimestampTz(since) == DatumGetTimestampTz(noted));
}

/* A text array as a list of C strings. */
static List *
string_list(Datum array)
{
	List	   *result = NIL;
	Datum	   *values;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false,
					  TYPALIGN_INT, &values, NULL, &n);
	for (int i = 0; i < n; i++)
		result = lappend(result, TextDatumGetCString(values[i]));
	return result;
}

typedef struct Loading
{
	TimestampTz restored;
	List	   *policies;
} Loading;

/* One row of partition_policy, unless its table is gone; columns in the order of the query below. */
static void
add_policy(uint64 row, void *arg)
{
	Loading    *loading = (Loading *) arg;
	Policy	   *policy = (Policy *) palloc0(sizeof(Policy));
	Datum		value;
	bool		isnull;

	policy->parent = sql_oid(row, 1);
	policy->name = get_rel_name(policy->parent);
	if (policy->name == NULL)
		return;
	policy->interval = *DatumGetIntervalP(sql_value(row, 2, &isnull));
	policy->premake = DatumGetInt32(sql_value(row, 3, &isnull));
	value = sql_value(row, 4, &isnull);
	if (!isnull)
	{
		policy->retention = (Interval *) palloc(sizeof(Interval));
		*policy->retention = *DatumGetIntervalP(value);
	}
	if (!policy_parse_action(sql_text(row, 5), &policy->action))
		elog(ERROR, "unknown retention action of table %u", policy->parent);
	policy->archive_schema = sql_text(row, 6);
	policy->unfinished_when = sql_text(row, 7);
	policy->time_zone = sql_text(row, 8);

	/*
	 * unknown since the server's time zones changed: an error of this table
	 * only
	 */
	policy->tz = pg_tzset(policy->time_zone);
	policy->tablespace = sql_text(row, 9);
	value = sql_value(row, 10, &isnull);
	if (!isnull)
		policy->storage_parameters = string_list(value);
	policy->auto_analyze = DatumGetBool(sql_value(row, 11, &isnull));
	policy->auto_freeze = DatumGetBool(sql_value(row, 12, &isnull));
	policy->before_drop = sql_text(row, 15);
	read_held_back(policy, row, loading->restored);
	policy->plain = DatumGetBool(sql_value(row, 16, &isnull));
	policy->key_encoding = sql_text(row, 17);
	policy->protect = DatumGetBool(sql_value(row, 18, &isnull));
	loading->policies = lappend(loading->policies, policy);
}

static int
by_name(const ListCell *a, const ListCell *b)
{
	const Policy *left = (const Policy *) lfirst(a);
	const Policy *right = (const Policy *) lfirst(b);
	int			order = strcmp(left->name, right->name);

	return order != 0 ? order : oid_cmp(&left->parent, &right->parent);
}

static void
add_parent(uint64 row, void *arg)
{
	List	  **parents = (List **) arg;

	*parents = lappend_oid(*parents, sql_oid(row, 1));
}

/* The tables that another table of ours names; a table that is mostly empty. */
static List *
parents_in(const char *table, const char *query)
{
	SqlSession	session;
	List	   *parents = NIL;

	if (sql_is_empty(table))
		return NIL;
	sql_begin_as_extension(&session);
	sql_each_row(&session, sql_execute(query, NULL), add_parent, &parents);
	sql_end(&session);
	return parents;
}

#define POLICIES \
	"SELECT p.parent, p.partition_interval, p.premake, p.retention," \
	" p.retention_action, p.archive_schema, p.unfinished_when, p.time_zone," \
	" p.tablespace, p.storage_parameters, p.auto_analyze, p.auto_freeze," \
	" p.drops_held_since, p.restored_at, p.before_drop, p.plain," \
	" p.key_encoding, p.protect" \
	" FROM sagaz_ha.partition_policy AS p"
/* what is being converted */
#define CONVERTED \
	"SELECT v.parent FROM sagaz_ha.conversion AS v WHERE v.phase NOT IN ('failed', 'finishing')"

/*
 * The policies of all tables that exist, or of one, in the order of names; without
 * those that a query of conversions names. The query of policies is as plain as can
 * be, because a process that has just begun plans it without any catalog in its
 * caches. What sleeps or is converted is looked for after it: that is written in the
 * same transaction as the policy, or later.
 */
static List *
load(Oid parent, const char *converted)
{
	static const char *const queries[] = {POLICIES, POLICIES " WHERE p.parent = $1"};
	static SPIPlanPtr plans[lengthof(queries)] = {NULL, NULL};
	Loading		loading = {restored_at(), NIL};
	bool		one = OidIsValid(parent);
	SqlSession	session;
	SqlArgs		args = {0};
	List	   *asleep;
	List	   *left_out;
	ListCell   *cell;

	sql_begin_as_extension(&session);
	if (one)
		sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	/* not read-only: the caller may just have written one */
	sql_each_row(&session, sql_execute_kept(&plans[one], queries[one], &args), add_policy, &loading);
	sql_end(&session);
	asleep = loading.policies != NIL ? parents_in("asleep", "SELECT a.parent FROM sagaz_ha.asleep AS a") : NIL;
	left_out = loading.policies != NIL && converted != NULL ? parents_in("conversion", converted) : NIL;
	foreach(cell, loading.policies)
	{
		Policy	   *policy = (Policy *) lfirst(cell);

		policy->asleep = list_member_oid(asleep, policy->parent);
		if (list_member_oid(left_out, policy->parent))
			loading.policies = foreach_delete_current(loading.policies, cell);
	}
	list_sort(loading.policies, by_name);
	return loading.policies;
}

/*
 * All policies that passes act on, or one table's. While it is converted, a table is
 * the conversion's; but once clients use it, what is still to be validated can last.
 */
List *
policy_load(Oid parent)
{
	return load(parent, OidIsValid(parent) ? NULL : CONVERTED);
}

/*
 * The policies of all tables that clients use: also of one whose default partition
 * is emptied, and of one that has become partitioned and isn't finished.
 */
List *
policy_load_used(void)
{
	return load(InvalidOid, CONVERTED " AND v.kind = 'table'");
}

static void
take_text(uint64 row, void *arg)
{
	*(char **) arg = sql_text(row, 1);
}

/* How a managed table's key is encoded; NULL if nobody said so. */
char *
policy_key_encoding(Oid parent)
{
	static const char *const query =
		"SELECT key_encoding FROM sagaz_ha.partition_policy WHERE parent = $1";
	static SPIPlanPtr plan = NULL;
	SqlSession	session;
	SqlArgs		args = {0};
	char	   *encoding = NULL;

	sql_begin_as_extension(&session);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	sql_each_row(&session, sql_execute_kept(&plan, query, &args), take_text, &encoding);
	sql_end(&session);
	return encoding;
}
