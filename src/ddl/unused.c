/*
 * unused.c
 *		Taking a table that nobody uses.
 *
 * Invariant: the strongest lock is taken only where it is available, no partition
 * has a row, and no standby would replay it. Whoever has it looks whether somebody
 * waits for it before each thing that it does, and then ends.
 */
#include "ddl/unused.h"

#include "access/table.h"
#include "catalog/size.h"
#include "ddl/drain.h"
#include "ddl/unique.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/relcache.h"

/* No row, and so no reader of one; a writer that comes now makes a page. */
static bool
has_no_rows(const ParentInfo *info)
{
	for (int i = 0; i < info->nparts; i++)
		if (!size_has_no_page(info->relids[i]))
			return false;
	return true;
}

/*
 * Whether its partitions get what CREATE TABLE … PARTITION OF gives them, and what
 * can be added; and nothing else is locked for that.
 */
static bool
is_plain(const ParentInfo *info)
{
	Relation	rel = table_open(info->relid, NoLock);
	bool		plain = RelationGetStatExtList(rel) == NIL && unique_triggers(rel) == NIL;

	table_close(rel, NoLock);
	return plain && !info->distributed && !OidIsValid(info->default_relid) &&
		!OidIsValid(info->pending_relid) && parent_tied_tables(info->relid) == NIL;
}

/*
 * Takes AccessExclusive on the table if nobody uses it; false if that isn't so. The
 * caller has ShareUpdateExclusive, so the partitions are those that were read. Inside
 * SPI.
 */
bool
unused_take(const ParentInfo *info)
{
	if (!is_plain(info) || !has_no_rows(info) || drain_may_be_followed() ||
		!ConditionalLockRelationOid(info->relid, AccessExclusiveLock))
		return false;
	/* a writer may have been here in between */
	if (has_no_rows(info))
		return true;
	UnlockRelationOid(info->relid, AccessExclusiveLock);
	return false;
}

/* Whether somebody waits for a table that was taken. */
bool
unused_is_wanted(List *parents)
{
	ListCell   *cell;
	bool		wanted = false;

	foreach(cell, parents)
	{
		Relation	rel = table_open(lfirst_oid(cell), NoLock);

		wanted = wanted || LockHasWaitersRelation(rel, AccessExclusiveLock);
		table_close(rel, NoLock);
	}
	return wanted;
}
