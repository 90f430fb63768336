/*
 * reattach.c
 *		Bringing back a partition that was detached or archived.
 *
 * Invariant: its bounds are those of a CHECK constraint: the one it was made with,
 * the one that the server adds in a concurrent detach, or the one that was added
 * when it was detached.
 */
#include "ddl/reattach.h"

#include "access/table.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/citus.h"
#include "catalog/names.h"
#include "catalog/parent.h"
#include "ddl/bounds_check.h"
#include "ddl/fence.h"
#include "ddl/locks.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* Locks parent and partition, and finds the bounds. */
static void
prepare(Oid partition, Oid parent, ParentInfo *info, KeyRange *range)
{
	Relation	rel = locks_open_parent(parent, ShareUpdateExclusiveLock);

	parent_require(rel, info);
	locks_end_vacuums_of_partition(partition, false);
	if (OidIsValid(info->default_relid))
		locks_end_vacuums(list_make1_oid(info->default_relid), false);
	/* readers and writers would wait behind us for these */
	locks_take_partition_at_once(partition);
	if (OidIsValid(info->default_relid))
		locks_take_at_once(info->default_relid, AccessExclusiveLock);
	/* ATTACH makes the triggers of foreign keys, there as well */
	locks_take_all_at_once(parent_tied_tables(parent), ShareRowExclusiveLock);
	table_close(rel, NoLock);
	if (!bounds_check_find(partition, parent_key_name(info), info->kind, range))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the bounds of table \"%s\" are not known", get_rel_name(partition)),
				 errdetail("It has no CHECK constraint that implies both of them."),
				 errhint("Use ALTER TABLE ... ATTACH PARTITION ... FOR VALUES FROM ... TO ....")));
}

/* Attaches a table as the partition that it was; what range it has, for people. */
char *
reattach_partition(Oid partition, Oid parent)
{
	Oid			schema = get_rel_namespace(parent);
	SqlSession	session;
	Identity	caller;
	ParentInfo	info;
	KeyRange	range;
	PlanBound	bound;
	char	   *display;

	sql_begin(&session, GetUserId());
	prepare(partition, parent, &info, &range);
	bound = key_range_times(info.kind, &range);
	identity_assume(&caller, info.owner);
	if (info.distributed)
		citus_prepare_nodes();
	if (get_rel_namespace(partition) != schema)
		sql_run(psprintf("ALTER TABLE %s SET SCHEMA %s", names_qualified(partition),
						 quote_identifier(get_namespace_name(schema))));
	sql_run(psprintf("ALTER TABLE %s ATTACH PARTITION %s %s", names_qualified(parent),
					 names_qualified(partition), key_for_values_of_range(info.kind, &range)));
	sql_run(psprintf("COMMENT ON %s %s IS NULL", names_table_keyword(partition),
					 names_qualified(partition)));
	fence_lower(partition);
	identity_restore(&caller);
	display = MemoryContextStrdup(session.caller, key_display(info.kind, &bound));
	sql_end(&session);
	return display;
}
