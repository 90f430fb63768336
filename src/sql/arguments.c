/*
 * arguments.c
 *		Arguments of SQL-callable functions, checked.
 *
 * Invariant: what is returned is not null, and names an object that exists.
 */
#include "sql/arguments.h"

#include "base/identity.h"
#include "catalog/hook.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* Fails when an argument is null. */
void
argument_require(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name),
				 errhint("Leave the argument out to get its default, if it has one.")));
}

/* A text, or NULL. */
char *
argument_text(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

/*
 * The table that the first argument of a changing function names: the server is a
 * primary, the table exists, and the caller owns it.
 */
Oid
argument_table(FunctionCallInfo fcinfo, const char *function)
{
	Oid			relid;

	identity_require_primary(function);
	argument_require(fcinfo, 0, "parent");
	relid = PG_GETARG_OID(0);
	if (get_rel_name(relid) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table with OID %u does not exist", relid),
				 errhint("Name the table, such as 'public.saga_outbox'.")));
	identity_require_owner(relid);
	return relid;
}

/* The partition that the first argument names; the caller owns it. */
Oid
argument_partition(FunctionCallInfo fcinfo)
{
	Oid			relid;

	argument_require(fcinfo, 0, "partition");
	relid = PG_GETARG_OID(0);
	if (get_rel_name(relid) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table with OID %u does not exist", relid),
				 errhint("Name the partition, such as 'public.saga_outbox_y2025m01d15'.")));
	identity_require_owner(relid);
	return relid;
}

/* A text array as a list of C strings; null is NIL. */
static List *
argument_text_list(FunctionCallInfo fcinfo, int argument)
{
	Datum	   *values;
	bool	   *nulls;
	int			n;
	List	   *result = NIL;

	if (PG_ARGISNULL(argument))
		return NIL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), TEXTOID, -1, false,
					  TYPALIGN_INT, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("storage_parameters must not contain nulls"),
					 errhint("Use \"name=value\", such as 'fillfactor=70'.")));
		result = lappend(result, TextDatumGetCString(values[i]));
	}
	return result;
}

/* A schema's name, or NULL. A regnamespace may be any number. */
static char *
argument_schema(FunctionCallInfo fcinfo, int argument)
{
	char	   *name;

	if (PG_ARGISNULL(argument))
		return NULL;
	name = get_namespace_name(PG_GETARG_OID(argument));
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_SCHEMA),
				 errmsg("schema with OID %u does not exist", PG_GETARG_OID(argument)),
				 errhint("Name the schema, such as 'archive'.")));
	return name;
}

/* A time that is not infinite. */
TimestampTz
argument_finite_time(FunctionCallInfo fcinfo, int argument, const char *message, const char *hint)
{
	TimestampTz time;

	argument_require(fcinfo, argument, "at");
	time = PG_GETARG_TIMESTAMPTZ(argument);
	if (TIMESTAMP_NOT_FINITE(time))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("%s", message),
				 errhint("%s", hint)));
	return time;
}

/* A table's policy; an error if it has none. */
Policy *
argument_require_policy(Oid relid)
{
	List	   *policies = policy_load(relid);

	if (policies == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" is not managed", get_rel_name(relid)),
				 errhint("Register it with sagaz_ha.manage_partitions().")));
	return (Policy *) linitial(policies);
}

static RetentionAction
retention_action(FunctionCallInfo fcinfo, int argument)
{
	char	   *name = argument_text(fcinfo, argument);
	RetentionAction action;

	if (!policy_parse_action(name, &action))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid retention action \"%s\"", name),
				 errhint("Use 'drop', 'detach' or 'archive'.")));
	return action;
}

/*
 * A policy without its table: partition_interval, premake, retention,
 * retention_action, unfinished_when, time_zone, archive_schema, tablespace,
 * storage_parameters, auto_analyze, auto_freeze, before_drop, plain, key_encoding
 * and protect, from an argument on.
 */
void
argument_policy(FunctionCallInfo fcinfo, int first, Policy *policy)
{
	argument_require(fcinfo, first, "partition_interval");
	argument_require(fcinfo, first + 1, "premake");
	argument_require(fcinfo, first + 3, "retention_action");
	argument_require(fcinfo, first + 5, "time_zone");
	argument_require(fcinfo, first + 9, "auto_analyze");
	argument_require(fcinfo, first + 10, "auto_freeze");

	policy->interval = *PG_GETARG_INTERVAL_P(first);
	policy->premake = PG_GETARG_INT32(first + 1);
	if (!PG_ARGISNULL(first + 2))
		policy->retention = PG_GETARG_INTERVAL_P(first + 2);
	policy->unfinished_when = argument_text(fcinfo, first + 4);
	policy->time_zone = argument_text(fcinfo, first + 5);
	policy->tz = policy_time_zone(policy->time_zone);
	policy->archive_schema = argument_schema(fcinfo, first + 6);
	if (!PG_ARGISNULL(first + 7))
		policy->tablespace = NameStr(*PG_GETARG_NAME(first + 7));
	policy->storage_parameters = argument_text_list(fcinfo, first + 8);
	policy->auto_analyze = PG_GETARG_BOOL(first + 9);
	policy->auto_freeze = PG_GETARG_BOOL(first + 10);
	if (!PG_ARGISNULL(first + 11))
		policy->before_drop = hook_name(PG_GETARG_OID(first + 11));
	argument_require(fcinfo, first + 12, "plain");
	policy->plain = PG_GETARG_BOOL(first + 12);
	policy->key_encoding = argument_text(fcinfo, first + 13);
	argument_require(fcinfo, first + 14, "protect");
	policy->protect = PG_GETARG_BOOL(first + 14);
	policy->action = retention_action(fcinfo, first + 3);
}
