/*
 * convert.c
 *		The statements of a conversion, and running them.
 *
 * Invariant: what the worker runs is what plan_partition_table() shows, written
 * by the same SQL functions (sql/conversion.sql). Each runs as the owner of what
 * it changes. They are written anew for each step, from the catalogs as they are.
 */
#include "ddl/convert.h"

#include "access/table.h"
#include "access/tableam.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/pg_type.h"
#include "commands/view.h"
#include "ddl/protect.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "parser/parse_relation.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static char *
copy_text(uint64 row, int column)
{
	char	   *value = sql_text(row, column);

	return value == NULL ? NULL : pstrdup(value);
}

static void
add_statement(uint64 row, void *arg)
{
	List	  **list = (List **) arg;
	ConvertStatement *statement = (ConvertStatement *) palloc(sizeof(ConvertStatement));

	statement->phase = copy_text(row, 1);
	statement->run_as = sql_oid(row, 2);
	statement->lock = copy_text(row, 3);
	statement->sql = copy_text(row, 4);
	statement->meaning = copy_text(row, 5);
	*list = lappend(*list, statement);
}

/* The statements that a query over the functions of sql/conversion.sql returns. */
static List *
statements_of(const char *query, SqlArgs *args)
{
	SqlSession	session;
	List	   *list = NIL;

	sql_begin_as_extension(&session);
	sql_each_row(&session, sql_execute_latest(NULL, query, args), add_statement, &list);
	sql_end(&session);
	return list;
}

static void
add_obstacle(uint64 row, void *arg)
{
	List	  **list = (List **) arg;
	ConvertObstacle *obstacle = (ConvertObstacle *) palloc(sizeof(ConvertObstacle));

	obstacle->problem = copy_text(row, 1);
	obstacle->hint = copy_text(row, 2);
	*list = lappend(*list, obstacle);
}

/* What is in the way of converting a plain table; a conversion that has begun has its parent. */
List *
convert_obstacles(const Conversion *conversion)
{
	SqlSession	session;
	SqlArgs		args = {0};
	List	   *list = NIL;

	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(conversion->relation));
	sql_arg_name(&args, conversion->key);
	sql_arg(&args, BOOLOID, BoolGetDatum(conversion->weaken_unique));
	sql_arg(&args, BOOLOID, BoolGetDatum(conversion->publish_via_partition_root));
	sql_arg_or_null(&args, REGCLASSOID, ObjectIdGetDatum(conversion->parent), !OidIsValid(conversion->parent));
	sql_begin_as_extension(&session);
	sql_each_row(&session,
				 sql_execute_latest(NULL, "SELECT problem, hint FROM sagaz_ha._conversion_obstacles($1, $2, $3, $4, $5)", &args),
				 add_obstacle, &list);
	sql_end(&session);
	return list;
}

/* Fails if anything is in the way. */
void
convert_refuse(const Conversion *conversion, List *obstacles)
{
	StringInfoData problems;
	StringInfoData hints;
	ListCell   *cell;

	if (obstacles == NIL)
		return;
	initStringInfo(&problems);
	initStringInfo(&hints);
	foreach(cell, obstacles)
	{
		const ConvertObstacle *one = (const ConvertObstacle *) lfirst(cell);

		appendStringInfo(&problems, "%s%s", problems.len > 0 ? "; " : "", one->problem);
		appendStringInfo(&hints, "%s%s", hints.len > 0 ? "\n" : "", one->hint);
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" can't be partitioned in place: %s", conversion->table_name, problems.data),
			 errhint("%s", hints.data)));
}

/*
 * A conversion that is left without its row, in a copy of the database that it
 * was begun in: only to be taken back.
 */
bool
convert_find_left(Oid relation, Conversion *conversion)
{
	static const char *const query =
		"SELECT p.partrelid, a.attname FROM pg_partitioned_table AS p"
		"  JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]"
		" WHERE p.partrelid = sagaz_ha._conversion_left($1)";
	SqlSession	session;
	SqlArgs		args = {0};
	bool		found;

	memset(conversion, 0, sizeof(*conversion));
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(relation));
	sql_begin_as_extension(&session);
	found = sql_execute(query, &args) > 0;
	if (found)
	{
		conversion->relation = relation;
		conversion->parent = sql_oid(0, 1);
		conversion->key = MemoryContextStrdup(session.caller, sql_text(0, 2));
	}
	sql_end(&session);
	return found;
}

/* The name that the partitioned table has until the end, for a statement. */
static char *
convert_parent_name(Oid relation)
{
	static const char *const query =
		"SELECT format('%I.%I', n.nspname, sagaz_ha._conversion_name(c.relname::text, '_sagaz_ha'))"
		"  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1";
	SqlSession	session;
	SqlArgs		args = {0};
	char	   *name;

	sql_arg(&args, OIDOID, ObjectIdGetDatum(relation));
	sql_begin_as_extension(&session);
	(void) sql_execute(query, &args);
	name = MemoryContextStrdup(session.caller, sql_text(0, 1));
	sql_end(&session);
	return name;
}

