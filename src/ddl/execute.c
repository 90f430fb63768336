/*
 * execute.c
 *		Making and retiring partitions: the only module that runs DDL on them.
 *
 * Locks: a parent comes first, before its partitions and before tables that
 * foreign keys tie to it. On a parent, ShareUpdateExclusive may be waited for:
 * neither readers nor writers notice, and it is the mutex between two
 * maintainers. Anything that a reader or writer would notice is only taken
 * when it can be had at once, because a waiting request stalls all behind it.
 * What can't be had at once is lock_not_available, which callers report as
 * DEFER.
 */
#include "ddl/execute.h"

#include "access/table.h"
#include "access/xact.h"
#include "ddl/adorn.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "base/compat.h"
#include "ddl/drain.h"
#include "executor/spi.h"
#include "ddl/fence.h"
#include "base/identity.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "ddl/reattach.h"
#include "base/settings.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* Longest wait of FINALIZE, in ms: it holds the partition, and is retried. */
#define FINALIZE_LOCK_TIMEOUT	"50"

/* Runs a step in a subtransaction. Returns NULL, or the error that undid it. */
ErrorData *
execute_attempt(void (*step) (void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		step(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

static void
run(const char *sql)
{
	int			result = SPI_execute(sql, false, 0);

	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", sql, SPI_result_code_string(result));
}

/* Takes a lock that must not be waited for. Inside SPI. */
void
execute_lock_at_once(Oid relid, LOCKMODE mode)
{
	if (!ConditionalLockRelationOid(relid, mode))
	{
		char	   *holders = drain_lock_holders(relid);

		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("table %s is in use by %s", partition_display_name(relid),
						holders ? holders : "somebody")));
	}
}

static void
lock_all_at_once(List *relids, LOCKMODE mode)
{
	ListCell   *cell;

	foreach(cell, relids)
		execute_lock_at_once(lfirst_oid(cell), mode);
}

/* Opens the parent under a lock that may be waited for, but not for long. */
static Relation
open_parent(Oid parent, LOCKMODE mode)
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

/*
 * Whether a range is free. Somebody may have made the same partition since
 * the plan was made, which is no error; another one in its place is.
 */
static bool
range_is_free(const ParentInfo *info, const PlanBound *bound, const char *name)
{
	for (int i = 0; i < info->nparts; i++)
	{
		if (info->bounds[i].lower == bound->lower &&
			info->bounds[i].upper == bound->upper)
			return false;
		if (info->bounds[i].lower < bound->upper &&
			info->bounds[i].upper > bound->lower)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
					 errmsg("partition \"%s\" would overlap partition %s",
							name, partition_display_name(info->relids[i])),
					 errdetail("The new partition's range is %s, the existing one's %s.",
							   partition_bound_display(info->key_type, bound),
							   partition_bound_display(info->key_type, &info->bounds[i]))));
	}
	return true;
}

static void
append_storage(StringInfo sql, const Policy *policy, Relation parent)
{
	const char *separator = " WITH (";
	const char *tablespace = policy->tablespace;
	ListCell   *cell;

	if (OidIsValid(parent->rd_rel->relam))
		appendStringInfo(sql, " USING %s",
						 quote_identifier(get_am_name(parent->rd_rel->relam)));
	foreach(cell, policy->storage_parameters)
	{
		char	   *name = pstrdup((char *) lfirst(cell));
		char	   *value = strchr(name, '=');
		char	   *dot = strchr(name, '.');

		*value++ = '\0';
		appendStringInfoString(sql, separator);
		if (dot != NULL && dot < value)
		{
			*dot = '\0';
			appendStringInfo(sql, "%s.", quote_identifier(name));
			name = dot + 1;
		}
		appendStringInfo(sql, "%s = %s", quote_identifier(name), quote_literal_cstr(value));
		separator = ", ";
	}
	if (policy->storage_parameters != NIL)
		appendStringInfoChar(sql, ')');
	if (tablespace == NULL && OidIsValid(parent->rd_rel->reltablespace))
		tablespace = get_tablespace_name(parent->rd_rel->reltablespace);
	if (tablespace != NULL)
		appendStringInfo(sql, " TABLESPACE %s", quote_identifier(tablespace));
}

