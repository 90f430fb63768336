/*
 * repair.c
 *		Making a partition what its table is.
 *
 * Invariant: the table's owner does it, so no code of that role runs as another one.
 * A lock that a reader or writer would notice is tried, never waited for: what is
 * done under it takes milliseconds, and who tries again has given back what it had.
 * Indexes are built beforehand, without such a lock; only by hand, and of a small
 * partition, with it.
 */
#include "ddl/repair.h"

#include "access/table.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/partition.h"
#include "catalog/pg_constraint.h"
#include "commands/defrem.h"
#include "ddl/adorn.h"
#include "ddl/locks.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* A larger partition's index is not built under a lock that writers wait for. */
#define MAX_LOCKED_BUILD	(INT64CONST(64) * 1024 * 1024)

/* Under its mutex, which isn't waited for either: there may be locks on its partitions. */
static Relation
open_table(Oid table)
{
	locks_take_at_once(table, ShareUpdateExclusiveLock);
	return locks_open_parent(table, NoLock);
}

/* The table's mutex; then its owner goes on. */
static void
begin(SqlSession *session, Identity *caller, Oid table)
{
	Relation	rel;
	Oid			owner;

	sql_begin(session, GetUserId());
	rel = open_table(table);
	owner = rel->rd_rel->relowner;
	table_close(rel, NoLock);
	identity_assume(caller, owner);
}

static void
end(SqlSession *session, Identity *caller)
{
	identity_restore(caller);
	sql_end(session);
}

static bool
is_kind(const Drift *drift, const char *kind)
{
	return strcmp(drift->kind, kind) == 0;
}

/* Whether a short lock is enough to mend it. */
bool
repair_is_possible(const Drift *drift)
{
	return drift->statement != NULL || is_kind(drift, "privileges") ||
		is_kind(drift, "row security") || is_kind(drift, "replica identity");
}

/* Gives a table to another owner, which only the caller can. */
static void
give_away(Oid table, const Drift *drift)
{
	SqlSession	session;

	sql_begin(&session, GetUserId());
	table_close(open_table(table), NoLock);
	locks_take_at_once(drift->partition, AccessExclusiveLock);
	sql_run(drift->statement);
	sql_end(&session);
}

/* Mends one difference that isn't an index. */
void
repair_apply(const Drift *drift)
{
	Oid			table = get_partition_parent(drift->partition, false);
	SqlSession	session;
	Identity	caller;

	if (is_kind(drift, "owner"))
	{
		give_away(table, drift);
		return;
	}
	begin(&session, &caller, table);
	if (is_kind(drift, "storage parameter") || is_kind(drift, "constraint"))
		locks_end_vacuums(list_make1_oid(drift->partition), true);
	else if (!is_kind(drift, "privileges"))
		locks_take_partition_at_once(drift->partition);
	if (drift->statement != NULL)
		sql_run(drift->statement);
	else if (is_kind(drift, "privileges"))
		(void) adorn_privileges(table, drift->partition);
	else
	{
		if (is_kind(drift, "row security"))
			(void) adorn_row_security(table, drift->partition);
		(void) adorn_attached(table, drift->partition);
	}
	end(&session, &caller);
}

/* The statement that builds, or builds anew, what is missing, in nobody's way. */
char *
repair_concurrent_statement(const DriftIndex *index)
{
	Oid			schema = get_rel_namespace(index->partition);
	const char *name = "";

	if (OidIsValid(index->attached))
		return psprintf("REINDEX INDEX CONCURRENTLY %s", names_qualified(index->attached));
	if (OidIsValid(index->found))
		return psprintf("DROP INDEX CONCURRENTLY %s", names_qualified(index->found));
	if (index->contype != '\0')
		name = quote_identifier(ChooseRelationName(get_rel_name(index->partition), NULL,
												   index->contype == CONSTRAINT_PRIMARY ? "pkey" : "key",
												   schema, true));
	return psprintf("CREATE %sINDEX CONCURRENTLY %s ON %s USING %s",
					index->is_unique ? "UNIQUE " : "", name,
					names_qualified(index->partition), index->tail);
}

/* Fails while another session builds an index of the partition: that one isn't valid yet. */
void
repair_require_no_build(const DriftIndex *index)
{
	SqlSession	session;

	sql_begin(&session, GetUserId());
	locks_take_at_once(index->partition, ShareUpdateExclusiveLock);
	sql_end(&session);
}

static void
attach(const DriftIndex *index)
{
	Oid			own = OidIsValid(index->attached) ? index->attached : index->found;

	if (OidIsValid(index->found) && index->contype != '\0' && !index->found_constraint)
	{
		locks_take_at_once(index->partition, AccessExclusiveLock);
		sql_run(psprintf("ALTER TABLE %s ADD CONSTRAINT %s %s USING INDEX %s%s",
						 names_qualified(index->partition), quote_identifier(get_rel_name(own)),
						 index->contype == CONSTRAINT_PRIMARY ? "PRIMARY KEY" : "UNIQUE",
						 quote_identifier(get_rel_name(own)),
						 index->deferrable ? index->deferrable : ""));
	}
	/* whoever plans a query of the partition locks all its indexes */
	locks_take_at_once(own, AccessExclusiveLock);
	sql_run(psprintf("ALTER INDEX %s ATTACH PARTITION %s",
					 names_qualified(index->table_index), names_qualified(own)));
}

/* Makes an index that is built the partition's part of the table's; the last one makes that valid. */
void
repair_attach_index(const DriftIndex *index)
{
	SqlSession	session;
	Identity	caller;

	begin(&session, &caller, index->table);
	attach(index);
	end(&session, &caller);
}

static void
refuse_large(const DriftIndex *index)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("partition %s is too large to build an index under a lock",
					names_display(index->partition)),
			 errhint("The worker builds it without one; or run: %s",
					 repair_concurrent_statement(index))));
}

/* The partition's index, after it was built. */
static const DriftIndex *
find_again(const DriftIndex *index)
{
	ListCell   *cell;

	foreach(cell, drift_indexes(index->table))
	{
		const DriftIndex *now = (DriftIndex *) lfirst(cell);

		if (now->partition == index->partition && now->table_index == index->table_index)
			return now;
	}
	return NULL;
}

/* Does all that an index needs in this transaction: by hand. */
void
repair_build_index(const DriftIndex *index)
{
	SqlSession	session;
	Identity	caller;

	if (!index->valid && index->bytes > MAX_LOCKED_BUILD)
		refuse_large(index);
	begin(&session, &caller, index->table);
	if (!index->valid)
	{
		locks_take_at_once(index->partition, AccessExclusiveLock);
		if (OidIsValid(index->attached))
			sql_run(psprintf("REINDEX INDEX %s", names_qualified(index->attached)));
		else if (OidIsValid(index->found))
			sql_run(psprintf("DROP INDEX %s", names_qualified(index->found)));
		if (!OidIsValid(index->attached) && index->contype != '\0')
			sql_run(psprintf("ALTER TABLE %s ADD %s", names_qualified(index->partition),
							 index->constraint_definition));
		else if (!OidIsValid(index->attached))
			sql_run(psprintf("CREATE %sINDEX ON %s USING %s", index->is_unique ? "UNIQUE " : "",
							 names_qualified(index->partition), index->tail));
		index = find_again(index);
	}
	if (index != NULL && (OidIsValid(index->attached) || OidIsValid(index->found)))
		attach(index);
	end(&session, &caller);
}
