/*
 * register.c
 *		How each table wants to be maintained: checking and storing.
 *
 * Invariant: what is stored has been checked, and what a statement is built from
 * later is either quoted or, for unfinished_when, the server's own deparsing of
 * a checked expression.
 */
#include "catalog/register.h"

#include "access/relation.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "base/compat.h"
#include "base/restored.h"
#include "base/sql.h"
#include "catalog/asleep.h"
#include "catalog/catalog.h"
#include "catalog/hook.h"
#include "catalog/namespace.h"
#include "catalog/parent.h"
#include "catalog/pg_tablespace_d.h"
#include "catalog/pg_type.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"

/* Partitions beyond the current one. A day of minutes is 1,440 partitions. */
#define MAX_PREMAKE				1000
#define MAX_PREMAKE_OF_MINUTES	5000

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
				 errhint("Use minutes, hours, days, weeks, months, quarters or years, such as '15 minutes', '6 hours', '1 day', '2 weeks' or '3 months'.")));
	if (i->time % USECS_PER_MINUTE != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid partition interval \"%s\"",
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(i)))),
				 errdetail("The shortest unit is a minute."),
				 errhint("Use a whole number of minutes, such as '15 minutes'.")));
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
	if ((policy->action == RETENTION_ARCHIVE) != (policy->archive_schema != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("retention action \"%s\" and archive_schema don't fit together",
						policy_action_name(policy->action)),
				 errhint("Give archive_schema with retention_action 'archive', and only with it.")));
	(void) policy_archive_schema(policy);
}

/* Partitions are moved there as their table's owner. */
static void
check_archive_schema(const Policy *policy, Oid owner)
{
	const char *name = policy->archive_schema;

	if (name == NULL)
		return;
	if (IsReservedName(name) || strcmp(name, "information_schema") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("archive_schema \"%s\" is a schema of the server", name),
				 errhint("Create a schema for the archive, and name that.")));
	if (!sagaz_may_create_in(get_namespace_oid(name, false), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for archive_schema \"%s\"", name),
				 errdetail("Partitions are moved there as the owner of their table."),
				 errhint("GRANT CREATE ON SCHEMA %s TO %s;", quote_identifier(name),
						 quote_identifier(GetUserNameFromId(owner, false)))));
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
check_policy(const Policy *policy)
{
	const Interval *i = &policy->interval;
	bool		minutes = i->month == 0 && i->day == 0 && i->time < USECS_PER_HOUR;
	int			most = minutes ? MAX_PREMAKE_OF_MINUTES : MAX_PREMAKE;

	check_interval(policy);
	check_retention(policy);
	check_retention_action(policy);
	check_storage(policy);
	if (policy->premake < 1 || policy->premake > most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("premake must be from 1 to %d, not %d", most, policy->premake),
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

/* A list of C strings as a text array. */
static Datum
text_array(List *strings)
{
	int			n = list_length(strings);
	Datum	   *values = (Datum *) palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
		values[i] = CStringGetTextDatum((char *) list_nth(strings, i));
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Stores the policy; an earlier one of the same table is replaced. */
static void
save(const Policy *policy)
{
	static const char *const statement =
		"INSERT INTO sagaz_ha.partition_policy AS p (parent, partition_interval,"
		" premake, retention, retention_action, archive_schema, unfinished_when,"
		" time_zone, tablespace, storage_parameters, auto_analyze, auto_freeze, restored_at,"
		" before_drop, plain, key_encoding, protect)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
		" ON CONFLICT (parent) DO UPDATE SET"
		" partition_interval = EXCLUDED.partition_interval,"
		" premake = EXCLUDED.premake, retention = EXCLUDED.retention,"
		" retention_action = EXCLUDED.retention_action,"
		" archive_schema = EXCLUDED.archive_schema,"
		" unfinished_when = EXCLUDED.unfinished_when,"
		" time_zone = EXCLUDED.time_zone, tablespace = EXCLUDED.tablespace,"
		" storage_parameters = EXCLUDED.storage_parameters,"
		" auto_analyze = EXCLUDED.auto_analyze, auto_freeze = EXCLUDED.auto_freeze,"
		" before_drop = EXCLUDED.before_drop, plain = EXCLUDED.plain,"
		" key_encoding = EXCLUDED.key_encoding, protect = EXCLUDED.protect";
	TimestampTz restored = restored_at();
	SqlSession	session;
	SqlArgs		args = {0};

	sql_begin_as_extension(&session);
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(policy->parent));
	sql_arg(&args, INTERVALOID, IntervalPGetDatum(&policy->interval));
	sql_arg(&args, INT4OID, Int32GetDatum(policy->premake));
	sql_arg_or_null(&args, INTERVALOID, IntervalPGetDatum(policy->retention),
					policy->retention == NULL);
	sql_arg_text(&args, policy_action_name(policy->action));
	sql_arg_name(&args, policy->archive_schema);
	sql_arg_text(&args, policy->unfinished_when);
	sql_arg_text(&args, policy->time_zone);
	sql_arg_name(&args, policy->tablespace);
	sql_arg_or_null(&args, TEXTARRAYOID, text_array(policy->storage_parameters),
					policy->storage_parameters == NIL);
	sql_arg(&args, BOOLOID, BoolGetDatum(policy->auto_analyze));
	sql_arg(&args, BOOLOID, BoolGetDatum(policy->auto_freeze));
	/* registering a table on a restored server is consent to its drops */
	sql_arg_or_null(&args, TIMESTAMPTZOID, TimestampTzGetDatum(restored), restored == 0);
	sql_arg_text(&args, policy->before_drop);
	sql_arg(&args, BOOLOID, BoolGetDatum(policy->plain));
	sql_arg_text(&args, policy->key_encoding);
	sql_arg(&args, BOOLOID, BoolGetDatum(policy->protect));
	(void) sql_execute(statement, &args);
	sql_end(&session);
	asleep_end(policy->parent);
}

/*
 * Checks a policy against its table and stores it. The time zone is known
 * already. unfinished_when is replaced by its canonical form.
 */
void
register_policy(Policy *policy)
{
	/* not table_open(): what isn't a table gets our hint */
	Relation	rel = relation_open(policy->parent, AccessShareLock);
	ParentInfo	info;

	parent_require_told(rel, policy->key_encoding, &info);
	check_policy(policy);
	check_archive_schema(policy, info.owner);
	if (!info.kind->has_time && policy->interval.time != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a partition of hours needs a time in its key"),
				 errdetail("The partition key of table \"%s\" is of type %s.",
						   RelationGetRelationName(rel), format_type_be(info.kind->type)),
				 errhint("Use an interval of days or longer.")));
	if (policy->unfinished_when)
		policy->unfinished_when = check_unfinished(policy->parent, policy->unfinished_when);
	if (policy->before_drop)
		(void) hook_require(policy->before_drop, info.owner);
	table_close(rel, NoLock);
	save(policy);
}

/* Fails unless a stored policy still holds: a column, a schema or a function may be gone since. */
void
register_recheck(const Policy *policy, Oid owner)
{
	Identity	saved;

	(void) policy_archive_schema(policy);
	if (policy->before_drop != NULL)
		(void) hook_require(policy->before_drop, owner);
	if (policy->unfinished_when == NULL)
		return;
	identity_assume(&saved, owner);
	(void) check_unfinished(policy->parent, policy->unfinished_when);
	identity_restore(&saved);
}

/* Runs one statement on the extension's own tables; how many rows it changed. */
static uint64
change(const char *statement, SqlArgs *args)
{
	SqlSession	session;
	uint64		rows;

	sql_begin_as_extension(&session);
	rows = sql_execute(statement, args);
	sql_end(&session);
	return rows;
}

/* Forgets a table's policy. */
void
register_forget(Oid parent)
{
	SqlArgs		args = {0};

	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(parent));
	(void) change("DELETE FROM sagaz_ha.partition_policy WHERE parent = $1", &args);
}