/*
 * The table by itself, with a CHECK that its bounds imply, so that attaching
 * it, now or after an interrupted retirement, needs no scan.
 */
static char *
standalone_statement(const Policy *policy, Relation parent, const ParentInfo *info,
					 const PlanBound *bound, const char *qualified_name)
{
	const char *column = quote_identifier(get_attname(info->relid, info->key_attnum, false));
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE %sTABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY,"
					 " CONSTRAINT sagaz_ha_bounds CHECK"
					 " (%s IS NOT NULL AND %s >= %s AND %s < %s))",
					 parent->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED ? "UNLOGGED " : "",
					 qualified_name, partition_qualified_name(info->relid),
					 column,
					 column, partition_bound_literal(info->key_type, bound->lower),
					 column, partition_bound_literal(info->key_type, bound->upper));
	append_storage(&sql, policy, parent);
	return sql.data;
}

/* The name must be free and the owner able to use it, or it's said how. */
static void
require_place(const ParentInfo *info, Oid schema, const char *name)
{
	Oid			owner = info->owner;
	Oid			taken = get_relname_relid(name, schema);

	if (OidIsValid(taken) && taken == info->pending_relid)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("partition \"%s\" is there, but its detach is pending", name)));

	if (!sagaz_may_create_in(schema, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for schema %s", get_namespace_name(schema)),
				 errdetail("Partitions are made as the owner of their table."),
				 errhint("GRANT CREATE ON SCHEMA %s TO %s;",
						 quote_identifier(get_namespace_name(schema)),
						 quote_identifier(GetUserNameFromId(owner, false)))));
	if (OidIsValid(taken))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("the name of partition \"%s\" is already taken by another relation", name),
				 errhint("Rename or remove %s, or attach it as the partition.",
						 partition_qualified_name(taken))));
}

/* The new partition, made as the table's owner. The parent is locked. */
static Oid
create_attached(const ParentInfo *info, const PlanBound *bound,
				Oid schema, const char *name, const char *create)
{
	const char *qualified = quote_qualified_identifier(get_namespace_name(schema), name);
	Identity	saved;
	Oid			created;

	identity_assume(&saved, info->owner);
	require_place(info, schema, name);
	if (OidIsValid(info->default_relid))
		execute_lock_at_once(info->default_relid, AccessExclusiveLock);
	lock_all_at_once(partition_referenced_tables(info->relid), ShareRowExclusiveLock);
	lock_all_at_once(partition_referencing_tables(info->relid), ShareRowExclusiveLock);

	run(create);
	created = get_relname_relid(name, schema);
	adorn_partition(info->relid, created);
	run(psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)",
				 partition_qualified_name(info->relid), qualified,
				 partition_bound_literal(info->key_type, bound->lower),
				 partition_bound_literal(info->key_type, bound->upper)));
	adorn_replica_identity(info->relid, created);
	identity_restore(&saved);
	return created;
}

/*
 * Makes one partition and returns its OID, or InvalidOid when it is there
 * already. In a transaction or subtransaction that the caller ends.
 */
Oid
execute_create(const Policy *policy, const PlanBound *bound)
{
	Identity	saved;
	Relation	parent;
	ParentInfo	info;
	PlanPolicy	plan;
	Oid			schema;
	char	   *name;
	char	   *create;
	Oid			created = InvalidOid;

	SPI_connect();
	identity_assume(&saved, GetUserId());
	parent = open_parent(policy->parent, ShareUpdateExclusiveLock);
	partition_require_parent(parent, &info);
	policy_plan(policy, info.key_type, &plan);
	schema = RelationGetNamespace(parent);
	name = partition_name(parent, &plan.cal, bound->lower, &plan.interval);
	create = standalone_statement(policy, parent, &info, bound,
								  quote_qualified_identifier(get_namespace_name(schema), name));
	/* ALTER TABLE refuses a table that this session has open */
	table_close(parent, NoLock);
	if (range_is_free(&info, bound, name))
		created = create_attached(&info, bound, schema, name, create);
	identity_restore(&saved);
	SPI_finish();
	return created;
}

