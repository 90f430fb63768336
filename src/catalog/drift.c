/*
 * drift.c
 *		In what partitions differ from their table.
 *
 * Invariant: reads the catalogs and changes nothing. The comparison is one
 * statement over all partitions, _drift() in sql/drift.sql. What a partition has
 * beyond its table (an index, a constraint, a trigger) is no difference.
 */
#include "catalog/drift.h"

#include "base/sql.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

static void
add_drift(uint64 row, void *arg)
{
	List	  **drifts = (List **) arg;
	Drift	   *drift = (Drift *) palloc(sizeof(Drift));

	drift->partition = sql_oid(row, 1);
	drift->kind = sql_text(row, 2);
	drift->details = sql_text(row, 3);
	drift->statement = sql_text(row, 4);
	drift->root = sql_oid(row, 5);
	*drifts = lappend(*drifts, drift);
}

static List *
find(Oid parent, const char *query, SqlEachRow each)
{
	SqlSession	session;
	SqlArgs		args = {0};
	List	   *found = NIL;

	sql_begin_as_extension(&session);
	sql_arg_or_null(&args, REGCLASSOID, ObjectIdGetDatum(parent), !OidIsValid(parent));
	sql_each_row(&session, sql_execute_latest(NULL, query, &args), each, &found);
	sql_end(&session);
	return found;
}

/*
 * How many rows of what a comparison reads have been changed so far: exact for this
 * session's own changes, a few seconds late for those of others. The same number
 * twice: nothing was. -1: there are no statistics.
 */
int64
drift_changes(void)
{
	SqlSession	session;
	int64		changes;
	bool		isnull;

	sql_begin_as_extension(&session);
	(void) sql_execute("SELECT sagaz_ha._catalog_changes()", NULL);
	changes = DatumGetInt64(sql_value(0, 1, &isnull));
	sql_end(&session);
	return isnull ? -1 : changes;
}

/* The partitions that differ from their table, or from theirs, with all that differs. */
List *
drift_find(Oid parent)
{
	return find(parent,
				"SELECT d.partition, NULL, string_agg(d.details, '; ' ORDER BY d.kind, d.details), NULL, d.root"
				"  FROM sagaz_ha._drift($1) AS d GROUP BY d.partition, d.root ORDER BY d.partition", add_drift);
}

/* All that differs but indexes, in the order in which it is to be mended: the owner first. */
List *
drift_repairs(Oid parent)
{
	return find(parent,
				"SELECT d.partition, d.kind, string_agg(d.details, '; ' ORDER BY d.details), d.statement, d.root"
				"  FROM sagaz_ha._drift($1) AS d WHERE d.kind <> 'index'"
				" GROUP BY d.partition, d.kind, d.statement, d.root"
				" ORDER BY d.partition, d.kind <> 'owner', d.kind", add_drift);
}

static void
add_index(uint64 row, void *arg)
{
	List	  **indexes = (List **) arg;
	DriftIndex *index = (DriftIndex *) palloc0(sizeof(DriftIndex));
	bool		isnull;
	Datum		value;

	index->partition = sql_oid(row, 1);
	index->relkind = DatumGetChar(sql_value(row, 2, &isnull));
	index->owner = sql_oid(row, 3);
	index->bytes = DatumGetInt64(sql_value(row, 4, &isnull));
	index->table = sql_oid(row, 5);
	index->table_owner = sql_oid(row, 6);
	index->table_index = sql_oid(row, 7);
	index->is_unique = DatumGetBool(sql_value(row, 8, &isnull));
	index->tail = sql_text(row, 9);
	value = sql_value(row, 10, &isnull);
	index->contype = isnull ? '\0' : DatumGetChar(value);
	index->constraint_definition = sql_text(row, 11);
	index->deferrable = sql_text(row, 12);
	index->attached = sql_oid(row, 13);
	index->found = sql_oid(row, 14);
	value = sql_value(row, 15, &isnull);
	index->valid = !isnull && DatumGetBool(value);
	value = sql_value(row, 16, &isnull);
	index->found_constraint = !isnull && DatumGetBool(value);
	*indexes = lappend(*indexes, index);
}

/* The indexes that partitions lack, or that aren't valid. */
List *
drift_indexes(Oid parent)
{
	return find(parent,
				"SELECT d.partition, d.relkind, d.partition_owner, d.bytes::bigint, d.tab, d.tab_owner, d.tab_index, d.is_unique,"
				"       d.tail, d.contype, d.constraint_definition, d.deferral, d.attached, d.found,"
				"       d.found_valid, d.found_constraint"
				"  FROM sagaz_ha._drift_indexes($1) AS d", add_index);
}

/* A stored expression about a relation, under another name of it; NULL: it is gone. */
char *
drift_expression(char *tree, Oid relation, const char *alias)
{
	if (get_rel_name(relation) == NULL)
		return NULL;
	return deparse_expression((Node *) stringToNode(tree),
							  deparse_context_for(alias, relation), false, false);
}
