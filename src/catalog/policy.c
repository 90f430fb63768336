/*
 * policy.c
 *		How each table wants to be maintained: checking, storing, loading.
 *
 * Invariant: what policy_save() stores has been checked, and what a statement
 * is built from later is either quoted or, for unfinished_when, the server's
 * own deparsing of a checked expression.
 */
#include "catalog/policy.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_tablespace_d.h"
#include "catalog/pg_type.h"
#include "commands/tablespace.h"
#include "base/compat.h"
#include "executor/spi.h"
#include "base/identity.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "catalog/parent.h"
#include "base/restored.h"
#include "base/settings.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"

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
policy_plan(const Policy *policy, Oid key_type, PlanPolicy *plan)
{
	memset(plan, 0, sizeof(*plan));
	if (key_type == TIMESTAMPTZOID)
		plan->cal = zone_calendar(policy);
	plan->interval = span_of(&policy->interval);
	plan->premake = policy->premake;
	plan->has_retention = policy->retention != NULL;
	if (plan->has_retention)
		plan->retention = span_of(policy->retention);
}

/* An instant as a value of the partition key, and back. */
CalTime
policy_key_time(const Policy *policy, Oid key_type, TimestampTz t)
{
	Calendar	cal = zone_calendar(policy);

	return key_type == TIMESTAMPTZOID ? t : cal_to_local(&cal, t);
}

TimestampTz
policy_instant(const Policy *policy, Oid key_type, CalTime t)
{
	Calendar	cal = zone_calendar(policy);

	if (!cal_is_finite(t))
		return t == CAL_MINUS_INFINITY ? DT_NOBEGIN : DT_NOEND;
	return key_type == TIMESTAMPTZOID ? t : cal_from_local(&cal, t);
}

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

static void
check_interval(const Policy *policy)
{
	const Interval *i = &policy->interval;
	int			units = (i->month != 0) + (i->day != 0) + (i->time != 0);

	if (units != 1 || i->month < 0 || i->day < 0 || i->time < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid partition interval \"%s\"",
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(i)))),
				 errdetail("The interval must be positive and of one kind of unit."),
				 errhint("Use hours, days, weeks, months, quarters or years, such as '6 hours', '1 day', '2 weeks' or '3 months'.")));
	if (i->time % USECS_PER_HOUR != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid partition interval \"%s\"",
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(i)))),
				 errdetail("The shortest unit is an hour."),
				 errhint("Use a whole number of hours, such as '1 hour'.")));
	if (i->month > 12 * 1000 || i->day > 366 * 1000 || i->time > INT64CONST(8784000) * USECS_PER_HOUR)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partition interval is too long"),
				 errhint("The longest interval is 1000 years.")));
}

static void
check_retention(const Policy *policy)
{
	const Interval *r = policy->retention;

	if (r == NULL)
		return;
	if (r->month < 0 || r->day < 0 || r->time < 0 ||
		DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(r),
										 IntervalPGetDatum(&policy->interval))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("retention \"%s\" is shorter than one partition interval",
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(r)))),
				 errhint("Keep at least one interval, or use NULL to keep partitions for ever.")));
}

static void
check_retention_action(const Policy *policy)
{
	const char *action = policy->retention_action;
	bool		archive = strcmp(action, "archive") == 0;

	if (!archive && strcmp(action, "drop") != 0 && strcmp(action, "detach") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid retention action \"%s\"", action),
				 errhint("Use 'drop', 'detach' or 'archive'.")));
	if (archive != (policy->archive_schema != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("retention action \"%s\" and archive_schema don't fit together", action),
				 errhint("Give archive_schema with retention_action 'archive', and only with it.")));
	(void) policy_archive_schema(policy);
}

static void
storage_error_context(void *arg)
{
	errhint("storage_parameters are those that CREATE TABLE ... WITH takes, such as 'fillfactor=70'.");
}

static void
check_tablespace(const char *name)
{
	Oid			tablespace = get_tablespace_oid(name, true);

	if (!OidIsValid(tablespace))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("tablespace \"%s\" does not exist", name),
				 errhint("View pg_tablespace lists the tablespaces that there are.")));
	if (tablespace == GLOBALTABLESPACE_OID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tablespace \"%s\" is for the server's own shared tables only", name),
				 errhint("Choose another tablespace, or leave it out to get the table's.")));
}

