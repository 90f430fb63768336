/*
 * fence.c
 *		A trigger that refuses writes to a partition that is being retired.
 *
 * While a detach is pending its rows can't be seen through the parent, and a
 * pending detach can't be taken back. So before it begins, the partition must be
 * unable to get another unfinished row. Making, enabling and disabling a trigger
 * takes ShareRowExclusive on that one partition, which waits for its writers, but
 * never longer than sagaz_ha.lock_timeout; dropping it would take
 * AccessExclusive. DISABLE leaves it for the next time.
 */
#include "ddl/fence.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/names.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "ddl/locks.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#define FENCE	"sagaz_ha_fence"

/*
 * The trigger goes with the extension, or DROP EXTENSION would be refused
 * because a user's table needs its function.
 */
void
fence_depend_on_extension(Oid trigger)
{
	ObjectAddress object;
	ObjectAddress extension;

	ObjectAddressSet(object, TriggerRelationId, trigger);
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("sagaz_ha", false));
	recordDependencyOn(&object, &extension, DEPENDENCY_AUTO_EXTENSION);
}

/* Waits for no writer longer than sagaz_ha.lock_timeout, and for no autovacuum then. */
static void
begin_as_owner(SqlSession *session, Oid owner, Oid partition)
{
	sql_begin(session, owner);
	locks_end_vacuums_of_partition(partition, true);
	identity_set_local("lock_timeout", psprintf("%d", sagaz_lock_timeout));
}

/* Has writes refused from now on. */
void
fence_raise(Oid owner, Oid partition)
{
	char	   *name = names_qualified(partition);
	SqlSession	session;

	begin_as_owner(&session, owner, partition);
	if (!OidIsValid(get_trigger_oid(partition, FENCE, true)))
	{
		sql_run(psprintf("CREATE TRIGGER " FENCE " BEFORE INSERT OR UPDATE ON %s"
						 " FOR EACH ROW EXECUTE FUNCTION sagaz_ha.refuse_late_write()", name));
		fence_depend_on_extension(get_trigger_oid(partition, FENCE, false));
	}
	/* replicas apply rows with triggers off, but for those that are ALWAYS on */
	sql_run(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER " FENCE, name));
	sql_end(&session);
}

/* Whether writes are refused now. */
static bool
is_up(Oid partition)
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

/*
 * Accepts writes again. As the present owner of the partition, which may have
 * another parent by now, or none.
 */
void
fence_lower(Oid partition)
{
	Relation	rel;
	SqlSession	session;
	Oid			owner;

	if (!is_up(partition))
		return;
	rel = try_relation_open(partition, AccessShareLock);
	if (rel == NULL)
		return;
	owner = rel->rd_rel->relowner;
	/* ALTER TABLE refuses a table that this session has open */
	relation_close(rel, NoLock);
	begin_as_owner(&session, owner, partition);
	sql_run(psprintf("ALTER TABLE %s DISABLE TRIGGER " FENCE, names_qualified(partition)));
	sql_end(&session);
}
