/*
 * api.c
 *		SQL-callable functions: they check arguments and shape rows.
 */
#include "postgres.h"

#include "base/compat.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "base/identity.h"
#include "pass/maintain.h"
#include "ddl/execute.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "shmem/progress.h"
#include "ddl/reattach.h"
#include "base/rows.h"
#include "base/restored.h"
#include "sql/saga_tables.h"
#include "base/settings.h"
#include "shmem/shared.h"
#include "sql/coverage.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

SAGAZ_FUNCTION(sagaz_clock);
SAGAZ_FUNCTION(sagaz_create_saga_tables);
SAGAZ_FUNCTION(sagaz_manage_partitions);
SAGAZ_FUNCTION(sagaz_stop_managing_partitions);
SAGAZ_FUNCTION(sagaz_resume_drops);
SAGAZ_FUNCTION(sagaz_restored_at);
SAGAZ_FUNCTION(sagaz_reattach_partition);
SAGAZ_FUNCTION(sagaz_maintain_partitions);
SAGAZ_FUNCTION(sagaz_maintain_all_partitions);
SAGAZ_FUNCTION(sagaz_plan_partition_maintenance);
SAGAZ_FUNCTION(sagaz_create_partition);
SAGAZ_FUNCTION(sagaz_create_saga_partition);
SAGAZ_FUNCTION(sagaz_cleanup_consumer_inbox);
SAGAZ_FUNCTION(sagaz_partitions);
SAGAZ_FUNCTION(sagaz_coverage);
SAGAZ_FUNCTION(sagaz_forget_dropped_tables);
SAGAZ_FUNCTION(sagaz_policy_changed);
SAGAZ_FUNCTION(sagaz_maintenance_status);

#define MAINTENANCE_STATUS_COLS	16

static void
require_not_null(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name),
				 errhint("Leave the argument out to get its default, if it has one.")));
}

/* The table that the first argument names; it must exist. */
static Oid
table_argument(FunctionCallInfo fcinfo)
{
	Oid			relid;

	require_not_null(fcinfo, 0, "parent");
	relid = PG_GETARG_OID(0);
	if (get_rel_name(relid) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table with OID %u does not exist", relid),
				 errhint("Name the table, such as 'public.saga_outbox'.")));
	return relid;
}

static Policy *
require_policy(Oid relid)
{
	List	   *policies = policy_load(relid);

	if (policies == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" is not managed", get_rel_name(relid)),
				 errhint("Register it with sagaz_ha.manage_partitions().")));
	return (Policy *) linitial(policies);
}

static Datum
text_or_null(const char *value, bool *isnull)
{
	*isnull = value == NULL;
	return value ? CStringGetTextDatum(value) : (Datum) 0;
}

/* The time that maintenance takes for now. */
Datum
sagaz_clock(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(settings_now());
}

Datum
sagaz_create_saga_tables(PG_FUNCTION_ARGS)
{
	identity_require_primary("create_saga_tables");
	for (int i = 0; i < saga_tables_count(); i++)
		saga_table_create(i);
	PG_RETURN_VOID();
}

static List *
text_array_argument(FunctionCallInfo fcinfo, int argument)
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

/* A regnamespace may be any number. */
static char *
schema_argument(Oid schema)
{
	char	   *name = get_namespace_name(schema);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_SCHEMA),
				 errmsg("schema with OID %u does not exist", schema),
				 errhint("Name the schema, such as 'archive'.")));
	return name;
}

/*
 * manage_partitions(parent, partition_interval, premake, retention,
 * retention_action, unfinished_when, time_zone, archive_schema, tablespace,
 * storage_parameters, auto_analyze, auto_freeze)
 */