static void
check_storage(const Policy *policy)
{
	SagazOptionNamespace namespaces[] = {"toast", NULL};
	List	   *options = NIL;
	ListCell   *cell;
	Datum		main_options;
	Datum		toast_options;
	ErrorContextCallback callback = {error_context_stack, storage_error_context, NULL};

	if (policy->tablespace != NULL)
		check_tablespace(policy->tablespace);

	error_context_stack = &callback;

	foreach(cell, policy->storage_parameters)
	{
		char	   *name = pstrdup((char *) lfirst(cell));
		char	   *value = strchr(name, '=');
		char	   *dot;

		if (value == NULL || value == name)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid storage parameter \"%s\"", name),
					 errhint("Use \"name=value\", such as 'fillfactor=70'.")));
		*value++ = '\0';
		dot = strchr(name, '.');
		if (dot != NULL)
			*dot++ = '\0';
		options = lappend(options,
						  makeDefElemExtended(dot ? name : NULL, dot ? dot : name,
											  (Node *) makeString(value),
											  DEFELEM_UNSPEC, -1));
	}
	main_options = transformRelOptions((Datum) 0, options, NULL, namespaces, false, false);
	(void) heap_reloptions(RELKIND_RELATION, main_options, true);
	toast_options = transformRelOptions((Datum) 0, options, "toast", namespaces, false, false);
	(void) heap_reloptions(RELKIND_TOASTVALUE, toast_options, true);
	error_context_stack = callback.previous;
}

/* Everything about a policy but its table and its condition. */
static void
policy_check(const Policy *policy)
{
	check_interval(policy);
	check_retention(policy);
	check_retention_action(policy);
	check_storage(policy);
	if (policy->premake < 1 || policy->premake > 1000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("premake must be from 1 to 1000, not %d", policy->premake),
				 errhint("It is the number of partitions to have ready beyond the current one.")));
}

static bool
contains_sublink(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		return true;
	return expression_tree_walker(node, contains_sublink, context);
}

/* The one expression that the text is, and nothing beside it. */
static Node *
parse_condition(const char *condition)
{
	List	   *statements = raw_parser(psprintf("SELECT (%s\n)", condition),
										RAW_PARSE_DEFAULT);
	SelectStmt *select = NULL;

	if (list_length(statements) == 1)
		select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;

	/* "true) FROM t WHERE (x" would be more than an expression */
	if (select != NULL && IsA(select, SelectStmt) &&
		list_length(select->targetList) == 1 &&
		select->distinctClause == NIL && select->intoClause == NULL &&
		select->fromClause == NIL && select->whereClause == NULL &&
		select->groupClause == NIL && select->havingClause == NULL &&
		select->windowClause == NIL && select->valuesLists == NIL &&
		select->sortClause == NIL && select->limitOffset == NULL &&
		select->limitCount == NULL && select->lockingClause == NIL &&
		select->withClause == NULL && select->op == SETOP_NONE)
	{
		ResTarget  *target = linitial_node(ResTarget, select->targetList);

		if (target->name == NULL && target->indirection == NIL)
			return target->val;
	}
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("unfinished_when must be one boolean expression: \"%s\"", condition)));
	return NULL;
}

static void
unfinished_error_context(void *arg)
{
	errhint("unfinished_when is a boolean expression on the columns of table \"%s\", such as status = 'PENDING'.",
			get_rel_name(*(Oid *) arg));
}

/*
 * Checks a condition on the table's columns and returns it as the server
 * writes it under an empty search path, so that nobody's search path can
 * change its meaning later.
 */
static char *
check_unfinished(Oid parent, const char *condition)
{
	Relation	rel = table_open(parent, AccessShareLock);
	ParseState *pstate = make_parsestate(NULL);
	ParseNamespaceItem *item;
	Node	   *expr;
	ErrorContextCallback callback = {error_context_stack, unfinished_error_context, &parent};
	Identity	saved;
	char	   *result;

	error_context_stack = &callback;
	item = addRangeTableEntryForRelation(pstate, rel, AccessShareLock, NULL,
										 false, true);
	addNSItemToQuery(pstate, item, true, true, true);
	expr = transformExpr(pstate, parse_condition(condition), EXPR_KIND_WHERE);
	if (contains_sublink(expr, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("unfinished_when must not contain a subquery")));
	expr = coerce_to_boolean(pstate, expr, "unfinished_when");
	assign_expr_collations(pstate, expr);
	if (contain_volatile_functions(expr))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("unfinished_when must not call volatile functions"),
				 errdetail("Whether a row is unfinished must not change from one look to the next.")));
	error_context_stack = callback.previous;

	identity_assume(&saved, GetUserId());
	result = deparse_expression(expr,
								deparse_context_for(RelationGetRelationName(rel), parent),
								false, false);
	identity_restore(&saved);
	table_close(rel, NoLock);
	return result;
}

