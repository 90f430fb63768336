/*
 * manage.c
 *		Which tables are managed and how, and which partitions stay.
 *
 * Invariant: checks arguments and shapes rows; the work is done below.
 */
#include "postgres.h"

#include "access/table.h"
#include "base/compat.h"
#include "base/identity.h"
#include "base/restored.h"
#include "base/settings.h"
#include "catalog/conversion.h"
#include "catalog/history.h"
#include "catalog/hold.h"
#include "catalog/names.h"
#include "catalog/partition.h"
#include "catalog/register.h"
#include "catalog/retirement.h"
#include "catalog/times.h"
#include "ddl/reattach.h"
#include "pass/key_sample.h"
#include "pass/protect.h"
#include "pass/saga_tables.h"
#include "sql/arguments.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

SAGAZ_FUNCTION(sagaz_create_saga_tables);
SAGAZ_FUNCTION(sagaz_manage_partitions);
SAGAZ_FUNCTION(sagaz_stop_managing_partitions);
SAGAZ_FUNCTION(sagaz_policy_time_zone);
SAGAZ_FUNCTION(sagaz_resume_drops);
SAGAZ_FUNCTION(sagaz_restored_at);
SAGAZ_FUNCTION(sagaz_reattach_partition);
SAGAZ_FUNCTION(sagaz_hold_partition);
SAGAZ_FUNCTION(sagaz_release_partition);
SAGAZ_FUNCTION(sagaz_drop_partition);

/* create_saga_tables(): makes the specification's tables. */
Datum
sagaz_create_saga_tables(PG_FUNCTION_ARGS)
{
	identity_require_primary("create_saga_tables");
	for (int i = 0; i < saga_tables_count(); i++)
		saga_table_create(i);
	PG_RETURN_VOID();
}

/*
 * manage_partitions(parent, partition_interval, premake, retention,
 * retention_action, unfinished_when, time_zone, archive_schema, tablespace,
 * storage_parameters, auto_analyze, auto_freeze, before_drop, plain, key_encoding,
 * protect)
 */
Datum
sagaz_manage_partitions(PG_FUNCTION_ARGS)
{
	Policy		policy = {0};

	policy.parent = argument_table(fcinfo, "manage_partitions");
	argument_policy(fcinfo, 1, &policy);
	register_policy(&policy);
	key_sample_warn(policy.parent);
	if (policy.protect)
		protect_at_once(policy.parent);
	PG_RETURN_VOID();
}

/* stop_managing_partitions(parent): the table and its partitions stay as they are. */
Datum
sagaz_stop_managing_partitions(PG_FUNCTION_ARGS)
{
	Oid			relid = argument_table(fcinfo, "stop_managing_partitions");
	Conversion	conversion;

	(void) argument_require_policy(relid);
	if (conversion_find(relid, &conversion) && conversion.phase != CONVERSION_FAILED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("table \"%s\" is becoming partitioned", conversion.table_name),
				 errhint("sagaz_ha.cancel_partition_table() takes the conversion back.")));
	register_forget(relid);
	PG_RETURN_VOID();
}

/* _policy_time_zone(parent): for the table's owner, who may not read policies. */
Datum
sagaz_policy_time_zone(PG_FUNCTION_ARGS)
{
	Oid			relid = argument_table(fcinfo, "return_to_pg_partman");

	PG_RETURN_TEXT_P(cstring_to_text(argument_require_policy(relid)->time_zone));
}

/* resume_drops(parent): an operator agrees to the drops that were held back. */
Datum
sagaz_resume_drops(PG_FUNCTION_ARGS)
{
	Oid			relid = argument_table(fcinfo, "resume_drops");

	(void) argument_require_policy(relid);
	PG_RETURN_BOOL(register_resume_drops(relid));
}

/* _restored_at(): when this server was last started from a backup, or null. */
Datum
sagaz_restored_at(PG_FUNCTION_ARGS)
{
	TimestampTz restored = restored_at();

	if (restored == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(restored);
}

/*
 * reattach_partition(partition, parent): the parent is known from when it was
 * detached, unless that was in another database.
 */
Datum
sagaz_reattach_partition(PG_FUNCTION_ARGS)
{
	TimestampTz now = settings_now();
	Oid			partition;
	Oid			parent;
	Record		record = {{InvalidOid}, ACTION_ATTACH};

	identity_require_primary("reattach_partition");
	argument_require(fcinfo, 0, "partition");
	partition = PG_GETARG_OID(0);
	parent = PG_ARGISNULL(1) ? times_detached_from(partition) : PG_GETARG_OID(1);
	if (get_rel_name(partition) == NULL || !OidIsValid(parent) || get_rel_name(parent) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("it is not known which table that was a partition of"),
				 errhint("Name the parent as the second argument.")));
	identity_require_owner(parent);
	identity_require_owner(partition);
	record.subject.parent = parent;
	record.subject.table_name = names_display(parent);
	record.subject.partition = partition;
	record.details = psprintf("rows from %s", reattach_partition(partition, parent));
	record.subject.partition_name = names_display(partition);
	retirement_end(partition);
	hold_add(partition, "brought back by reattach_partition()", now);
	history_add(&record, now);
	PG_RETURN_VOID();
}

/*
 * hold_partition(partition, reason): it stays, however old it is. The lock makes
 * a pass that is just about to drop it look again.
 */
Datum
sagaz_hold_partition(PG_FUNCTION_ARGS)
{
	Oid			partition;

	identity_require_primary("hold_partition");
	partition = argument_partition(fcinfo);
	argument_require(fcinfo, 1, "reason");
	LockRelationOid(partition, AccessShareLock);
	/* it may have been dropped while the lock was waited for */
	partition = argument_partition(fcinfo);
	if (!get_rel_relispartition(partition))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a partition", get_rel_name(partition)),
				 errhint("Name one of the table's partitions; view partition_metadata lists them.")));
	hold_add(partition, argument_text(fcinfo, 1), settings_now());
	PG_RETURN_VOID();
}

/* release_partition(partition): false if it wasn't held. */
Datum
sagaz_release_partition(PG_FUNCTION_ARGS)
{
	identity_require_primary("release_partition");
	PG_RETURN_BOOL(hold_remove(argument_partition(fcinfo)));
}

/* drop_partition(partition): with its rows, also if it is protected. */
Datum
sagaz_drop_partition(PG_FUNCTION_ARGS)
{
	Oid			partition;
	Oid			parent;

	identity_require_primary("drop_partition");
	partition = argument_partition(fcinfo);
	if (!get_rel_relispartition(partition))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a partition", get_rel_name(partition)),
				 errhint("Name one of the table's partitions; view partition_metadata lists them.")));
	parent = get_partition_parent(partition, true);
	identity_require_owner(parent);
	protect_drop(argument_require_policy(parent), partition, settings_now());
	PG_RETURN_VOID();
}