Datum
sagaz_manage_partitions(PG_FUNCTION_ARGS)
{
	Policy		policy = {0};

	identity_require_primary("manage_partitions");
	policy.parent = table_argument(fcinfo);
	identity_require_owner(policy.parent);
	require_not_null(fcinfo, 1, "partition_interval");
	require_not_null(fcinfo, 2, "premake");
	require_not_null(fcinfo, 4, "retention_action");
	require_not_null(fcinfo, 6, "time_zone");
	require_not_null(fcinfo, 10, "auto_analyze");
	require_not_null(fcinfo, 11, "auto_freeze");

	policy.interval = *PG_GETARG_INTERVAL_P(1);
	policy.premake = PG_GETARG_INT32(2);
	if (!PG_ARGISNULL(3))
		policy.retention = PG_GETARG_INTERVAL_P(3);
	policy.retention_action = text_to_cstring(PG_GETARG_TEXT_PP(4));
	if (!PG_ARGISNULL(5))
		policy.unfinished_when = text_to_cstring(PG_GETARG_TEXT_PP(5));
	policy.time_zone = text_to_cstring(PG_GETARG_TEXT_PP(6));
	policy.tz = policy_time_zone(policy.time_zone);
	if (!PG_ARGISNULL(7))
		policy.archive_schema = schema_argument(PG_GETARG_OID(7));
	if (!PG_ARGISNULL(8))
		policy.tablespace = NameStr(*PG_GETARG_NAME(8));
	policy.storage_parameters = text_array_argument(fcinfo, 9);
	policy.auto_analyze = PG_GETARG_BOOL(10);
	policy.auto_freeze = PG_GETARG_BOOL(11);
	policy_register(&policy);
	PG_RETURN_VOID();
}

/* Forgets the policy; the table and its partitions stay as they are. */
Datum
sagaz_stop_managing_partitions(PG_FUNCTION_ARGS)
{
	Oid			relid;

	identity_require_primary("stop_managing_partitions");
	relid = table_argument(fcinfo);
	identity_require_owner(relid);
	(void) require_policy(relid);
	(void) policy_delete(relid);
	PG_RETURN_VOID();
}

/* An operator agrees to the drops that were held back. */
Datum
sagaz_resume_drops(PG_FUNCTION_ARGS)
{
	Oid			relid;

	identity_require_primary("resume_drops");
	relid = table_argument(fcinfo);
	identity_require_owner(relid);
	(void) require_policy(relid);
	PG_RETURN_BOOL(policy_resume_drops(relid));
}

/* When this server was last started from a backup, or NULL. */
Datum
sagaz_restored_at(PG_FUNCTION_ARGS)
{
	TimestampTz restored = restored_at();

	if (restored == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(restored);
}

/*
 * reattach_partition(partition, parent): the parent is known from the history,
 * unless that was left behind with another database.
 */
Datum
sagaz_reattach_partition(PG_FUNCTION_ARGS)
{
	Oid			partition;
	Oid			parent;
	JournalEntry entry = {ACTION_ATTACH};

	identity_require_primary("reattach_partition");
	require_not_null(fcinfo, 0, "partition");
	partition = PG_GETARG_OID(0);
	parent = PG_ARGISNULL(1) ? reattach_parent(partition) : PG_GETARG_OID(1);
	if (get_rel_name(partition) == NULL || !OidIsValid(parent) || get_rel_name(parent) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("it is not known which table that was a partition of"),
				 errhint("Name the parent as the second argument.")));
	identity_require_owner(parent);
	identity_require_owner(partition);
	entry.parent = parent;
	entry.table_name = partition_display_name(parent);
	entry.partition = partition;
	entry.details = psprintf("rows from %s", reattach(partition, parent));
	entry.partition_name = partition_display_name(partition);
	(void) journal_record(&entry);
	PG_RETURN_VOID();
}

/* (action, table_name, partition_name, details) */
static void
emit_action(const JournalEntry *entry, void *arg)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) arg;
	Datum		values[4];
	bool		nulls[4];

	values[0] = text_or_null(entry->action, &nulls[0]);
	values[1] = text_or_null(entry->table_name, &nulls[1]);
	values[2] = text_or_null(entry->partition_name, &nulls[2]);
	values[3] = text_or_null(entry->details, &nulls[3]);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
sagaz_maintain_partitions(PG_FUNCTION_ARGS)
{
	Oid			relid;

	identity_require_primary("maintain_partitions");
	relid = table_argument(fcinfo);
	identity_require_owner(relid);
	(void) require_policy(relid);
	InitMaterializedSRF(fcinfo, 0);
	maintain_foreground(relid, emit_action, fcinfo->resultinfo);
	return (Datum) 0;
}

static void
saga_table_step(void *arg)
{
	saga_table_create(*(int *) arg);
}

/* Makes the specification's tables; one that can't be made is a row. */
static void
create_saga_tables_reporting(ReturnSetInfo *rsinfo)
{
	for (int i = 0; i < saga_tables_count(); i++)
	{
		ErrorData  *error = maintain_attempt(saga_table_step, &i);
		JournalEntry entry = {ACTION_ERROR};

		if (error == NULL)
			continue;
		entry.table_name = saga_table_name(i);
		entry.details = maintain_error_details(error);
		progress_error(entry.details);
		(void) journal_record(&entry);
		emit_action(&entry, rsinfo);
	}
}