/* SPI_execute_with_args() on the extension's own tables, as their owner. */
static void
execute_as_extension(const char *sql, int expected, int nargs, Oid *types,
					 Datum *values, const char *nulls)
{
	Identity	saved;

	identity_assume(&saved, identity_extension_owner());
	if (SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0) != expected)
		elog(ERROR, "unexpected result of \"%s\"", sql);
	identity_restore(&saved);
}

static Datum
storage_parameters_datum(const Policy *policy)
{
	int			n = list_length(policy->storage_parameters);
	Datum	   *values = (Datum *) palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
		values[i] = CStringGetTextDatum((char *) list_nth(policy->storage_parameters, i));
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Stores the policy; an earlier one of the same table is replaced. */
static void
policy_save(const Policy *policy)
{
	static const char *const sql =
		"INSERT INTO sagaz_ha.partition_policy AS p (parent, partition_interval,"
		" premake, retention, retention_action, archive_schema, unfinished_when,"
		" time_zone, tablespace, storage_parameters, auto_analyze, auto_freeze, restored_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
		" ON CONFLICT (parent) DO UPDATE SET"
		" partition_interval = EXCLUDED.partition_interval,"
		" premake = EXCLUDED.premake, retention = EXCLUDED.retention,"
		" retention_action = EXCLUDED.retention_action,"
		" archive_schema = EXCLUDED.archive_schema,"
		" unfinished_when = EXCLUDED.unfinished_when,"
		" time_zone = EXCLUDED.time_zone, tablespace = EXCLUDED.tablespace,"
		" storage_parameters = EXCLUDED.storage_parameters,"
		" auto_analyze = EXCLUDED.auto_analyze, auto_freeze = EXCLUDED.auto_freeze";
	Oid			types[13] = {REGCLASSOID, INTERVALOID, INT4OID, INTERVALOID,
		TEXTOID, NAMEOID, TEXTOID, TEXTOID, NAMEOID, TEXTARRAYOID,
		BOOLOID, BOOLOID, TIMESTAMPTZOID};
	Datum		values[13];
	char		nulls[13];
	TimestampTz restored = restored_at();

	memset(values, 0, sizeof(values));
	memset(nulls, ' ', sizeof(nulls));
	values[0] = ObjectIdGetDatum(policy->parent);
	values[1] = IntervalPGetDatum(&policy->interval);
	values[2] = Int32GetDatum(policy->premake);
	if (policy->retention)
		values[3] = IntervalPGetDatum(policy->retention);
	values[4] = CStringGetTextDatum(policy->retention_action);
	if (policy->archive_schema)
		values[5] = DirectFunctionCall1(namein, CStringGetDatum(policy->archive_schema));
	if (policy->unfinished_when)
		values[6] = CStringGetTextDatum(policy->unfinished_when);
	values[7] = CStringGetTextDatum(policy->time_zone);
	if (policy->tablespace)
		values[8] = DirectFunctionCall1(namein, CStringGetDatum(policy->tablespace));
	if (policy->storage_parameters)
		values[9] = storage_parameters_datum(policy);
	values[10] = BoolGetDatum(policy->auto_analyze);
	values[11] = BoolGetDatum(policy->auto_freeze);
	for (int i = 3; i <= 9; i++)
		if (values[i] == (Datum) 0)
			nulls[i] = 'n';
	/* who registers a table on a restored server agrees */
	values[12] = TimestampTzGetDatum(restored);
	if (restored == 0)
		nulls[12] = 'n';

	SPI_connect();
	execute_as_extension(sql, SPI_OK_INSERT, 13, types, values, nulls);
	SPI_finish();
}

/*
 * Checks a policy against its table and stores it. The time zone is known
 * already. unfinished_when is replaced by its canonical form.
 */
void
policy_register(Policy *policy)
{
	/* not table_open(): what isn't a table gets our hint */
	Relation	rel = relation_open(policy->parent, AccessShareLock);
	ParentInfo	info;

	partition_require_parent(rel, &info);
	policy_check(policy);
	if (info.key_type == DATEOID && policy->interval.time != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a partition of hours needs a time in its key"),
				 errdetail("The partition key of table \"%s\" is of type date.",
						   RelationGetRelationName(rel)),
				 errhint("Use an interval of days or longer.")));
	if (policy->unfinished_when)
		policy->unfinished_when = check_unfinished(policy->parent, policy->unfinished_when);
	table_close(rel, NoLock);
	policy_save(policy);
}

