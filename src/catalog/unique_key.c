/*
 * unique_key.c
 *		Which columns of which tables are unique across partitions, and how far
 *		that has come.
 *
 * Invariant: a row says what was asked for, and the phase. From the phase
 * 'checking' on, the constraint trigger of this name is the definition, whose
 * columns follow renames.
 */
#include "catalog/unique_key.h"

#include "base/sql.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static const char *const phase_names[] = {
	[UNIQUE_BUILDING] = "building",
	[UNIQUE_CHECKING] = "checking",
	[UNIQUE_IN_FORCE] = "in_force"
};

static UniquePhase
parse_phase(const char *name)
{
	for (int i = 0; i < lengthof(phase_names); i++)
		if (strcmp(name, phase_names[i]) == 0)
			return (UniquePhase) i;
	elog(ERROR, "unknown phase \"%s\" of a unique key", name);
}

static List *
name_list(Datum array)
{
	List	   *result = NIL;
	Datum	   *values;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), NAMEOID, NAMEDATALEN, false,
					  TYPALIGN_CHAR, &values, NULL, &n);
	for (int i = 0; i < n; i++)
		result = lappend(result, pstrdup(NameStr(*DatumGetName(values[i]))));
	return result;
}

static void
add_row(uint64 number, void *arg)
{
	List	  **rows = (List **) arg;
	UniqueKeyRow *row = (UniqueKeyRow *) palloc0(sizeof(UniqueKeyRow));
	Datum		value;
	bool		isnull;

	row->parent = sql_oid(number, 1);
	row->name = sql_text(number, 2);
	row->columns = name_list(sql_value(number, 3, &isnull));
	value = sql_value(number, 4, &isnull);
	if (!isnull)
	{
		row->within = (Interval *) palloc(sizeof(Interval));
		*row->within = *DatumGetIntervalP(value);
	}
	row->skips = strcmp(sql_text(number, 5), "skip") == 0;
	row->phase = parse_phase(sql_text(number, 6));
	*rows = lappend(*rows, row);
}

/* All rows of tables that exist, or one table's; of UniqueKeyRow *. */
List *
unique_key_load(Oid parent)
{
	static const char *const query =
		"SELECT k.parent, k.name, k.columns, k.within, k.on_duplicate, k.phase"
		" FROM sagaz_ha.unique_key AS k"
		" JOIN pg_catalog.pg_class AS c ON c.oid = k.parent"
		" WHERE $1 = 0 OR k.parent = $1"
		" ORDER BY c.relname, c.oid, k.name";
	static SPIPlanPtr plan = NULL;
	List	   *rows = NIL;
	SqlSession	session;
	SqlArgs		args = {0};

	if (sql_is_empty("unique_key"))
		return NIL;
	sql_begin_as_extension(&session);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	sql_each_row(&session, sql_execute_latest(&plan, query, &args), add_row, &rows);
	sql_end(&session);
	return rows;
}

/* Records what was asked for. */
void
unique_key_add(const UniqueKeyRow *row, TimestampTz now)
{
	int			n = list_length(row->columns);
	Datum	   *names = (Datum *) palloc(n * sizeof(Datum));
	SqlSession	session;
	SqlArgs		args = {0};

	for (int i = 0; i < n; i++)
		names[i] = DirectFunctionCall1(namein, CStringGetDatum((char *) list_nth(row->columns, i)));
	sql_begin_as_extension(&session);
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(row->parent));
	sql_arg_name(&args, row->name);
	sql_arg(&args, NAMEARRAYOID,
			PointerGetDatum(construct_array(names, n, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR)));
	sql_arg_or_null(&args, INTERVALOID, row->within ? IntervalPGetDatum(row->within) : (Datum) 0,
					row->within == NULL);
	sql_arg_text(&args, row->skips ? "skip" : "error");
	sql_arg_text(&args, phase_names[row->phase]);
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(now));
	(void) sql_execute("INSERT INTO sagaz_ha.unique_key"
					   " (parent, name, columns, within, on_duplicate, phase, since)"
					   " VALUES ($1, $2, $3, $4, $5, $6, $7)", &args);
	sql_end(&session);
}

/* A step is done. */
void
unique_key_set_phase(Oid parent, const char *name, UniquePhase phase)
{
	SqlSession	session;
	SqlArgs		args = {0};

	sql_begin_as_extension(&session);
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(parent));
	sql_arg_name(&args, name);
	sql_arg_text(&args, phase_names[phase]);
	(void) sql_execute("UPDATE sagaz_ha.unique_key SET phase = $3"
					   " WHERE parent = $1 AND name = $2", &args);
	sql_end(&session);
}

/* Whether a trigger of it is gone, or off, on the table or on a partition. */
bool
unique_key_lacks_triggers(const UniqueKeyRow *row)
{
	SqlSession	session;
	SqlArgs		args = {0};
	bool		found;

	sql_begin_as_extension(&session);
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(row->parent));
	sql_arg_name(&args, row->name);
	found = sql_execute("SELECT FROM sagaz_ha._unique_flaws($1) AS f"
						" WHERE f.name = $2 AND f.kind = 'trigger' LIMIT 1", &args) > 0;
	sql_end(&session);
	return found;
}

/* Forgets one; false if there was none. */
bool
unique_key_remove(Oid parent, const char *name)
{
	SqlSession	session;
	SqlArgs		args = {0};
	bool		found;

	sql_begin_as_extension(&session);
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(parent));
	sql_arg_name(&args, name);
	found = sql_execute("DELETE FROM sagaz_ha.unique_key WHERE parent = $1 AND name = $2",
						&args) > 0;
	sql_end(&session);
	return found;
}
