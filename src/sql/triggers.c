/*
 * triggers.c
 *		Functions of triggers and of the event trigger.
 *
 * Invariant: each refuses to be called in another way.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/compat.h"
#include "catalog/asleep.h"
#include "catalog/dropped.h"
#include "catalog/partition.h"
#include "catalog/policy.h"
#include "catalog/retirement.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "ddl/protect.h"
#include "shmem/shared.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

SAGAZ_FUNCTION(sagaz_forget_dropped_tables);
SAGAZ_FUNCTION(sagaz_policy_arrived);
SAGAZ_FUNCTION(sagaz_policy_changed);
SAGAZ_FUNCTION(sagaz_protect_partitions);
SAGAZ_FUNCTION(sagaz_refuse_late_write);
SAGAZ_FUNCTION(sagaz_refuse_truncate);

/* Event trigger on sql_drop: what is said about a table goes with it. */
Datum
sagaz_forget_dropped_tables(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("forget_dropped_tables() is called by its event trigger only"),
				 errhint("stop_managing_partitions() forgets one table's policy.")));
	dropped_forget_in_event_trigger();
	PG_RETURN_NULL();
}

/* Event trigger on ddl_command_start: what would lose a protected partition's rows is refused. */
Datum
sagaz_protect_partitions(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("protect_partitions() is called by its event trigger only"),
				 errhint("sagaz_ha.manage_partitions(..., protect => true) protects a table's partitions.")));
	protect_check_statement(((EventTriggerData *) fcinfo->context)->parsetree);
	PG_RETURN_NULL();
}

/* Trigger on TRUNCATE of a partition: the same. */
Datum
sagaz_refuse_truncate(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("refuse_truncate() is a trigger function"),
				 errhint("Maintenance puts it on the partitions of a protected table.")));
	protect_check_truncate(RelationGetRelid(((TriggerData *) fcinfo->context)->tg_relation));
	return PointerGetDatum(NULL);
}

/* Trigger on partition_policy, partition_hold and unique_key: the worker acts on a change at once. */
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

/* Row trigger on partition_policy: manage_partitions() takes it back at once. */
Datum
sagaz_policy_arrived(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("policy_arrived() is a trigger function of partition_policy")));
	/* the first column is the table */
	asleep_begin(DatumGetObjectId(heap_getattr(trigger->tg_trigtuple, 1,
											   RelationGetDescr(trigger->tg_relation), &isnull)));
	return PointerGetDatum(NULL);
}

/* The table that a partition is, or was before it waited for a function; else InvalidOid. */
static Oid
parent_of(Relation rel)
{
	Retirement	retirement;

	if (rel->rd_rel->relispartition)
		return get_partition_parent(RelationGetRelid(rel), true);
	if (retirement_find(RelationGetRelid(rel), &retirement) &&
		get_rel_name(retirement.parent) != NULL)
		return retirement.parent;
	return InvalidOid;
}

/* The fence: refuses writes to a partition that is being retired. */
Datum
sagaz_refuse_late_write(PG_FUNCTION_ARGS)
{
	Relation	rel;
	Oid			parent;
	List	   *policies;
	Interval   *retention = NULL;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("refuse_late_write() is a trigger function"),
				 errhint("Maintenance puts it on partitions that it retires.")));
	rel = ((TriggerData *) fcinfo->context)->tg_relation;
	parent = parent_of(rel);
	policies = OidIsValid(parent) ? policy_load(parent) : NIL;
	if (policies != NIL)
		retention = ((Policy *) linitial(policies))->retention;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("partition \"%s\" of table \"%s\" is being retired and takes no more writes",
					RelationGetRelationName(rel),
					OidIsValid(parent) ? get_rel_name(parent) : "(detached)"),
			 errdetail("All its rows are older than the table's retention of %s.",
					   retention == NULL ? "(unknown)" :
					   DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(retention)))),
			 errhint("Write the row with a newer time, or extend the retention with sagaz_ha.manage_partitions().")));
	return (Datum) 0;
}
