/*
 * conversion.c
 *		A table becomes partitioned in place: asking for it, its plan, and back.
 *
 * Invariant: checks arguments and shapes rows; the work is done below.
 */
#include "postgres.h"

#include "access/table.h"
#include "base/compat.h"
#include "base/identity.h"
#include "base/rows.h"
#include "base/settings.h"
#include "ddl/convert.h"
#include "ddl/convert_clone.h"
#include "funcapi.h"
#include "pass/convert_begin.h"
#include "pass/convert_end.h"
#include "sql/arguments.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

SAGAZ_FUNCTION(sagaz_partition_table);
SAGAZ_FUNCTION(sagaz_plan_partition_table);
SAGAZ_FUNCTION(sagaz_cancel_partition_table);
SAGAZ_FUNCTION(sagaz_unpartition_table);
SAGAZ_FUNCTION(sagaz_clone_index);
SAGAZ_FUNCTION(sagaz_replace_query);

/* The arguments that partition_table() and its plan have in common. */
static void
read_wish(FunctionCallInfo fcinfo, const char *function, ConvertWish *wish)
{
	memset(wish, 0, sizeof(*wish));
	wish->conversion.relation = argument_table(fcinfo, function);
	argument_require(fcinfo, 1, "key");
	wish->conversion.key = NameStr(*PG_GETARG_NAME(1));
	argument_policy(fcinfo, 2, &wish->policy);
	argument_require(fcinfo, 17, "weaken_unique");
	argument_require(fcinfo, 18, "publish_via_partition_root");
	wish->conversion.weaken_unique = PG_GETARG_BOOL(17);
	wish->conversion.publish_via_partition_root = PG_GETARG_BOOL(18);
	wish->now = settings_now();
}

/* partition_table(parent, key, …): the worker does it. */
Datum
sagaz_partition_table(PG_FUNCTION_ARGS)
{
	ConvertWish wish;

	read_wish(fcinfo, "partition_table", &wish);
	convert_begin(&wish);
	PG_RETURN_VOID();
}

/* (step, lock, statement, meaning) */
static void
add_statement(const ConvertStatement *statement, void *arg)
{
	Datum		values[4];
	bool		nulls[4];

	values[0] = rows_text(statement->phase, &nulls[0]);
	values[1] = rows_text(statement->lock, &nulls[1]);
	values[2] = rows_text(statement->sql, &nulls[2]);
	values[3] = rows_text(statement->meaning, &nulls[3]);
	rows_add((FunctionCallInfo) arg, values, nulls);
}

/* plan_partition_table(parent, key, …): nothing is done. */
Datum
sagaz_plan_partition_table(PG_FUNCTION_ARGS)
{
	ConvertWish wish;

	read_wish(fcinfo, "plan_partition_table", &wish);
	InitMaterializedSRF(fcinfo, 0);
	convert_plan(&wish, add_statement, fcinfo);
	return (Datum) 0;
}

/* cancel_partition_table(parent): before the last step, everything becomes as it was. */
Datum
sagaz_cancel_partition_table(PG_FUNCTION_ARGS)
{
	convert_cancel(argument_table(fcinfo, "cancel_partition_table"), settings_now());
	PG_RETURN_VOID();
}

/* unpartition_table(parent): a plain table again. */
Datum
sagaz_unpartition_table(PG_FUNCTION_ARGS)
{
	convert_back(argument_table(fcinfo, "unpartition_table"), settings_now());
	PG_RETURN_VOID();
}

/* _clone_index(index, target, name) */
Datum
sagaz_clone_index(PG_FUNCTION_ARGS)
{
	identity_require_primary("_clone_index");
	for (int i = 0; i < 2; i++)
		if (get_rel_name(PG_GETARG_OID(i)) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("relation with OID %u does not exist", PG_GETARG_OID(i)),
					 errhint("Name an index, and a table.")));
	convert_clone_index(PG_GETARG_OID(0), PG_GETARG_OID(1), NameStr(*PG_GETARG_NAME(2)));
	PG_RETURN_VOID();
}

/* _replace_query(view, query): of a materialized view. */
Datum
sagaz_replace_query(PG_FUNCTION_ARGS)
{
	identity_require_primary("_replace_query");
	if (get_rel_name(PG_GETARG_OID(0)) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("materialized view with OID %u does not exist", PG_GETARG_OID(0)),
				 errhint("Name the materialized view.")));
	convert_replace_query(PG_GETARG_OID(0), text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}