/* Whether a stored policy still holds: a column or a schema may be gone since. */
void
policy_recheck(const Policy *policy, Oid owner)
{
	Identity	saved;

	(void) policy_archive_schema(policy);
	if (policy->unfinished_when == NULL)
		return;
	identity_assume(&saved, owner);
	(void) check_unfinished(policy->parent, policy->unfinished_when);
	identity_restore(&saved);
}

/* Changes or deletes a policy's row; false if the condition isn't true for it. */
static bool
change_policy(const char *sql, int expected, int nargs, Oid *types, Datum *values,
			  const char *nulls)
{
	bool		found;

	SPI_connect();
	execute_as_extension(sql, expected, nargs, types, values, nulls);
	found = SPI_processed > 0;
	SPI_finish();
	return found;
}

/* Forgets a table's policy; false if it had none. */
bool
policy_delete(Oid parent)
{
	Oid			types[1] = {REGCLASSOID};
	Datum		values[1] = {ObjectIdGetDatum(parent)};

	return change_policy("DELETE FROM sagaz_ha.partition_policy WHERE parent = $1",
						 SPI_OK_DELETE, 1, types, values, NULL);
}

/*
 * Holds back a table's drops, because the server was restored, or else because
 * the clock looks wrong; false if that is so already. An operator who agreed
 * meanwhile is not overruled.
 */
bool
policy_hold_drops(const Policy *policy)
{
	Oid			types[3] = {REGCLASSOID, BOOLOID, TIMESTAMPTZOID};
	Datum		values[3] = {ObjectIdGetDatum(policy->parent),
		BoolGetDatum(policy->restore_to_note != 0),
		TimestampTzGetDatum(policy->restore_to_note != 0 ?
							policy->restore_to_note : settings_now())};

	return change_policy("UPDATE sagaz_ha.partition_policy"
						 " SET drops_held_since = $3,"
						 "     restored_at = CASE WHEN $2 THEN $3 ELSE restored_at END"
						 " WHERE parent = $1 AND CASE WHEN $2 THEN restored_at IS DISTINCT FROM $3"
						 "                            ELSE drops_held_since IS NULL END",
						 SPI_OK_UPDATE, 3, types, values, NULL);
}

/* An operator agrees to a table's drops; false if they weren't held back. */
bool
policy_resume_drops(Oid parent)
{
	Oid			types[2] = {REGCLASSOID, TIMESTAMPTZOID};
	TimestampTz restored = restored_at();
	Datum		values[2] = {ObjectIdGetDatum(parent), TimestampTzGetDatum(restored)};

	return change_policy("UPDATE sagaz_ha.partition_policy"
						 " SET drops_held_since = NULL, restored_at = coalesce($2, restored_at)"
						 " WHERE parent = $1"
						 "   AND (drops_held_since IS NOT NULL OR restored_at IS DISTINCT FROM coalesce($2, restored_at))",
						 SPI_OK_UPDATE, 2, types, values, restored != 0 ? NULL : " n");
}

#define ORPHANED_POLICIES	"FROM sagaz_ha.partition_policy AS p WHERE NOT EXISTS" \
	" (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = p.parent)"
#define ORPHANED_HOLDS		"FROM sagaz_ha.partition_hold AS h WHERE NOT EXISTS" \
	" (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = h.partition)"

/*
 * Forgets the policies and holds of tables that are gone. Every DROP TABLE comes
 * here, and a DELETE of nothing would still fire the trigger that wakes the
 * worker.
 */
int
policy_delete_orphans(void)
{
	int			count;

	SPI_connect();
	execute_as_extension("SELECT " ORPHANED_POLICIES, SPI_OK_SELECT, 0, NULL, NULL, NULL);
	count = (int) SPI_processed;
	if (count > 0)
		execute_as_extension("DELETE " ORPHANED_POLICIES, SPI_OK_DELETE, 0, NULL, NULL, NULL);
	execute_as_extension("DELETE " ORPHANED_HOLDS, SPI_OK_DELETE, 0, NULL, NULL, NULL);
	SPI_finish();
	return count;
}

