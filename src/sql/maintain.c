/*
 * maintain.c
 *		A pass by hand, its preview, and a partition made by hand.
 *
 * Invariant: checks arguments and shapes rows; the work is done below. The clock
 * is asked here, and nowhere below.
 */
#include "postgres.h"

#include "access/table.h"
#include "base/attempt.h"
#include "base/compat.h"
#include "base/identity.h"
#include "base/rows.h"
#include "base/settings.h"
#include "catalog/asleep.h"
#include "catalog/drift.h"
#include "catalog/dropped.h"
#include "catalog/names.h"
#include "catalog/parent.h"
#include "funcapi.h"
#include "pass/create.h"
#include "pass/preview.h"
#include "pass/repair.h"
#include "pass/report.h"
#include "pass/run.h"
#include "pass/saga_tables.h"
#include "sql/arguments.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/timestamp.h"

SAGAZ_FUNCTION(sagaz_clock);
SAGAZ_FUNCTION(sagaz_maintain_partitions);
SAGAZ_FUNCTION(sagaz_maintain_all_partitions);
SAGAZ_FUNCTION(sagaz_repair_partitions);
SAGAZ_FUNCTION(sagaz_expression);
SAGAZ_FUNCTION(sagaz_off_grid);
SAGAZ_FUNCTION(sagaz_plan_partition_maintenance);
SAGAZ_FUNCTION(sagaz_plain_saga_tables);
SAGAZ_FUNCTION(sagaz_create_partition);
SAGAZ_FUNCTION(sagaz_create_saga_executions_partition);
SAGAZ_FUNCTION(sagaz_create_saga_outbox_partition);
SAGAZ_FUNCTION(sagaz_create_saga_audit_log_partition);
SAGAZ_FUNCTION(sagaz_cleanup_consumer_inbox);

/* clock(): the time that maintenance takes for now. */
Datum
sagaz_clock(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(settings_now());
}

/* (action, table_name, partition_name, details) */
static void
add_record(const Record *record, void *arg)
{
	Datum		values[4];
	bool		nulls[4];

	values[0] = rows_text(history_action_name(record->action), &nulls[0]);
	values[1] = rows_text(record->subject.table_name, &nulls[1]);
	values[2] = rows_text(record->subject.partition_name, &nulls[2]);
	values[3] = rows_text(record->details, &nulls[3]);
	rows_add((FunctionCallInfo) arg, values, nulls);
}

/* maintain_partitions(parent): a pass over one table. */
Datum
sagaz_maintain_partitions(PG_FUNCTION_ARGS)
{
	Oid			relid = argument_table(fcinfo, "maintain_partitions");
	Pass		pass;

	(void) argument_require_policy(relid);
	InitMaterializedSRF(fcinfo, 0);
	asleep_end(relid);
	run_init_foreground(&pass, settings_now(), add_record, fcinfo);
	/* it takes a while, so before there are locks that writers wait for */
	repair_look_by_hand(pass.now, relid);
	run_pass(&pass, relid);
	return (Datum) 0;
}

/* repair_partitions(parent): what differs from the table is mended. */
Datum
sagaz_repair_partitions(PG_FUNCTION_ARGS)
{
	Oid			relid = argument_table(fcinfo, "repair_partitions");
	Policy	   *policy = argument_require_policy(relid);

	InitMaterializedSRF(fcinfo, 0);
	repair_by_hand(policy, settings_now(), add_record, fcinfo);
	return (Datum) 0;
}

/* _expression(tree, relation, alias): as pg_get_expr(), but with another name. */
Datum
sagaz_expression(PG_FUNCTION_ARGS)
{
	char	   *written = drift_expression(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_OID(1),
										   NameStr(*PG_GETARG_NAME(2)));

	if (written == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(written));
}

static void
add_off_grid(FunctionCallInfo fcinfo, const Policy *policy)
{
	ParentInfo	info;
	PlanBound	odd;
	KeyRange	range;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (!repair_way_back(policy, &info, &odd))
		return;
	values[0] = ObjectIdGetDatum(policy->parent);
	values[1] = TimestampTzGetDatum(policy_instant(policy, info.kind, odd.lower));
	parent_range(&info, &odd, &range);
	values[2] = CStringGetTextDatum(key_for_values_of_range(info.kind, &range));
	rows_add(fcinfo, values, nulls);
}

/*
 * _off_grid(parents): from when on partitions begin inside of a day, and the way back.
 * Of several tables at once, since loading a policy takes longer than looking.
 */
Datum
sagaz_off_grid(PG_FUNCTION_ARGS)
{
	ArrayType  *parents = PG_GETARG_ARRAYTYPE_P(0);
	const Oid  *asked = (const Oid *) ARR_DATA_PTR(parents);
	int			nasked = ArrayGetNItems(ARR_NDIM(parents), ARR_DIMS(parents));
	List	   *wanted = NIL;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	if (ARR_HASNULL(parents))
		nasked = 0;
	for (int i = 0; i < nasked; i++)
		wanted = lappend_oid(wanted, asked[i]);
	foreach(cell, policy_load_used())
	{
		Policy	   *policy = (Policy *) lfirst(cell);

		if (list_member_oid(wanted, policy->parent))
			add_off_grid(fcinfo, policy);
	}
	return (Datum) 0;
}

static void
saga_table_step(void *arg)
{
	int			index = *(int *) arg;
	Oid			relid;

	if (saga_table_plain_details(index, &relid) == NULL)
		saga_table_create(index);
}

