/*
 * convert_begin.c
 *		A conversion is asked for: what is in the way, its plan, its beginning.
 *
 * Invariant: what is in the way is found and told before anything is done. The
 * partitioned table is made in the caller's transaction, empty and with its policy,
 * which so is checked like any other; passes leave it alone until the end.
 */
#include "pass/convert_begin.h"

#include "access/table.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/history.h"
#include "catalog/names.h"
#include "catalog/parent.h"
#include "catalog/pg_type.h"
#include "catalog/register.h"
#include "commands/dbcommands.h"
#include "ddl/convert_bound.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "shmem/shared.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

static ConvertObstacle *
obstacle(char *problem, char *hint)
{
	ConvertObstacle *result = (ConvertObstacle *) palloc(sizeof(ConvertObstacle));

	result->problem = problem;
	result->hint = hint;
	return result;
}

/* The kind of the key; NULL, and an obstacle, if it can't be one. */
static const KeyKind *
find_key(const Conversion *conversion, const char *encoding, List **obstacles)
{
	static const char *const types_hint =
		"Name a timestamptz, timestamp, date, uuid, text, varchar, char or bigint column.";
	AttrNumber	attnum = get_attnum(conversion->relation, conversion->key);
	const KeyKind *kind;
	ParentProblem problem;
	Relation	rel;
	Oid			type;

	if (attnum <= 0)
	{
		*obstacles = lappend(*obstacles,
							 obstacle(psprintf("table %s has no column \"%s\"",
											   names_display(conversion->relation), conversion->key),
									  pstrdup(types_hint)));
		return NULL;
	}
	type = get_atttype(conversion->relation, attnum);
	if (key_choices(type) == NULL && key_kind_of(type) == NULL)
	{
		*obstacles = lappend(*obstacles,
							 obstacle(psprintf("column \"%s\" of table %s is of type %s", conversion->key,
											   names_display(conversion->relation), format_type_be(type)),
									  pstrdup(types_hint)));
		return NULL;
	}
	rel = table_open(conversion->relation, AccessShareLock);
	kind = parent_column_kind(rel, attnum, encoding, &problem);
	table_close(rel, NoLock);
	if (kind == NULL)
		*obstacles = lappend(*obstacles, obstacle(pstrdup(problem.message), pstrdup(problem.hint)));
	return kind;
}

/* Finds what is in the way, and the bounds, of a plain table. */
static List *
look_at_table(ConvertWish *wish)
{
	Conversion *conversion = &wish->conversion;
	List	   *obstacles = NIL;
	const KeyKind *kind = find_key(conversion, wish->policy.key_encoding, &obstacles);
	ConvertBound bound;

	if (kind == NULL)
		return obstacles;
	obstacles = convert_obstacles(conversion);
	convert_bound(&wish->policy, conversion->relation, conversion->key, kind, wish->now, &bound);
	conversion->kind = CONVERSION_TABLE;
	conversion->lower = "MINVALUE";
	conversion->upper = key_literal(kind, bound.upper);
	conversion->finish_by = bound.finish_by;
	if (wish->policy.storage_parameters == NIL)
		wish->policy.storage_parameters = convert_storage_parameters(conversion->relation);
	return list_concat(obstacles, bound.obstacles);
}

/* The same of a partitioned table, whose default or last partition gets bounds. */
static List *
look_at_partitions(ConvertWish *wish)
{
	Conversion *conversion = &wish->conversion;
	Oid			parent = conversion->relation;
	List	   *obstacles = NIL;
	Relation	rel = table_open(parent, AccessShareLock);
	ParentInfo	info;
	ConvertBound bound;
	int			last;

	parent_require_told(rel, wish->policy.key_encoding, &info);
	table_close(rel, NoLock);
	last = info.nparts - 1;
	conversion->parent = wish->policy.parent = parent;
	conversion->kind = CONVERSION_PARTITION;
	if (parent_referencing_tables(parent) != NIL)
		return list_make1(obstacle(psprintf("foreign keys of other tables reference table %s", names_display(parent)),
								   "Drop these foreign keys, and add them again afterwards: a partition with rows that are referenced can't be detached."));
	if (strcmp(parent_key_name(&info), conversion->key) != 0)
		return list_make1(obstacle(psprintf("table %s is partitioned by \"%s\"", names_display(parent),
											parent_key_name(&info)),
								   psprintf("Name column \"%s\" as the key.", parent_key_name(&info))));
	if (OidIsValid(info.default_relid))
	{
		conversion->relation = info.default_relid;
		conversion->lower = "MINVALUE";
		if (info.nparts > 0)
		{
			const KeyRange *first = &info.ranges[0];

			if (!cal_is_finite(info.bounds[0].lower) ||
				!convert_rows_before(info.default_relid, conversion->key, info.kind, first->lower))
				conversion->kind = CONVERSION_ROWS;
			conversion->upper = key_bound_literal(info.kind, first->lower_kind, first->lower);
			return NIL;
		}
	}
	else if (last >= 0 && info.bounds[last].upper == CAL_INFINITY)
	{
		conversion->relation = info.relids[last];
		conversion->lower = key_bound_literal(info.kind, info.ranges[last].lower_kind,
											  info.ranges[last].lower);
	}
	else
		return list_make1(obstacle(psprintf("table %s is partitioned, and has neither a default nor a catch-all partition",
											names_display(parent)),
								   "Register the table with sagaz_ha.manage_partitions()."));
	if (get_rel_relkind(conversion->relation) != RELKIND_RELATION)
		return list_make1(obstacle(psprintf("partition %s is no plain table", names_display(conversion->relation)),
								   "Only a plain table can get other bounds."));
	convert_bound(&wish->policy, conversion->relation, conversion->key, info.kind, wish->now, &bound);
	if (last >= 0 && bound.upper <= info.bounds[last].lower)
		return lappend(obstacles, obstacle(psprintf("partition %s begins after every row that is to be expected",
													names_display(conversion->relation)),
										   "Drop the partition if it is empty."));
	conversion->upper = key_literal(info.kind, bound.upper);
	conversion->finish_by = bound.finish_by;
	return bound.obstacles;
}