/*
 * How many rows of a partition are unfinished, as of right now: an older
 * snapshot, as REPEATABLE READ has, could miss the row that matters.
 */
int64
execute_count_unfinished(const Policy *policy, Oid owner, Oid partition)
{
	Identity	saved;
	SPIPlanPtr	plan;
	int64		count = 0;
	bool		isnull;

	if (policy->unfinished_when == NULL)
		return 0;
	SPI_connect();
	identity_assume(&saved, owner);
	/* what current_date and the like mean must not depend on the session */
	identity_set_local("timezone", policy->time_zone);
	plan = SPI_prepare(psprintf("SELECT count(*) FROM %s WHERE %s",
								partition_qualified_name(partition),
								policy->unfinished_when), 0, NULL);
	if (plan == NULL ||
		SPI_execute_snapshot(plan, NULL, NULL, GetLatestSnapshot(), InvalidSnapshot,
							 true, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not count unfinished rows");
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
										1, &isnull));
	identity_restore(&saved);
	SPI_finish();
	return count;
}

char *
execute_unfinished_details(int64 count)
{
	return psprintf("%lld unfinished %s", (long long) count, count == 1 ? "row" : "rows");
}

/* Takes all that retiring this partition needs, or fails at once. */
static void
lock_for_retirement(const Policy *policy, const ParentInfo *info, Oid partition,
					List *referencing)
{
	if (OidIsValid(info->default_relid))
		execute_lock_at_once(info->default_relid, AccessExclusiveLock);
	lock_all_at_once(referencing, AccessExclusiveLock);
	if (strcmp(policy->retention_action, "drop") != 0 || referencing != NIL)
		lock_all_at_once(partition_referenced_tables(info->relid), AccessExclusiveLock);
	execute_lock_at_once(partition, AccessExclusiveLock);
	lock_all_at_once(find_all_inheritors(partition, NoLock, NULL), AccessExclusiveLock);
}

/* A partition may be a foreign table, which has statements of its own. */
static const char *
table_keyword(Oid relid)
{
	return get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE ? "FOREIGN TABLE" : "TABLE";
}

/* A detached partition keeps its history as a comment. */
static void
comment_detached(Oid parent, const char *bounds, const char *keyword,
				 const char *qualified)
{
	run(psprintf("COMMENT ON %s %s IS %s", keyword, qualified,
				 quote_literal_cstr(psprintf("partition of %s%s%s, detached at %s by sagaz_ha",
											 partition_qualified_name(parent),
											 bounds ? " from " : "",
											 bounds ? bounds : "",
											 partition_time_display(settings_now())))));
}

/*
 * Ends a partition that is detached already, as the policy wants. As the
 * table's owner. The result's texts are in the given context.
 */
static void
end_detached(const Policy *policy, Oid partition, const char *bounds,
			 MemoryContext context, RetireResult *result)
{
	const char *keyword = table_keyword(partition);
	char	   *qualified = partition_qualified_name(partition);
	char	   *archive = policy_archive_schema(policy);
	MemoryContext old;

	if (strcmp(policy->retention_action, "drop") == 0)
	{
		run(psprintf("DROP %s %s", keyword, qualified));
		result->outcome = RETIRE_DROPPED;
	}
	else
	{
		comment_detached(policy->parent, bounds, keyword, qualified);
		if (archive != NULL)
			run(psprintf("ALTER TABLE %s SET SCHEMA %s", qualified, quote_identifier(archive)));
		result->outcome = RETIRE_DETACHED;
	}
	old = MemoryContextSwitchTo(context);
	result->details = psprintf("%s%s%s%s", bounds ? "rows from " : "expired rows",
							   bounds ? bounds : "",
							   archive ? ", moved to schema " : "",
							   archive ? quote_identifier(archive) : "");
	MemoryContextSwitchTo(old);
}