Datum
sagaz_maintain_all_partitions(PG_FUNCTION_ARGS)
{
	identity_require_primary("maintain_all_partitions");
	InitMaterializedSRF(fcinfo, 0);
	(void) policy_delete_orphans();
	if (policy_load(InvalidOid) == NIL)
		create_saga_tables_reporting((ReturnSetInfo *) fcinfo->resultinfo);
	maintain_foreground(InvalidOid, emit_action, fcinfo->resultinfo);
	return (Datum) 0;
}

Datum
sagaz_plan_partition_maintenance(PG_FUNCTION_ARGS)
{
	TimestampTz at;

	require_not_null(fcinfo, 0, "at");
	at = PG_GETARG_TIMESTAMPTZ(0);
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("cannot plan maintenance at infinity"),
				 errhint("Use a finite time.")));
	InitMaterializedSRF(fcinfo, 0);
	maintain_plan(at, emit_action, fcinfo->resultinfo);
	return (Datum) 0;
}

/* Makes the partition for a value of the key, if there is none; its name. */
static char *
create_partition_at(Policy *policy, Relation rel, const ParentInfo *info, CalTime at)
{
	char	   *name;
	PlanPolicy	plan;
	PlanBound	period;
	int			existing;
	PlanResult	result;
	Oid			created;

	policy_plan(policy, info->key_type, &plan);
	result = plan_period_at(&plan, at, info->bounds, info->nparts, &period, &existing);
	if (result == PLAN_OK && existing >= 0)
	{
		table_close(rel, NoLock);
		return partition_display_name(info->relids[existing]);
	}
	if (result == PLAN_OVERLAP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("partition \"%s\" would overlap partition %s",
						partition_name(rel, &plan.cal, period.lower, &plan.interval),
						partition_display_name(info->relids[existing])),
				 errdetail("The new partition's range is %s, the existing one's %s.",
						   partition_bound_display(info->key_type, &period),
						   partition_bound_display(info->key_type, &info->bounds[existing])),
				 errhint("Inserts into the existing partition's range succeed without a new one; maintenance fills what is left between partitions.")));
	if (result != PLAN_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("partition bound out of range"),
				 errhint("Use a date that a timestamp can hold.")));
	name = partition_name(rel, &plan.cal, period.lower, &plan.interval);
	table_close(rel, NoLock);
	created = execute_create(policy, &period);
	if (OidIsValid(created))
	{
		JournalEntry entry = {ACTION_CREATE, policy->parent};

		entry.table_name = partition_display_name(policy->parent);
		entry.partition = created;
		entry.partition_name = partition_display_name(created);
		entry.details = psprintf("rows from %s",
								 partition_bound_display(info->key_type, &period));
		(void) journal_record(&entry);
		return pstrdup(entry.partition_name);
	}
	return name;
}

/* Opens the table and makes the partition for an instant or a local date. */
static Datum
create_partition_for(Oid relid, bool is_date, TimestampTz at)
{
	Policy	   *policy;
	Relation	rel;
	ParentInfo	info;
	char	   *name;

	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("cannot create a partition at infinity"),
				 errhint("Use a finite date.")));
	identity_require_owner(relid);
	policy = require_policy(relid);
	rel = table_open(relid, AccessShareLock);
	partition_require_parent(rel, &info);
	if (is_date && info.key_type == TIMESTAMPTZOID)
		at = policy_instant(policy, TIMESTAMPOID, at);
	else if (!is_date)
		at = policy_key_time(policy, info.key_type, at);
	name = create_partition_at(policy, rel, &info, at);
	return CStringGetTextDatum(name);
}

Datum
sagaz_create_partition(PG_FUNCTION_ARGS)
{
	Oid			relid;

	identity_require_primary("create_partition");
	relid = table_argument(fcinfo);
	require_not_null(fcinfo, 1, "at");
	PG_RETURN_DATUM(create_partition_for(relid, false, PG_GETARG_TIMESTAMPTZ(1)));
}

/* One of the specification's tables, which must have been made before. */
static Oid
require_saga_table(const char *name)
{
	Oid			relid = get_relname_relid(name, sagaz_extension_schema());

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s\" does not exist", name),
				 errhint("Run SELECT sagaz_ha.create_saga_tables();")));
	return relid;
}