/* What is in the way, as a list; everything that is known about the table. */
static List *
look(ConvertWish *wish)
{
	Conversion *conversion = &wish->conversion;
	Relation	rel = table_open(conversion->relation, AccessShareLock);
	char		relkind = rel->rd_rel->relkind;
	char		persistence = rel->rd_rel->relpersistence;

	conversion->table_name = pstrdup(RelationGetRelationName(rel));
	conversion->phase = CONVERSION_CHECKING;
	table_close(rel, NoLock);
	if (persistence == RELPERSISTENCE_TEMP)
		return list_make1(obstacle(psprintf("table \"%s\" is temporary", conversion->table_name),
								   "A temporary table is gone before it needs maintenance."));
	if (relkind == RELKIND_PARTITIONED_TABLE)
		return look_at_partitions(wish);
	if (relkind != RELKIND_RELATION)
		return list_make1(obstacle(psprintf("\"%s\" is no plain table", conversion->table_name),
								   "Name a plain table."));
	return look_at_table(wish);
}

/* A table is converted once at a time; a conversion that failed is forgotten. */
static void
require_none(Oid relation, const char *table_name)
{
	Conversion	other;

	if (!conversion_find(relation, &other))
		return;
	if (other.phase == CONVERSION_FAILED)
	{
		conversion_restore_policy(&other);
		conversion_end(other.relation);
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("table \"%s\" is becoming partitioned already", table_name),
			 errhint("View sagaz_ha.conversions shows how far it is; sagaz_ha.cancel_partition_table() takes it back.")));
}

static Oid
make_parent(const Conversion *conversion)
{
	char	   *name = get_rel_name(conversion->relation);
	Oid			schema = get_rel_namespace(conversion->relation);
	SqlSession	session;
	SqlArgs		args = {0};
	char	   *temporary;

	convert_run(convert_building(conversion));
	sql_begin_as_extension(&session);
	sql_arg_text(&args, name);
	(void) sql_execute("SELECT sagaz_ha._conversion_name($1, '_sagaz_ha')", &args);
	temporary = MemoryContextStrdup(session.caller, sql_text(0, 1));
	sql_end(&session);
	return get_relname_relid(temporary, schema);
}

/* Begins a conversion, which the worker goes on with. */
void
convert_begin(ConvertWish *wish)
{
	Conversion *conversion = &wish->conversion;
	Record		record = {{InvalidOid}, ACTION_CONVERT};

	require_none(conversion->relation, get_rel_name(conversion->relation));
	convert_refuse(conversion, look(wish));
	require_none(conversion->relation, conversion->table_name);
	/* the launcher may have yet to find the database: it is told of the row */
	if (shared_state == NULL || !sagaz_enabled ||
		!settings_want_database(get_database_name(MyDatabaseId)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no worker that could convert table \"%s\"", conversion->table_name),
				 errhint("Add sagaz_ha to shared_preload_libraries, or run the statements of sagaz_ha.plan_partition_table() with psql's \\gexec.")));
	if (conversion->kind == CONVERSION_TABLE)
		conversion->parent = wish->policy.parent = make_parent(conversion);
	else if (conversion->kind == CONVERSION_ROWS)
		conversion->phase = CONVERSION_MOVING;
	conversion_begin(conversion, wish->now);
	register_policy(&wish->policy);
	record.subject.parent = conversion->parent;
	record.subject.table_name = names_display_in(get_rel_namespace(conversion->parent), conversion->table_name);
	record.subject.partition = conversion->relation;
	record.subject.partition_name = names_display(conversion->relation);
	record.details = "begins to become partitioned";
	history_add(&record, wish->now);
}

static void
emit_one(ConvertEmit emit, void *arg, const char *phase, const char *sql, const char *meaning)
{
	ConvertStatement statement = {(char *) phase, InvalidOid, NULL, (char *) sql, (char *) meaning};

	emit(&statement, arg);
}