static void
keep(int64 unfinished, MemoryContext context, RetireResult *result)
{
	MemoryContext old = MemoryContextSwitchTo(context);

	result->outcome = RETIRE_KEPT;
	result->details = execute_unfinished_details(unfinished);
	MemoryContextSwitchTo(old);
}

static int
find_partition(const ParentInfo *info, Oid partition)
{
	for (int i = 0; i < info->nparts; i++)
		if (info->relids[i] == partition)
			return i;
	return -1;
}

/*
 * Retires a partition in one transaction, if every lock can be had at once.
 * Unfinished rows are looked for under those locks, when they can't change.
 */
void
execute_retire(const Policy *policy, Oid partition, RetireResult *result)
{
	MemoryContext context = CurrentMemoryContext;
	Identity	saved;
	Identity	caller;
	Relation	parent;
	ParentInfo	info;
	int			index;

	result->outcome = RETIRE_GONE;
	SPI_connect();
	identity_assume(&saved, GetUserId());
	execute_lock_at_once(policy->parent, AccessExclusiveLock);
	parent = open_parent(policy->parent, NoLock);
	partition_require_parent(parent, &info);
	table_close(parent, NoLock);
	index = find_partition(&info, partition);
	if (index >= 0)
	{
		List	   *referencing = partition_referencing_tables(info.relid);
		bool		drop = strcmp(policy->retention_action, "drop") == 0;
		int64		unfinished;

		identity_assume(&caller, info.owner);
		lock_for_retirement(policy, &info, partition, referencing);
		unfinished = execute_count_unfinished(policy, info.owner, partition);
		if (unfinished > 0)
			keep(unfinished, context, result);
		else
		{
			if (!drop)
				reattach_remember_bounds(partition,
										 get_attname(info.relid, info.key_attnum, false),
										 info.key_type, &info.bounds[index]);
			/* a foreign key depends on the partition as long as it is attached */
			if (!drop || referencing != NIL)
				run(psprintf("ALTER TABLE %s DETACH PARTITION %s",
							 partition_qualified_name(info.relid),
							 partition_qualified_name(partition)));
			end_detached(policy, partition,
						 partition_bound_display(info.key_type, &info.bounds[index]),
						 context, result);
		}
		identity_restore(&caller);
	}
	identity_restore(&saved);
	SPI_finish();
}

static void
run_step(void *arg)
{
	run((const char *) arg);
}

/*
 * Runs what fails if a table and its partition aren't alike: one whose detach is
 * pending isn't altered with its table. Returns that error, undone, or NULL.
 */
static ErrorData *
run_unless_different(char *sql)
{
	ErrorData  *error = execute_attempt(run_step, sql);

	/* the server calls it internal that a constraint isn't there */
	if (error != NULL && error->sqlerrcode != ERRCODE_DATATYPE_MISMATCH &&
		error->sqlerrcode != ERRCODE_INTERNAL_ERROR)
		ReThrowError(error);
	return error;
}

static ErrorData *
finalize(const ParentInfo *info, Oid partition)
{
	/* snapshots that do see the detach are waited for too, and may be long */
	identity_set_local("lock_timeout", FINALIZE_LOCK_TIMEOUT);
	return run_unless_different(psprintf("ALTER TABLE %s DETACH PARTITION %s FINALIZE",
										 partition_qualified_name(info->relid),
										 partition_qualified_name(partition)));
}

static ErrorData *
attach_again(const ParentInfo *info, Oid partition)
{
	ErrorData  *different =
		run_unless_different(psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)",
									  partition_qualified_name(info->relid),
									  partition_qualified_name(partition),
									  partition_bound_literal(info->key_type, info->pending_bound.lower),
									  partition_bound_literal(info->key_type, info->pending_bound.upper)));

	if (different == NULL)
		fence_lower(partition);
	return different;
}

