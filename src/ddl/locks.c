/*
 * locks.c
 *		Locks on a partitioned table and what is tied to it.
 *
 * Invariant: a parent comes first, before its partitions and before tables that
 * foreign keys tie to it. On a parent, ShareUpdateExclusive may be waited for:
 * neither readers nor writers notice, and it is the mutex between two
 * maintainers. A lock that a reader or writer would notice is only taken when it
 * is available, because a waiting request stalls all behind it. An unavailable
 * lock is lock_not_available, which callers report as DEFER.
 */
#include "ddl/locks.h"

#include "access/table.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/rel.h"

/* Opens the parent under a lock that may be waited for, but not for long. */
Relation
locks_open_parent(Oid parent, LOCKMODE mode)
{
	Relation	rel;

	identity_set_local("lock_timeout", psprintf("%d", sagaz_lock_timeout));
	rel = try_table_open(parent, mode);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table with OID %u does not exist", parent)));
	return rel;
}

/* Takes a lock that must not be waited for. Inside SPI. */
void
locks_take_at_once(Oid relid, LOCKMODE mode)
{
	char	   *holders;

	if (ConditionalLockRelationOid(relid, mode))
		return;
	holders = locks_holders(relid);
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("table %s is in use by %s", names_display(relid),
					holders ? holders : "somebody")));
}

/* The same of several tables. */
void
locks_take_all_at_once(List *relids, LOCKMODE mode)
{
	ListCell   *cell;

	foreach(cell, relids)
		locks_take_at_once(lfirst_oid(cell), mode);
}

/* The strongest lock on a partition and, if it has partitions itself, on those. */
void
locks_take_partition_at_once(Oid partition)
{
	locks_take_at_once(partition, AccessExclusiveLock);
	locks_take_all_at_once(find_all_inheritors(partition, NoLock, NULL), AccessExclusiveLock);
}

/* The holders of a lock on the relation, for people; NULL: none. Inside SPI. */
char *
locks_holders(Oid relid)
{
	static const char *const query =
		"SELECT string_agg(format('process %s%s', l.pid, ', in a transaction for '"
		"                         || date_trunc('second', clock_timestamp() - a.xact_start)), '; ')"
		"  FROM (SELECT DISTINCT pid FROM pg_locks"
		"         WHERE locktype = 'relation' AND relation = $1 AND granted"
		"           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
		"           AND pid IS DISTINCT FROM pg_backend_pid()) AS l"
		"  LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid";
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(relid));
	return sql_execute(query, &args) == 0 ? NULL : sql_text(0, 1);
}