/* manage_partitions() with the same arguments, for a person. */
static char *
manage_statement(const ConvertWish *wish)
{
	static const char *const query =
		"SELECT concat('SELECT sagaz_ha.manage_partitions(', quote_literal($1), ', ', quote_literal($2), ', premake => ', $3,"
		" ', retention => ' || quote_literal($4), ', retention_action => ', quote_literal($5),"
		" ', unfinished_when => ' || quote_literal($6), ', time_zone => ', quote_literal($7),"
		" ', archive_schema => ' || quote_literal(quote_ident($8)), ', tablespace => ' || quote_literal($9),"
		" ', storage_parameters => ' || quote_literal($10),"
		" ', auto_analyze => ', $11::text, ', auto_freeze => ', $12::text,"
		" ', before_drop => ' || quote_literal($13),"
		" ', plain => ' || nullif($14::text, 'false'), ', key_encoding => ' || quote_literal($15),"
		" ', protect => ' || nullif($16::text, 'false'), ')')";
	const Policy *policy = &wish->policy;
	SqlSession	session;
	SqlArgs		args = {0};
	char	   *sql;
	Datum	   *options = (Datum *) palloc(sizeof(Datum) * (list_length(policy->storage_parameters) + 1));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, policy->storage_parameters)
		options[n++] = CStringGetTextDatum((char *) lfirst(cell));
	sql_begin_as_extension(&session);
	sql_arg_text(&args, names_qualified(wish->conversion.kind == CONVERSION_TABLE ?
										wish->conversion.relation : wish->conversion.parent));
	sql_arg(&args, INTERVALOID, IntervalPGetDatum(&policy->interval));
	sql_arg(&args, INT4OID, Int32GetDatum(policy->premake));
	sql_arg_or_null(&args, INTERVALOID, IntervalPGetDatum(policy->retention), policy->retention == NULL);
	sql_arg_text(&args, policy_action_name(policy->action));
	sql_arg_text(&args, policy->unfinished_when);
	sql_arg_text(&args, policy->time_zone);
	sql_arg_text(&args, policy->archive_schema);
	sql_arg_text(&args, policy->tablespace);
	sql_arg_or_null(&args, TEXTARRAYOID,
					PointerGetDatum(construct_array(options, n, TEXTOID, -1, false, TYPALIGN_INT)), n == 0);
	sql_arg(&args, BOOLOID, BoolGetDatum(policy->auto_analyze));
	sql_arg(&args, BOOLOID, BoolGetDatum(policy->auto_freeze));
	sql_arg_text(&args, policy->before_drop);
	sql_arg(&args, BOOLOID, BoolGetDatum(policy->plain));
	sql_arg_text(&args, policy->key_encoding);
	sql_arg(&args, BOOLOID, BoolGetDatum(policy->protect));
	(void) sql_execute(query, &args);
	sql = MemoryContextStrdup(session.caller, sql_text(0, 1));
	sql_end(&session);
	return sql;
}

/* What changes in meaning with any conversion. */
static void
emit_notes(const ConvertWish *wish, ConvertEmit emit, void *arg)
{
	/* with a key that can't be one, there is no bound to tell of */
	if (wish->conversion.kind != CONVERSION_TABLE || wish->conversion.upper == NULL)
		return;
	emit_one(emit, arg, "meaning", NULL, "COPY table TO: use COPY (SELECT ...) TO before PostgreSQL 19");
	emit_one(emit, arg, "meaning", NULL, "logical decoding: an output plugin that knows no partitioned tables sees the partition's name");
	emit_one(emit, arg, "meaning", NULL, psprintf("an UPDATE of %s can move a row to another partition, as DELETE and INSERT",
												  quote_identifier(wish->conversion.key)));
	emit_one(emit, arg, "meaning", NULL, psprintf("the rows of today are in one partition, to %s, which expires as a whole",
												  wish->conversion.upper));
}

/* What is in the way; or else every statement, its lock, and what it means. */
void
convert_plan(ConvertWish *wish, ConvertEmit emit, void *arg)
{
	Conversion *conversion = &wish->conversion;
	List	   *obstacles = look(wish);
	ListCell   *cell;

	foreach(cell, obstacles)
	{
		const ConvertObstacle *one = (const ConvertObstacle *) lfirst(cell);

		emit_one(emit, arg, "obstacle", NULL, psprintf("%s. %s", one->problem, one->hint));
	}
	emit_notes(wish, emit, arg);
	/* statements that would do half of it are no plan */
	if (obstacles != NIL)
		return;
	if (conversion->kind == CONVERSION_TABLE)
		foreach(cell, convert_building(conversion))
			emit((const ConvertStatement *) lfirst(cell), arg);
	if (conversion->kind == CONVERSION_ROWS)
	{
		emit_one(emit, arg, "moving", NULL, "the rows of the default partition are moved, range by range");
		return;
	}
	foreach(cell, convert_steps(conversion))
		emit((const ConvertStatement *) lfirst(cell), arg);
	emit_one(emit, arg, "finishing", manage_statement(wish), NULL);
	emit_one(emit, arg, "finishing", psprintf("SELECT * FROM sagaz_ha.maintain_partitions(%s)",
											  quote_literal_cstr(names_qualified(conversion->kind == CONVERSION_TABLE ?
																				 conversion->relation : conversion->parent))),
			 "makes the later partitions");
}