/*
 * Whether a partition may be dropped with its detach pending: only if nobody
 * uses the table, and nobody's replay would wait for those who do there.
 */
static bool
may_drop_pending(const Policy *policy, const ParentInfo *info)
{
	return strcmp(policy->retention_action, "drop") == 0 && !drain_is_followed() &&
		ConditionalLockRelationOid(info->relid, AccessExclusiveLock) &&
		(!OidIsValid(info->default_relid) ||
		 ConditionalLockRelationOid(info->default_relid, AccessExclusiveLock));
}

static void
stop_as_different(Oid partition, const ErrorData *different)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the detach of partition \"%s\" can't be finished, because its table was changed meanwhile",
					get_rel_name(partition)),
			 errdetail("%s%s%s", different->message, different->detail ? ": " : "",
					   different->detail ? different->detail : ""),
			 errhint("Change the table back until the partition is detached: what was added has to be dropped.")));
}

/*
 * Finishes a pending detach, and ends the partition if it is one that we
 * retire. One transaction, so there is never a table without a parent. Fails
 * with lock_not_available as long as somebody may still see the partition.
 */
void
execute_finalize(const Policy *policy, Oid partition, bool retire,
				 TimestampTz since, RetireResult *result)
{
	MemoryContext context = CurrentMemoryContext;
	Identity	saved;
	Identity	caller;
	Relation	parent;
	ParentInfo	info;
	char	   *blocker;
	ErrorData  *different;
	int64		unfinished = 0;

	result->outcome = RETIRE_GONE;
	SPI_connect();
	identity_assume(&saved, GetUserId());
	parent = open_parent(policy->parent, ShareUpdateExclusiveLock);
	partition_require_parent(parent, &info);
	table_close(parent, NoLock);
	if (info.pending_relid != partition)
	{
		identity_restore(&saved);
		SPI_finish();
		return;
	}
	blocker = drain_blocker(partition, since);
	if (blocker != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("waiting for %s", blocker)));
	execute_lock_at_once(partition, AccessExclusiveLock);
	lock_all_at_once(find_all_inheritors(partition, NoLock, NULL), AccessExclusiveLock);

	identity_assume(&caller, info.owner);
	different = finalize(&info, partition);
	if (retire)
		unfinished = execute_count_unfinished(policy, info.owner, partition);
	if (different == NULL && unfinished > 0)
		different = attach_again(&info, partition);
	else if (retire && unfinished == 0 && different != NULL && may_drop_pending(policy, &info))
		different = NULL;
	if (different != NULL)
		stop_as_different(partition, different);

	if (unfinished > 0)
		keep(unfinished, context, result);
	else if (retire)
		end_detached(policy, partition,
					 partition_bound_display(info.key_type, &info.pending_bound),
					 context, result);
	else
	{
		result->outcome = RETIRE_DETACHED;
		result->details = "finished a detach that was left pending";
	}
	identity_restore(&caller);
	identity_restore(&saved);
	SPI_finish();
}

/*
 * Ends a partition that we had detached, and whose detach somebody else has
 * finished since. Unfinished rows can't have come since it was fenced, but who
 * looks is safe.
 */
void
execute_retire_detached(const Policy *policy, Oid owner, Oid partition,
						RetireResult *result)
{
	MemoryContext context = CurrentMemoryContext;
	Identity	saved;
	int64		unfinished;

	result->outcome = RETIRE_GONE;
	SPI_connect();
	identity_assume(&saved, owner);
	execute_lock_at_once(partition, AccessExclusiveLock);
	lock_all_at_once(find_all_inheritors(partition, NoLock, NULL), AccessExclusiveLock);
	unfinished = execute_count_unfinished(policy, owner, partition);
	if (unfinished > 0)
		keep(unfinished, context, result);
	else
		end_detached(policy, partition, NULL, context, result);
	identity_restore(&saved);
	SPI_finish();
}
