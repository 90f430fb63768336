/*
 * widen.c
 *		Closing a hole between two partitions by making one of them wider.
 *
 * Invariant: the partition is detached and attached again in one transaction,
 * under locks that were available at once, and so that the server needn't scan
 * more than a few pages under them. Whether it can be is looked at before the first
 * lock that others notice: where a standby's queries could stop replay at these
 * locks, where there is too much to be scanned, or where a foreign key references
 * the table, nothing is done, and the hole can have a partition of its own.
 */
#include "ddl/widen.h"

#include "access/table.h"
#include "base/compat.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/parent.h"
#include "catalog/pg_class.h"
#include "commands/tablecmds.h"
#include "ddl/bounds_check.h"
#include "ddl/drain.h"
#include "ddl/locks.h"
#include "ddl/protect.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"

/* What may be scanned under the locks, in bytes: a few milliseconds. */
#define MAX_SCAN		(8 * 1024 * 1024)

static bool
is_small(Oid relid)
{
	return get_rel_relkind(relid) == RELKIND_RELATION &&
		DatumGetInt64(DirectFunctionCall2(pg_relation_size, ObjectIdGetDatum(relid),
										  CStringGetTextDatum("main"))) <= MAX_SCAN;
}

/* As the server asks in ATTACH: whether CHECKs imply its bounds, and so wider ones. */
static bool
bounds_are_implied(Oid partition)
{
	Relation	rel = table_open(partition, NoLock);
	Node	   *bounds = eval_const_expressions(NULL, (Node *) RelationGetPartitionQual(rel));
	bool		implied = PartConstraintImpliedByRelConstraint(rel, (List *) canonicalize_qual((Expr *) bounds, false));

	table_close(rel, NoLock);
	return implied;
}

/*
 * Whether the server can attach it without a long scan, of it or of the default
 * partition. As the owner, whose functions a CHECK may call.
 */
static bool
attaches_at_once(const ParentInfo *info, Oid partition)
{
	if (get_rel_relkind(partition) != RELKIND_RELATION ||
		(OidIsValid(info->default_relid) && !is_small(info->default_relid)))
		return false;
	locks_take_at_once(partition, AccessShareLock);
	return is_small(partition) || bounds_are_implied(partition);
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

/* Chooses the earlier partition if it can be, or the later one; or InvalidOid. */
static Oid
choose(const ParentInfo *info, int before, KeyRange *range)
{
	for (int i = before; i <= before + 1; i++)
	{
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

/* All locks that others notice. If what was chosen has grown meanwhile, the next pass sees it. */
static void
take_locks(const ParentInfo *info, Oid partition)
{
	locks_take_at_once(info->relid, AccessExclusiveLock);
	if (OidIsValid(info->default_relid))
		locks_take_at_once(info->default_relid, AccessExclusiveLock);
	locks_take_all_at_once(parent_referenced_tables(info->relid), ShareRowExclusiveLock);
	locks_take_at_once(partition, AccessExclusiveLock);
	if (!attaches_at_once(info, partition))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("partition %s has just become too large to be widened", names_display(partition))));
}

static Oid
widen(const ParentInfo *info, const PlanBound *hole)
{
	int			before = find_hole(info, hole);
	Oid			chosen;
	KeyRange	range;

	/* of a table that is referenced, DETACH looks at all rows that do so */
	if (before < 0 || info->distributed || parent_referencing_tables(info->relid) != NIL)
		return InvalidOid;
	chosen = choose(info, before, &range);
	if (OidIsValid(chosen))
	{
		take_locks(info, chosen);
		attach_wider(info, chosen, &range);
	}
	return chosen;
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
	Relation	parent;
	ParentInfo	info;
	Oid			widened = InvalidOid;

	sql_begin(&session, GetUserId());
	if (!drain_is_followed())
	{
		/* keeps its partitions what they are */
		parent = locks_open_parent(policy->parent, ShareUpdateExclusiveLock);
		parent_require(parent, &info);
		table_close(parent, NoLock);
		identity_assume(&caller, info.owner);
		widened = widen(&info, hole);
		identity_restore(&caller);
	}
	sql_end(&session);
	return widened;
}