/* Makes the partitioned table beside a plain one. */
List *
convert_building(const Conversion *conversion)
{
	SqlArgs		args = {0};

	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(conversion->relation));
	sql_arg_text(&args, convert_parent_name(conversion->relation));
	sql_arg_name(&args, conversion->key);
	return statements_of("SELECT * FROM sagaz_ha._conversion_building($1, $2, $3)", &args);
}

/* All that comes afterwards, in its order. */
List *
convert_steps(const Conversion *conversion)
{
	SqlArgs		args = {0};

	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(conversion->relation));
	if (conversion->kind == CONVERSION_TABLE)
	{
		char	   *target = OidIsValid(conversion->parent) ? names_qualified(conversion->parent) :
			convert_parent_name(conversion->relation);

		if (target == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the partitioned table that table \"%s\" was becoming is gone", conversion->table_name),
					 errhint("sagaz_ha.cancel_partition_table() takes the conversion back.")));
		sql_arg_text(&args, target);
		sql_arg_name(&args, conversion->key);
		sql_arg_text(&args, conversion->upper);
		sql_arg(&args, BOOLOID, BoolGetDatum(conversion->weaken_unique));
		sql_arg(&args, BOOLOID, BoolGetDatum(conversion->publish_via_partition_root));
		return statements_of("SELECT * FROM sagaz_ha._conversion_steps($1, $2, $3, $4, $5, $6)", &args);
	}
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(conversion->parent));
	sql_arg_name(&args, conversion->key);
	sql_arg_text(&args, conversion->lower);
	sql_arg_text(&args, conversion->upper);
	return statements_of("SELECT * FROM sagaz_ha._rebound_steps($1, $2, $3, $4, $5)", &args);
}

/* Fails if a plain table was changed in a way that its conversion would undo, or can't do. */
static void
require_unchanged(const Conversion *conversion, ConversionPhase phase)
{
	SqlSession	session;
	SqlArgs		args = {0};

	if (conversion->kind != CONVERSION_TABLE || get_rel_name(conversion->parent) == NULL)
		return;
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(conversion->relation));
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(conversion->parent));
	sql_arg(&args, BOOLOID, BoolGetDatum(phase >= CONVERSION_ATTACHING));
	sql_arg(&args, BOOLOID, BoolGetDatum(conversion->weaken_unique));
	sql_begin_as_extension(&session);
	(void) sql_execute_latest(NULL, "SELECT sagaz_ha._require_unchanged($1, $2, $3, $4)", &args);
	sql_end(&session);
	/* before, an index of ours may be invalid, as a killed worker leaves it */
	if (phase >= CONVERSION_LINKING)
		convert_refuse(conversion, convert_obstacles(conversion));
}

/* What the worker runs in one step. */
List *
convert_step(const Conversion *conversion, ConversionPhase phase)
{
	List	   *list = NIL;
	ListCell   *cell;

	require_unchanged(conversion, phase);
	foreach(cell, convert_steps(conversion))
	{
		ConvertStatement *statement = (ConvertStatement *) lfirst(cell);

		if (OidIsValid(statement->run_as) &&
			strcmp(statement->phase, conversion_phase_name(phase)) == 0)
			list = lappend(list, statement);
	}
	return list;
}

static void
add_oid(uint64 row, void *arg)
{
	List	  **list = (List **) arg;

	*list = lappend_oid(*list, sql_oid(row, 1));
}

/* What the statements of a step, or those that take it back, lock besides the table. */
List *
convert_companions(Oid relation, const char *step)
{
	SqlSession	session;
	SqlArgs		args = {0};
	List	   *list = NIL;

	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(relation));
	sql_arg_text(&args, step);
	sql_begin_as_extension(&session);
	sql_each_row(&session,
				 sql_execute_latest(NULL, "SELECT sagaz_ha._conversion_companions($1, $2)", &args),
				 add_oid, &list);
	sql_end(&session);
	return list;
}

/* What is done after the last short lock, with clients on the partitioned table. */
List *
convert_finishing(const Conversion *conversion)
{
	SqlArgs		args = {0};

	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(conversion->parent));
	return statements_of("SELECT * FROM sagaz_ha._conversion_finishing($1)", &args);
}

/* So that it can be made again with another bound; indexes that were made stay. */
List *
convert_dropping_check(const Conversion *conversion)
{
	SqlArgs		args = {0};

	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(conversion->relation));
	sql_arg_name(&args, conversion->key);
	return statements_of("SELECT * FROM sagaz_ha._conversion_undoing($1, NULL, $2) AS s"
						 " WHERE s.phase = 'undoing: check'", &args);
}

