/*
 * unique.c
 *		Unique keys across partitions: adding and dropping them, and the functions
 *		of their triggers.
 *
 * Invariant: checks arguments and shapes rows; the work is done below.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/identity.h"
#include "base/settings.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "ddl/unique_look.h"
#include "ddl/unique_trigger.h"
#include "pass/unique.h"
#include "sql/arguments.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

SAGAZ_FUNCTION(sagaz_add_unique);
SAGAZ_FUNCTION(sagaz_keep_unique_columns);
SAGAZ_FUNCTION(sagaz_drop_unique);
SAGAZ_FUNCTION(sagaz_check_unique);
SAGAZ_FUNCTION(sagaz_skip_duplicate);
SAGAZ_FUNCTION(sagaz_keep_unique);

/* A name array as a list of C strings. */
static List *
columns_argument(FunctionCallInfo fcinfo, int argument)
{
	Datum	   *values;
	bool	   *nulls;
	int			n;
	List	   *result = NIL;

	argument_require(fcinfo, argument, "columns");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), NAMEOID, NAMEDATALEN, false,
					  TYPALIGN_CHAR, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("columns must not contain nulls"),
					 errhint("Name the columns, such as ARRAY['event_id'].")));
		result = lappend(result, pstrdup(NameStr(*DatumGetName(values[i]))));
	}
	return result;
}

/* Whether duplicates are dropped silently. */
static bool
on_duplicate_argument(FunctionCallInfo fcinfo, int argument)
{
	char	   *value;

	argument_require(fcinfo, argument, "on_duplicate");
	value = argument_text(fcinfo, argument);
	if (strcmp(value, "error") != 0 && strcmp(value, "skip") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid on_duplicate \"%s\"", value),
				 errhint("Use 'error' or 'skip'.")));
	return strcmp(value, "skip") == 0;
}

static Interval *
within_argument(FunctionCallInfo fcinfo, int argument)
{
	Interval   *within = PG_ARGISNULL(argument) ? NULL : PG_GETARG_INTERVAL_P(argument);

	if (within != NULL &&
		(within->month < 0 || within->day < 0 || within->time < 0 ||
		 (within->month == 0 && within->day == 0 && within->time == 0)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("within must be positive"),
				 errhint("Leave it out to look at all partitions.")));
	return within;
}

/* add_unique(parent, columns, within, on_duplicate): the constraint's name. */
Datum
sagaz_add_unique(PG_FUNCTION_ARGS)
{
	UniqueKeyRow row = {argument_table(fcinfo, "add_unique")};
	char	   *name;

	row.columns = columns_argument(fcinfo, 1);
	row.within = within_argument(fcinfo, 2);
	row.skips = on_duplicate_argument(fcinfo, 3);
	name = unique_add(&row, settings_now());
	PG_RETURN_DATUM(DirectFunctionCall1(namein, CStringGetDatum(name)));
}

/* _keep_unique(parent, columns): the constraint's name. */
Datum
sagaz_keep_unique_columns(PG_FUNCTION_ARGS)
{
	UniqueKeyRow row = {argument_table(fcinfo, "_keep_unique")};

	row.columns = columns_argument(fcinfo, 1);
	PG_RETURN_DATUM(DirectFunctionCall1(namein,
										CStringGetDatum(unique_keep(&row, settings_now()))));
}

/* drop_unique(parent, columns): false if there is none. */
Datum
sagaz_drop_unique(PG_FUNCTION_ARGS)
{
	Oid			table = argument_table(fcinfo, "drop_unique");

	PG_RETURN_BOOL(unique_drop(table, columns_argument(fcinfo, 1)));
}

/* Trigger: an error if another partition has an equal row. */
Datum
sagaz_check_unique(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) || TRIGGER_FIRED_BY_DELETE(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("check_unique() is called by its own triggers only"),
				 errhint("sagaz_ha.add_unique() makes them.")));
	unique_trigger_check(data, settings_now());
	return PointerGetDatum(NULL);
}

/* Trigger: drops a row that there is already. */
Datum
sagaz_skip_duplicate(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("skip_duplicate() is called by its own triggers only"),
				 errhint("sagaz_ha.add_unique() makes them.")));
	if (!unique_trigger_keeps(data, settings_now()))
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(data->tg_event) ?
						   data->tg_newtuple : data->tg_trigtuple);
}

/* Event trigger on ddl_command_end: a partition that has come. */
Datum
sagaz_keep_unique(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("keep_unique() is called by its event trigger only"),
				 errhint("sagaz_ha.add_unique() makes a unique key.")));
	unique_look_after_ddl(((EventTriggerData *) fcinfo->context)->parsetree, settings_now());
	PG_RETURN_NULL();
}