/*
 * create_saga_executions_partition(date) and its like: which table it is for,
 * the function's own name says.
 */
Datum
sagaz_create_saga_partition(PG_FUNCTION_ARGS)
{
	char	   *function = get_func_name(fcinfo->flinfo->fn_oid);
	char	   *table = pstrdup(function + strlen("create_"));
	DateADT		date;

	table[strlen(table) - strlen("_partition")] = '\0';
	identity_require_primary(function);
	require_not_null(fcinfo, 0, "date");
	date = PG_GETARG_DATEADT(0);
	if (!DATE_NOT_FINITE(date) && date >= CAL_END / CAL_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("date out of range for a partition of \"%s\"", table),
				 errhint("Use a date that a timestamp can hold.")));
	PG_RETURN_DATUM(create_partition_for(require_saga_table(table), true,
										 DATE_NOT_FINITE(date) ? DT_NOEND :
										 (TimestampTz) date * USECS_PER_DAY));
}

/* Deletes what consumers have seen so many days ago; the number of rows. */
Datum
sagaz_cleanup_consumer_inbox(PG_FUNCTION_ARGS)
{
	Oid			types[1] = {TIMESTAMPTZOID};
	Datum		values[1];
	Interval	age = {0};
	Oid			relid;
	Identity	saved;
	uint64		deleted;
	Relation	rel;

	identity_require_primary("cleanup_consumer_inbox");
	require_not_null(fcinfo, 0, "retention_days");
	if (PG_GETARG_INT32(0) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("retention_days must not be negative, but is %d", PG_GETARG_INT32(0)),
				 errhint("Use 0 to delete every entry, or 90 to keep 90 days.")));
	relid = require_saga_table("consumer_inbox");
	identity_require_owner(relid);
	/* beyond that there are no times, and no entries either */
	age.day = Min(PG_GETARG_INT32(0), 1000 * 366);
	values[0] = DirectFunctionCall2(timestamp_mi_interval,
									TimestampTzGetDatum(settings_now()),
									IntervalPGetDatum(&age));

	rel = table_open(relid, RowExclusiveLock);
	SPI_connect();
	identity_assume(&saved, rel->rd_rel->relowner);
	if (SPI_execute_with_args(psprintf("DELETE FROM %s WHERE created_at < $1",
									   partition_qualified_name(relid)),
							  1, types, values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not delete from table consumer_inbox");
	deleted = SPI_processed;
	identity_restore(&saved);
	SPI_finish();
	table_close(rel, NoLock);
	PG_RETURN_INT64((int64) deleted);
}

static void
emit_partition(const PartitionStats *stats, void *arg)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) arg;
	Datum		values[9];
	bool		nulls[9] = {0};

	values[0] = ObjectIdGetDatum(stats->parent);
	values[1] = CStringGetTextDatum(stats->table_name);
	values[2] = ObjectIdGetDatum(stats->relid);
	values[3] = CStringGetTextDatum(stats->name);
	values[4] = TimestampTzGetDatum(stats->start);
	values[5] = TimestampTzGetDatum(stats->end);
	values[6] = CStringGetTextDatum(stats->state);
	values[7] = Int64GetDatum(stats->total_bytes);
	nulls[7] = stats->total_bytes < 0;
	values[8] = Int64GetDatum(stats->estimated_rows);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
sagaz_partitions(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	stats_partitions(PG_ARGISNULL(0) || PG_GETARG_BOOL(0), emit_partition, fcinfo->resultinfo);
	return (Datum) 0;
}

static void
emit_coverage(const CoverageStats *stats, void *arg)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) arg;
	Datum		values[11];
	bool		nulls[11] = {0};

	values[0] = ObjectIdGetDatum(stats->parent);
	values[1] = CStringGetTextDatum(stats->table_name);
	values[2] = TimestampTzGetDatum(stats->covered_until);
	nulls[2] = !stats->covered;
	values[3] = TimestampTzGetDatum(stats->premade_until);
	nulls[3] = stats->premade_until == 0;
	values[4] = Int32GetDatum(stats->holes);
	values[5] = TimestampTzGetDatum(stats->first_hole);
	nulls[5] = stats->holes == 0;
	values[6] = ObjectIdGetDatum(stats->default_partition);
	nulls[6] = !OidIsValid(stats->default_partition);
	values[7] = BoolGetDatum(stats->default_has_rows);
	values[8] = ObjectIdGetDatum(stats->pending_partition);
	nulls[8] = !OidIsValid(stats->pending_partition);
	values[9] = text_or_null(stats->pending_waits_for, &nulls[9]);
	values[10] = text_or_null(stats->problem, &nulls[10]);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