/* Makes the specification's tables; one that can't be made is a row. */
static void
create_saga_tables(Pass *pass)
{
	for (int i = 0; i < saga_tables_count(); i++)
	{
		ErrorData  *error = attempt_in_subtransaction(saga_table_step, &i);
		Subject		subject = {InvalidOid, saga_table_name(i)};

		if (error != NULL)
			report_failure(pass, &subject, error);
	}
}

/* Tells of plain tables in the place of the specification's: in every pass. */
static void
tell_plain_tables(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < saga_tables_count(); i++)
	{
		Record		record = {{InvalidOid, NULL}, ACTION_KEEP};

		record.details = saga_table_plain_details(i, &record.subject.parent);
		if (record.details == NULL)
			continue;
		record.subject.table_name = names_display(record.subject.parent);
		add_record(&record, fcinfo);
	}
}

/* maintain_all_partitions(): a pass over all tables. */
Datum
sagaz_maintain_all_partitions(PG_FUNCTION_ARGS)
{
	Pass		pass;

	identity_require_primary("maintain_all_partitions");
	InitMaterializedSRF(fcinfo, 0);
	dropped_forget_orphans();
	run_init_foreground(&pass, settings_now(), add_record, fcinfo);
	/* it takes a while, so before there are locks that writers wait for */
	repair_look_if_changed(pass.now);
	if (policy_load(InvalidOid) == NIL)
	{
		run_load_problems(&pass);
		create_saga_tables(&pass);
	}
	run_pass(&pass, InvalidOid);
	tell_plain_tables(fcinfo);
	return (Datum) 0;
}

/* _plain_saga_tables(): (table_name, details) */
Datum
sagaz_plain_saga_tables(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < saga_tables_count(); i++)
	{
		Oid			relid;
		char	   *details = saga_table_plain_details(i, &relid);
		Datum		values[2];
		bool		nulls[2] = {0};

		if (details == NULL)
			continue;
		values[0] = rows_text(names_display(relid), &nulls[0]);
		values[1] = CStringGetTextDatum(details);
		rows_add(fcinfo, values, nulls);
	}
	return (Datum) 0;
}

/* plan_partition_maintenance(at): what a pass would do. */
Datum
sagaz_plan_partition_maintenance(PG_FUNCTION_ARGS)
{
	TimestampTz at = argument_finite_time(fcinfo, 0, "cannot plan maintenance at infinity",
										  "Use a finite time.");

	InitMaterializedSRF(fcinfo, 0);
	preview(at, add_record, fcinfo);
	return (Datum) 0;
}

/* Makes the partition for a time of the key; its name. */
static Datum
create_partition_for(Policy *policy, const ParentInfo *info, CalTime at)
{
	return CStringGetTextDatum(create_at(policy, info, at, settings_now()));
}

/* create_partition(parent, at) */
Datum
sagaz_create_partition(PG_FUNCTION_ARGS)
{
	Oid			relid = argument_table(fcinfo, "create_partition");
	TimestampTz at = argument_finite_time(fcinfo, 1, "cannot create a partition at infinity",
										  "Use a finite date.");
	Policy	   *policy = argument_require_policy(relid);
	ParentInfo	info;

	parent_require_by_oid(relid, AccessShareLock, &info);
	return create_partition_for(policy, &info, policy_key_time(policy, info.kind, at));
}

/* create_…_partition(date): of one of the specification's tables, for a day of its zone. */
static Datum
create_saga_partition(FunctionCallInfo fcinfo, const char *function, const char *table)
{
	Policy	   *policy;
	ParentInfo	info;
	DateADT		date;
	CalTime		local;
	Oid			relid;

	identity_require_primary(function);
	argument_require(fcinfo, 0, "date");
	date = PG_GETARG_DATEADT(0);
	if (DATE_NOT_FINITE(date))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("cannot create a partition at infinity"),
				 errhint("Use a finite date.")));
	if (date >= CAL_END / CAL_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("date out of range for a partition of \"%s\"", table),
				 errhint("Use a date that a timestamp can hold.")));
	relid = saga_table_require(table);
	identity_require_owner(relid);
	policy = argument_require_policy(relid);
	parent_require_by_oid(relid, AccessShareLock, &info);
	local = date * CAL_DAY;
	return create_partition_for(policy, &info,
								info.kind->is_instant ? policy_instant_of_local(policy, local) : local);
}

/* create_saga_executions_partition(date) */
Datum
sagaz_create_saga_executions_partition(PG_FUNCTION_ARGS)
{
	return create_saga_partition(fcinfo, "create_saga_executions_partition", "saga_executions");
}

/* create_saga_outbox_partition(date) */
Datum
sagaz_create_saga_outbox_partition(PG_FUNCTION_ARGS)
{
	return create_saga_partition(fcinfo, "create_saga_outbox_partition", "saga_outbox");
}

/* create_saga_audit_log_partition(date) */
Datum
sagaz_create_saga_audit_log_partition(PG_FUNCTION_ARGS)
{
	return create_saga_partition(fcinfo, "create_saga_audit_log_partition", "saga_audit_log");
}

/* cleanup_consumer_inbox(retention_days): the number of rows deleted. */
Datum
sagaz_cleanup_consumer_inbox(PG_FUNCTION_ARGS)
{
	identity_require_primary("cleanup_consumer_inbox");
	argument_require(fcinfo, 0, "retention_days");
	if (PG_GETARG_INT32(0) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("retention_days must not be negative, but is %d", PG_GETARG_INT32(0)),
				 errhint("Use 0 to delete every entry, or 90 to keep 90 days.")));
	PG_RETURN_INT64(saga_table_clean_inbox(PG_GETARG_INT32(0), settings_now()));
}