static char *
text_column(HeapTuple tuple, TupleDesc desc, const char *column)
{
	return SPI_getvalue(tuple, desc, SPI_fnumber(desc, column));
}

/* A restore that the row doesn't know yet holds drops back, before all else. */
static void
set_held(Policy *policy, HeapTuple tuple, TupleDesc desc, TimestampTz restored)
{
	bool		unheld;
	bool		unnoted;
	Datum		since = SPI_getbinval(tuple, desc, 13, &unheld);
	Datum		noted = SPI_getbinval(tuple, desc, 14, &unnoted);

	if (restored != 0 && (unnoted || DatumGetTimestampTz(noted) != restored))
		policy->restore_to_note = restored;
	policy->drops_held = !unheld || policy->restore_to_note != 0;
	policy->restored = policy->restore_to_note != 0 ||
		(!unheld && !unnoted && DatumGetTimestampTz(since) == DatumGetTimestampTz(noted));
}

/* One row of partition_policy; its memory is the caller's. */
static Policy *
policy_from_row(HeapTuple tuple, TupleDesc desc, TimestampTz restored)
{
	Policy	   *policy = (Policy *) palloc0(sizeof(Policy));
	Datum		value;
	bool		isnull;
	Datum	   *parameters;
	int			n;

	policy->parent = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
	policy->interval = *DatumGetIntervalP(SPI_getbinval(tuple, desc, 2, &isnull));
	policy->premake = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
	value = SPI_getbinval(tuple, desc, 4, &isnull);
	if (!isnull)
	{
		policy->retention = (Interval *) palloc(sizeof(Interval));
		*policy->retention = *DatumGetIntervalP(value);
	}
	policy->retention_action = text_column(tuple, desc, "retention_action");
	policy->archive_schema = text_column(tuple, desc, "archive_schema");
	policy->unfinished_when = text_column(tuple, desc, "unfinished_when");
	policy->time_zone = text_column(tuple, desc, "time_zone");
	/* unknown since the server's time zones changed: an error of this table only */
	policy->tz = pg_tzset(policy->time_zone);
	policy->tablespace = text_column(tuple, desc, "tablespace");
	value = SPI_getbinval(tuple, desc, 10, &isnull);
	if (!isnull)
	{
		deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false,
						  TYPALIGN_INT, &parameters, NULL, &n);
		for (int i = 0; i < n; i++)
			policy->storage_parameters = lappend(policy->storage_parameters,
												 TextDatumGetCString(parameters[i]));
	}
	policy->auto_analyze = DatumGetBool(SPI_getbinval(tuple, desc, 11, &isnull));
	policy->auto_freeze = DatumGetBool(SPI_getbinval(tuple, desc, 12, &isnull));
	set_held(policy, tuple, desc, restored);
	return policy;
}

/* All policies, or one table's, of tables that exist; in the order of names. */
List *
policy_load(Oid parent)
{
	static const char *const sql =
		"SELECT p.parent, p.partition_interval, p.premake, p.retention,"
		" p.retention_action, p.archive_schema, p.unfinished_when, p.time_zone,"
		" p.tablespace, p.storage_parameters, p.auto_analyze, p.auto_freeze,"
		" p.drops_held_since, p.restored_at"
		" FROM sagaz_ha.partition_policy AS p"
		" JOIN pg_catalog.pg_class AS c ON c.oid = p.parent"
		" WHERE $1 = 0 OR p.parent = $1"
		" ORDER BY c.relname, c.oid";
	MemoryContext caller = CurrentMemoryContext;
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(parent)};
	TimestampTz restored = restored_at();
	List	   *policies = NIL;
	Identity	saved;

	SPI_connect();
	identity_assume(&saved, identity_extension_owner());
	if (plan == NULL)
	{
		plan = SPI_prepare(sql, 1, types);
		SPI_keepplan(plan);
	}
	/* not read-only: the caller may just have written one */
	if (SPI_execute_plan(plan, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read partition policies");
	identity_restore(&saved);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(caller);

		policies = lappend(policies, policy_from_row(SPI_tuptable->vals[i],
													 SPI_tuptable->tupdesc, restored));
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return policies;
}
