/*
 * owner_code.c
 *		How long code of a table's owner may run in what is done for the table.
 *
 * Invariant: the longer, the larger the table, because building an index or ANALYZE
 * takes long by rights; but a function that never returns ends some time. What has
 * no expression has no limit.
 */
#include "ddl/owner_code.h"

#include "base/settings.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "catalog/size.h"
#include "storage/lockdefs.h"
#include "utils/array.h"

/* So many times sagaz_ha.condition_timeout, for what a build waits for, and once for each PORTION of bytes. */
#define ALLOWANCE	10
#define PORTION		(100 * INT64CONST(1024) * 1024)

static int64
size_of_all(List *relids)
{
	SizeReader *reader = size_begin(list_length(relids));
	int64		bytes = 0;
	ListCell   *cell;

	foreach(cell, relids)
		bytes += Max(size_of_table(reader, lfirst_oid(cell)), 0);
	size_end(reader);
	return bytes;
}

static bool
has_expressions(List *relids)
{
	static const char *const query =
		"SELECT FROM pg_index AS i WHERE i.indrelid = ANY ($1)"
		"   AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)"
		" UNION ALL "
		"SELECT FROM pg_statistic_ext AS s WHERE s.stxrelid = ANY ($1) AND s.stxexprs IS NOT NULL"
		" LIMIT 1";
	Datum	   *values = (Datum *) palloc(list_length(relids) * sizeof(Datum));
	int			n = 0;
	SqlSession	session;
	SqlArgs		args = {0};
	ListCell   *cell;
	bool		found;

	foreach(cell, relids)
		values[n++] = ObjectIdGetDatum(lfirst_oid(cell));
	sql_arg(&args, OIDARRAYOID,
			PointerGetDatum(construct_array(values, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT)));
	sql_begin_as_extension(&session);
	found = sql_execute(query, &args) > 0;
	sql_end(&session);
	return found;
}

/* The limit for what evaluates the expressions of a table's indexes and statistics; false: none. */
bool
owner_code_limit(Oid table, TimeLimit *limit)
{
	List	   *relids = find_all_inheritors(table, NoLock, NULL);
	int64		portions;

	if (sagaz_condition_timeout == 0 || !has_expressions(relids))
		return false;
	portions = ALLOWANCE + size_of_all(relids) / PORTION;
	memset(limit, 0, sizeof(*limit));
	limit->what = psprintf("evaluating expressions of table %s", names_display(table));
	limit->setting = "sagaz_ha.condition_timeout for its size";
	limit->milliseconds = (int) Min(portions * sagaz_condition_timeout, INT_MAX);
	limit->subject = table;
	return true;
}