/*
 * Holds back a table's drops, because the server was restored, or else because
 * the clock looks wrong; false if that is so already. An operator who agreed in
 * the meantime is not overruled.
 */
bool
register_hold_back_drops(const Policy *policy, TimestampTz now)
{
	bool		restored = policy->restore_to_note != 0;
	SqlArgs		args = {0};

	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(policy->parent));
	sql_arg(&args, BOOLOID, BoolGetDatum(restored));
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(restored ? policy->restore_to_note : now));
	return change("UPDATE sagaz_ha.partition_policy"
				  " SET drops_held_since = $3,"
				  "     restored_at = CASE WHEN $2 THEN $3 ELSE restored_at END"
				  " WHERE parent = $1 AND CASE WHEN $2 THEN restored_at IS DISTINCT FROM $3"
				  "                            ELSE drops_held_since IS NULL END", &args) > 0;
}

/* An operator agrees to a table's drops; false if they weren't held back. */
bool
register_resume_drops(Oid parent)
{
	TimestampTz restored = restored_at();
	SqlArgs		args = {0};

	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(parent));
	sql_arg_or_null(&args, TIMESTAMPTZOID, TimestampTzGetDatum(restored), restored == 0);
	return change("UPDATE sagaz_ha.partition_policy"
				  " SET drops_held_since = NULL, restored_at = coalesce($2, restored_at)"
				  " WHERE parent = $1"
				  "   AND (drops_held_since IS NOT NULL"
				  "        OR restored_at IS DISTINCT FROM coalesce($2, restored_at))",
				  &args) > 0;
}
