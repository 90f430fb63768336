/*
 * fence.c
 *		A trigger that refuses writes to a partition that is being retired.
 *
 * While a detach is pending its rows can't be seen through the parent, and a
 * pending detach can't be taken back. So before it begins, the partition must
 * be unable to get another unfinished row. Making, enabling and disabling a
 * trigger takes ShareRowExclusive on that one partition, which waits for its
 * writers, but never longer than sagaz_ha.lock_timeout; dropping it would
 * take AccessExclusive. DISABLE leaves it for the next time.
 */
#include "ddl/fence.h"

#include "base/compat.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/partition.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "base/identity.h"
#include "catalog/policy.h"
#include "base/settings.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#define FENCE	"sagaz_ha_fence"

SAGAZ_FUNCTION(sagaz_refuse_late_write);

static void
run(const char *sql)
{
	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not execute \"%s\"", sql);
}

/*
 * The trigger goes with the extension, or DROP EXTENSION would be refused
 * because a user's table needs its function.
 */
static void
depend_on_extension(Oid trigger)
{
	ObjectAddress object;
	ObjectAddress extension;

	ObjectAddressSet(object, TriggerRelationId, trigger);
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("sagaz_ha", false));
	recordDependencyOn(&object, &extension, DEPENDENCY_AUTO_EXTENSION);
}

void
fence_raise(Oid owner, Oid partition)
{
	char	   *name = partition_qualified_name(partition);
	Identity	saved;

	SPI_connect();
	identity_assume(&saved, owner);
	identity_set_local("lock_timeout", psprintf("%d", sagaz_lock_timeout));
	if (!OidIsValid(get_trigger_oid(partition, FENCE, true)))
	{
		run(psprintf("CREATE TRIGGER " FENCE " BEFORE INSERT OR UPDATE ON %s"
					 " FOR EACH ROW EXECUTE FUNCTION sagaz_ha.refuse_late_write()", name));
		depend_on_extension(get_trigger_oid(partition, FENCE, false));
	}
	/* replicas apply rows with triggers off, but for those that are ALWAYS on */
	run(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER " FENCE, name));
	identity_restore(&saved);
	SPI_finish();
}

/* Whether writes are refused now. */
bool
fence_is_up(Oid partition)
{
	Oid			trigger = get_trigger_oid(partition, FENCE, true);
	Relation	triggers;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		up;

	if (!OidIsValid(trigger))
		return false;
	triggers = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(trigger));
	scan = systable_beginscan(triggers, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	up = HeapTupleIsValid(tuple) &&
		((Form_pg_trigger) GETSTRUCT(tuple))->tgenabled != TRIGGER_DISABLED;
	systable_endscan(scan);
	table_close(triggers, AccessShareLock);
	return up;
}

/* As whoever owns the table now: it may be nobody's partition any more. */
void
fence_lower(Oid partition)
{
	Relation	rel;
	Identity	saved;

	if (!fence_is_up(partition))
		return;
	rel = try_relation_open(partition, AccessShareLock);
	if (rel == NULL)
		return;
	SPI_connect();
	identity_assume(&saved, rel->rd_rel->relowner);
	/* ALTER TABLE refuses a table that this session has open */
	relation_close(rel, NoLock);
	identity_set_local("lock_timeout", psprintf("%d", sagaz_lock_timeout));
	run(psprintf("ALTER TABLE %s DISABLE TRIGGER " FENCE, partition_qualified_name(partition)));
	identity_restore(&saved);
	SPI_finish();
}

/* The trigger's function. */
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
	parent = rel->rd_rel->relispartition ?
		get_partition_parent(RelationGetRelid(rel), true) : InvalidOid;
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