/* Takes the conversion back. */
List *
convert_undoing(const Conversion *conversion)
{
	SqlArgs		args = {0};
	bool		whole = conversion->kind == CONVERSION_TABLE && OidIsValid(conversion->parent);

	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(conversion->relation));
	sql_arg_or_null(&args, REGCLASSOID, ObjectIdGetDatum(conversion->parent), !whole);
	sql_arg_name(&args, conversion->key);
	return statements_of("SELECT * FROM sagaz_ha._conversion_undoing($1, $2, $3)", &args);
}

/* Makes a plain table of a converted one again. */
List *
convert_returning(Oid parent, Oid partition)
{
	SqlArgs		args = {0};

	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(parent));
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(partition));
	return statements_of("SELECT * FROM sagaz_ha._conversion_returning($1, $2)", &args);
}

/* The next index that is to be made, or removed because it is a killed worker's. */
bool
convert_next_index(const Conversion *conversion, ConvertStatement *statement)
{
	SqlArgs		args = {0};
	List	   *list;

	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(conversion->relation));
	sql_arg_name(&args, conversion->key);
	sql_arg(&args, BOOLOID, BoolGetDatum(conversion->weaken_unique));
	list = statements_of("SELECT 'indexing', run_as, NULL, statement, NULL"
						 "  FROM sagaz_ha._conversion_next_index($1, $2, $3)", &args);
	if (list == NIL)
		return false;
	*statement = *(ConvertStatement *) linitial(list);
	return true;
}

static void
add_text(uint64 row, void *arg)
{
	List	  **list = (List **) arg;

	*list = lappend(*list, copy_text(row, 1));
}

/* The table's own, which new partitions get as well. */
List *
convert_storage_parameters(Oid relation)
{
	static const char *const query =
		"SELECT unnest(c.reloptions) FROM pg_class AS c WHERE c.oid = $1"
		" UNION ALL "
		"SELECT 'toast.' || unnest(t.reloptions)"
		"  FROM pg_class AS c JOIN pg_class AS t ON t.oid = c.reltoastrelid WHERE c.oid = $1";
	SqlSession	session;
	SqlArgs		args = {0};
	List	   *list = NIL;

	sql_arg(&args, OIDOID, ObjectIdGetDatum(relation));
	sql_begin_as_extension(&session);
	sql_each_row(&session, sql_execute(query, &args), add_text, &list);
	sql_end(&session);
	return list;
}

/* Runs statements in the current transaction, each as its own role. */
void
convert_run(List *statements)
{
	ListCell   *cell;

	foreach(cell, statements)
	{
		const ConvertStatement *statement = (const ConvertStatement *) lfirst(cell);
		SqlSession	session;
		char	   *timeout = pstrdup(GetConfigOption("lock_timeout", false, false));

		sql_begin(&session, statement->run_as);
		identity_set_local("lock_timeout", timeout);
		/* a function was checked when it was made; row security is off here */
		identity_set_local("check_function_bodies", "off");
		protect_let_through();
		(void) sql_execute(statement->sql, NULL);
		sql_end(&session);
	}
}

/* Drops an empty partitioned table that a conversion has made, as its owner. It is locked. */
void
convert_drop_left(Oid parent)
{
	SqlSession	session;

	sql_begin(&session, identity_owner_of(parent));
	protect_let_through();
	sql_run(psprintf("DROP TABLE %s", names_qualified(parent)));
	sql_end(&session);
}

/* Whether a table has any row now, whoever may see it. It is locked. */
bool
convert_has_rows(Oid relation)
{
	Relation	rel = table_open(relation, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot;
	TableScanDesc scan;
	bool		found;

	if (rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("partition %s is no plain table", names_display(relation)),
				 errhint("Detach the partition first.")));
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, snapshot, 0, NULL);
	found = table_scan_getnextslot(scan, ForwardScanDirection, slot);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return found;
}

/*
 * Gives a materialized view another query. There is no statement for that; the
 * server's own CREATE MATERIALIZED VIEW stores it in the same way.
 */
void
convert_replace_query(Oid view, const char *query)
{
	List	   *raw;
	Query	   *parsed = NULL;
	Identity	saved;

	identity_require_owner(view);
	if (get_rel_relkind(view) != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a materialized view", get_rel_name(view)),
				 errhint("Use CREATE OR REPLACE VIEW for a view.")));
	LockRelationOid(view, AccessExclusiveLock);
	identity_assume(&saved, GetUserId());
	raw = pg_parse_query(query);
	if (list_length(raw) == 1)
		parsed = parse_analyze_fixedparams(linitial_node(RawStmt, raw), query, NULL, 0, NULL);
	if (parsed == NULL || parsed->commandType != CMD_SELECT || parsed->hasModifyingCTE)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("the query of a materialized view must be one SELECT")));
	/* as the server's own statement: it would go with the session */
	if (isQueryUsingTempRelation(parsed))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the query of materialized view \"%s\" must not use temporary tables", get_rel_name(view)),
				 errhint("Use permanent tables.")));
	StoreViewQuery(view, parsed, true);
	identity_restore(&saved);
}