sagaz_coverage(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	stats_coverage(emit_coverage, fcinfo->resultinfo);
	return (Datum) 0;
}

/* Event trigger on sql_drop: a dropped table's policy goes with it. */
Datum
sagaz_forget_dropped_tables(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("forget_dropped_tables() is called by its event trigger only"),
				 errhint("stop_managing_partitions() forgets one table's policy.")));
	(void) policy_delete_orphans();
	PG_RETURN_NULL();
}

/* Trigger on partition_policy: the worker acts on a change at once. */
Datum
sagaz_policy_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("policy_changed() is a trigger function")));
	shared_wake_database_at_commit();
	return PointerGetDatum(NULL);
}

static Datum
time_or_null(TimestampTz value, bool *isnull)
{
	*isnull = value == 0;
	return TimestampTzGetDatum(value);
}

/*
 * A text that a worker wrote, maybe in a database of another encoding: what
 * isn't valid here is shown in ASCII, or nobody could read the status at all.
 */
static Datum
nonempty_or_null(const char *value, bool *isnull)
{
	char	   *shown = pstrdup(value);

	if (!pg_verifymbstr(shown, strlen(shown), true))
		for (char *c = shown; *c != '\0'; c++)
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
	return text_or_null(shown[0] == '\0' ? NULL : shown, isnull);
}

static void
emit_launcher(ReturnSetInfo *rsinfo)
{
	Datum		values[MAINTENANCE_STATUS_COLS] = {0};
	bool		nulls[MAINTENANCE_STATUS_COLS];

	memset(nulls, true, sizeof(nulls));
	values[0] = CStringGetTextDatum("launcher");
	values[1] = Int32GetDatum(shared_state->launcher_pid);
	values[3] = CStringGetTextDatum(shared_state->launcher_pid == 0 ? "not running" :
									shared_state->enabled ? "running" : "disabled");
	values[5] = time_or_null(shared_state->launcher_since, &nulls[5]);
	nulls[0] = nulls[3] = false;
	nulls[1] = shared_state->launcher_pid == 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
emit_work(ReturnSetInfo *rsinfo, const DatabaseState *database, WorkerKind kind)
{
	const WorkState *work = &database->work[kind];
	Datum		values[MAINTENANCE_STATUS_COLS] = {0};
	bool		nulls[MAINTENANCE_STATUS_COLS] = {0};

	values[0] = CStringGetTextDatum(kind == WORKER_PASS ? "worker" : "upkeep");
	values[1] = Int32GetDatum(work->pid);
	nulls[1] = work->pid == 0;
	values[2] = nonempty_or_null(NameStr(database->name), &nulls[2]);
	values[3] = work->pid == 0 ? CStringGetTextDatum("idle") :
		CStringGetTextDatum(work->phase[0] == '\0' ? "starting" : work->phase);
	values[4] = nonempty_or_null(work->table, &nulls[4]);
	values[5] = time_or_null(work->since, &nulls[5]);
	values[6] = Int32GetDatum(work->done);
	values[7] = Int32GetDatum(work->total);
	nulls[6] = nulls[7] = work->pid == 0 || work->total == 0;
	values[8] = nonempty_or_null(work->waiting_for, &nulls[8]);
	values[9] = time_or_null(work->last, &nulls[9]);
	values[10] = time_or_null(work->next, &nulls[10]);
	values[11] = Int64GetDatum(work->passes);
	values[12] = Int64GetDatum(work->actions);
	values[13] = nonempty_or_null(work->last_error, &nulls[13]);
	values[14] = rows_interval(work->last_duration);
	nulls[14] = work->last == 0;
	values[15] = Int64GetDatum(work->errors);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
sagaz_maintenance_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	if (shared_state == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sagaz_ha is not preloaded, so there is no worker"),
				 errhint("Add sagaz_ha to shared_preload_libraries and restart the server.")));
	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(shared_state->lock, LW_SHARED);
	emit_launcher(rsinfo);
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
	{
		const DatabaseState *database = &shared_state->databases[i];

		if (!OidIsValid(database->database) || !database->has_extension)
			continue;
		for (int kind = 0; kind < WORKER_KINDS; kind++)
			emit_work(rsinfo, database, kind);
	}
	LWLockRelease(shared_state->lock);
	return (Datum) 0;
}
