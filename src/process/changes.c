/*
 * changes.c
 *		Statements after which the launcher looks at once: what changes partitions,
 *		extensions and databases.
 *
 * Invariant: nothing happens before the commit, and then only shared memory is
 * written. It sees what a statement does, not how it is written: a cascade, and a
 * statement in a function, as well. What it doesn't see, launcher.c: look_for_writes() does.
 */
#include "process/changes.h"

#include "postgres.h"

#include "base/process.h"
#include "catalog/dependency.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "shmem/shared.h"
#include "utils/lsyscache.h"

static object_access_hook_type previous_hook = NULL;

/* A partition, or a table that has some; of what is only being made nothing is known yet. */
static bool
is_partitioned(Oid relation)
{
	return get_rel_relkind(relation) == RELKIND_PARTITIONED_TABLE || get_rel_relispartition(relation);
}

/* An alteration: a partition that comes or goes, or a table's name, schema or owner. */
static bool
alters_partitions(Oid class, Oid object, int column, const ObjectAccessPostAlter *alter)
{
	if (class == InheritsRelationId)
		return get_rel_relkind(alter->auxiliary_id) == RELKIND_PARTITIONED_TABLE;
	/* rewriting a table isn't a change of it */
	return class == RelationRelationId && column == 0 && !alter->is_internal && is_partitioned(object);
}

/* Our own processes know what they do. */
static void
note_change(ObjectAccessType access, Oid class, Oid object, int column, void *arg)
{
	if (previous_hook)
		previous_hook(access, class, object, column, arg);
	if (process_is_ours ||
		(access != OAT_POST_CREATE && access != OAT_DROP && access != OAT_POST_ALTER))
		return;
	if (class == DatabaseRelationId)
		shared_rescan_at_commit();
	else if (class == ExtensionRelationId)
		shared_wake_for_extension_at_commit();
	else if (access == OAT_POST_ALTER ?
			 alters_partitions(class, object, column, (const ObjectAccessPostAlter *) arg) :
			 access == OAT_DROP && class == RelationRelationId && column == 0 && is_partitioned(object))
		shared_wake_for_ddl_at_commit();
}

/* Installs the hook; while shared_preload_libraries is processed. */
void
changes_register(void)
{
	previous_hook = object_access_hook;
	object_access_hook = note_change;
}
