/*
 * widen.c
 *		Closing a hole between two partitions by making one of them wider.
 *
 * Invariant: the partition is detached and attached again in one transaction,
 * under locks that were available at once, and so that the server needn't scan
 * more than a few pages under them. Where a standby's queries could stop replay at
 * these locks, or where there is too much to be scanned, nothing is done: the hole
 * can have a partition of its own.
 */
#include "ddl/widen.h"

#include "base/compat.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/parent.h"
#include "ddl/bounds_check.h"
#include "ddl/drain.h"
#include "ddl/locks.h"
#include "ddl/protect.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

/* What may be scanned under the locks, in bytes: a few milliseconds. */
#define MAX_SCAN		(8 * 1024 * 1024)

/* Whether the server can attach it without a long scan. Under its lock. */
static bool
attaches_at_once(const ParentInfo *info, Oid partition)
{
	KeyRange	known;

	if (get_rel_relkind(partition) != RELKIND_RELATION)
		return false;
	return bounds_check_find(partition, parent_key_name(info), info->kind, &known) ||
		DatumGetInt64(DirectFunctionCall2(pg_relation_size, ObjectIdGetDatum(partition),
										  CStringGetTextDatum("main"))) <= MAX_SCAN;
}

/* The partition that ends where the hole begins, if another begins where it ends; or -1. */
static int
find_hole(const ParentInfo *info, const PlanBound *hole)
{
	for (int i = 0; i + 1 < info->nparts; i++)
		if (info->bounds[i].upper == hole->lower && info->bounds[i + 1].lower == hole->upper)
			return i;
	return -1;
}

/* Its own CHECK would refuse the rows of the hole. Not validated: that is a scan. */
static void
replace_check(const ParentInfo *info, Oid partition, const KeyRange *range)
{
	const char *name = names_qualified(partition);

	sql_run(psprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS sagaz_ha_bounds", name));
	bounds_check_remember(partition, parent_key_name(info), info->kind, range);
}

static void
attach_wider(const ParentInfo *info, Oid partition, const KeyRange *range)
{
	const char *parent = names_qualified(info->relid);
	const char *name = names_qualified(partition);

	Assert(sagaz_has_lock(info->relid, AccessExclusiveLock));
	Assert(sagaz_has_lock(partition, AccessExclusiveLock));
	protect_let_through();
	sql_run(psprintf("ALTER TABLE %s DETACH PARTITION %s", parent, name));
	sql_run(psprintf("ALTER TABLE %s ATTACH PARTITION %s %s", parent, name,
					 key_for_values_of_range(info->kind, range)));
	replace_check(info, partition, range);
}

/* Takes all locks, and chooses the earlier partition if it can be; or InvalidOid. */
static Oid
choose(const ParentInfo *info, int before, KeyRange *range)
{
	for (int i = before; i <= before + 1; i++)
	{
		locks_take_partition_at_once(info->relids[i]);
		if (!attaches_at_once(info, info->relids[i]))
			continue;
		*range = info->ranges[i];
		if (i == before)
		{
			range->upper_kind = info->ranges[i + 1].lower_kind;
			range->upper = info->ranges[i + 1].lower;
		}
		else
		{
			range->lower_kind = info->ranges[i - 1].upper_kind;
			range->lower = info->ranges[i - 1].upper;
		}
		return info->relids[i];
	}
	return InvalidOid;
}

/*
 * Closes the hole, if it is one and that can be done at once; the partition that
 * is wider now, or InvalidOid.
 */
Oid
widen_over_hole(const Policy *policy, const PlanBound *hole)
{
	SqlSession	session;
	Identity	caller;
	ParentInfo	info;
	KeyRange	range;
	int			before;
	Oid			widened = InvalidOid;

	sql_begin(&session, GetUserId());
	if (!drain_is_followed())
	{
		locks_take_at_once(policy->parent, AccessExclusiveLock);
		parent_require_by_oid(policy->parent, NoLock, &info);
		before = find_hole(&info, hole);
		if (before >= 0 && !info.distributed)
		{
			if (OidIsValid(info.default_relid))
				locks_take_at_once(info.default_relid, AccessExclusiveLock);
			locks_take_all_at_once(parent_referenced_tables(info.relid), ShareRowExclusiveLock);
			locks_take_all_at_once(parent_referencing_tables(info.relid), ShareRowExclusiveLock);
			identity_assume(&caller, info.owner);
			widened = choose(&info, before, &range);
			if (OidIsValid(widened))
				attach_wider(&info, widened, &range);
			identity_restore(&caller);
		}
	}
	sql_end(&session);
	return widened;
}
