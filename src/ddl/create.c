/*
 * create.c
 *		Making a partition.
 *
 * Invariant: it is made as a table by itself, with a CHECK that its bounds imply,
 * and then attached: without a scan, under ShareUpdateExclusive on the parent,
 * which no reader or writer notices. Only of a table that nobody uses it is made at
 * once as a partition, with the same result. It is its table's owner who makes it.
 */
#include "ddl/create.h"

#include "access/table.h"
#include "base/compat.h"
#include "base/sql.h"
#include "catalog/citus.h"
#include "catalog/names.h"
#include "catalog/parent.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "ddl/adorn.h"
#include "ddl/bounds_check.h"
#include "ddl/locks.h"
#include "ddl/protect.h"
#include "ddl/shape.h"
#include "ddl/unique_look.h"
#include "ddl/unused.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/*
 * Whether a range is free. Another session may have made the same
 * partition since the plan was made, which is no error; another one in its place is.
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
							name, names_display(info->relids[i])),
					 errdetail("The new partition's range is %s, the existing one's %s.",
							   key_display(info->kind, bound),
							   key_display(info->kind, &info->bounds[i]))));
	}
	return true;
}

static char *
storage_clauses(const Policy *policy, Relation parent)
{
	StringInfoData clauses;
	StringInfo	sql = &clauses;
	const char *separator = " WITH (";
	const char *tablespace = policy->tablespace;
	ListCell   *cell;

	initStringInfo(sql);
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
	return sql->data;
}

/* Attaching a partition looks for its rows in a default one. */
static List *
default_of(const ParentInfo *info)
{
	return OidIsValid(info->default_relid) ? list_make1_oid(info->default_relid) : NIL;
}

/* CREATE TABLE, of the table by itself. */
static char *
standalone_statement(Relation parent, const ParentInfo *info, const KeyRange *range,
					 const char *qualified_name, const char *rest)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE %sTABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY, %s)%s",
					 parent->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED ? "UNLOGGED " : "",
					 qualified_name, names_qualified(info->relid),
					 bounds_check_clause(parent_key_name(info), info->kind, range), rest);
	return sql.data;
}

/* CREATE TABLE, of the partition. */
static char *
partition_statement(const PlaceToCreate *place, const char *name, const KeyRange *range)
{
	const ParentInfo *info = &place->info;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE %sTABLE %s PARTITION OF %s (%s) %s%s",
					 place->unlogged ? "UNLOGGED " : "",
					 quote_qualified_identifier(get_namespace_name(place->schema), name),
					 names_qualified(info->relid),
					 bounds_check_clause(parent_key_name(info), info->kind, range),
					 key_for_values_of_range(info->kind, range), place->storage);
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
				(errcode(ERRCODE_OBJECT_IN_USE),
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
						 names_qualified(taken))));
}

/* What attaching a partition locks beside the parent, once no autovacuum has it. */
static void
end_vacuums(const ParentInfo *info)
{
	locks_end_vacuums(default_of(info), false);
	locks_end_vacuums(parent_tied_tables(info->relid), false);
}

/* What a partition's table is made of. */
typedef struct Making
{
	const Policy *policy;
	const ParentInfo *info;
	const PlanBound *bound;
	Oid			schema;
	const char *name;
	const char *statement;
	Oid			model;			/* the partition whose shape it gets, or
								 * InvalidOid */
	const char *storage;
} Making;

/* Makes it. The parent is locked, and this is its owner. */
static Oid
make_table(const Making *making, int patience)
{
	const ParentInfo *info = making->info;
	Oid			created;

	Assert(sagaz_has_lock(info->relid, ShareUpdateExclusiveLock));
	if (info->distributed)
		citus_prepare_nodes();
	require_place(info, making->schema, making->name);
	end_vacuums(info);
	if (patience == 0)
	{
		locks_probe(parent_tied_tables(info->relid), ShareRowExclusiveLock);
		locks_probe(default_of(info), AccessExclusiveLock);
	}
	sql_run(making->statement);
	created = get_relname_relid(making->name, making->schema);
	adorn_partition(info->relid, created);
	if (OidIsValid(making->model))
		shape_fill(making->policy, info, making->model, created, making->bound, making->storage);
	unique_look_prepare(info->relid, created);
	return created;
}

/*
 * Makes a table for a new partition, not attached yet; false if the partition is
 * there already. Without patience it is first looked whether it could be attached.
 */
bool
create_table(const Policy *policy, const PlanBound *bound, int patience, NewPartition *new)
{
	SqlSession	session;
	Identity	caller;
	Relation	parent;
	ParentInfo	info;
	PlanPolicy	plan;
	KeyRange	range;
	Making		making = {policy, &info, bound};

	new->bound = *bound;
	new->relid = InvalidOid;
	sql_begin(&session, GetUserId());
	parent = locks_open_parent(policy->parent, ShareUpdateExclusiveLock);
	parent_require(parent, &info);
	policy_plan(policy, info.kind, &plan);
	identity_assume(&caller, info.owner);
	parent_range(&info, bound, &range);
	making.schema = RelationGetNamespace(parent);
	making.name = names_new_partition(parent, &plan.cal, plan_nominal_start(&plan, bound),
									  &plan.interval);
	making.model = shape_model(policy, &info);
	making.storage = storage_clauses(policy, parent);
	making.statement = standalone_statement(parent, &info, &range,
											quote_qualified_identifier(get_namespace_name(making.schema),
																	   making.name),
											OidIsValid(making.model) ? shape_key(making.model) :
											making.storage);
	new->has_shape = OidIsValid(making.model);
	/* ALTER TABLE refuses a table that this session has open */
	table_close(parent, NoLock);
	if (range_is_free(&info, bound, making.name))
		new->relid = make_table(&making, patience);
	identity_restore(&caller);
	sql_end(&session);
	return OidIsValid(new->relid);
}

/* Has TRUNCATE refused of it, or of all that it consists of. Nobody else has it yet. */
static void
guard(const NewPartition *new, TimestampTz until)
{
	ListCell   *cell;

	if (!new->has_shape)
		protect_guard(new->relid, until);
	else
		foreach(cell, protect_unguarded(new->relid))
			protect_guard(lfirst_oid(cell), until);
}

/* Attaches it, with locks that are waited for until then. */
void
create_attach(const Policy *policy, const NewPartition *new, TimestampTz until)
{
	SqlSession	session;
	Identity	saved;
	ParentInfo	info;
	KeyRange	range;

	sql_begin(&session, GetUserId());
	Assert(sagaz_has_lock(policy->parent, ShareUpdateExclusiveLock));
	parent_require_by_oid(policy->parent, NoLock, &info);
	identity_assume(&saved, info.owner);
	if (info.distributed)
		citus_prepare_nodes();
	locks_take_until(parent_tied_tables(info.relid), ShareRowExclusiveLock, until);
	/* last, because readers notice it as well */
	locks_take_until(default_of(&info), AccessExclusiveLock, until);
	parent_range(&info, &new->bound, &range);
	sql_run(psprintf("ALTER TABLE %s ATTACH PARTITION %s %s", names_qualified(info.relid),
					 names_qualified(new->relid), key_for_values_of_range(info.kind, &range)));
	(void) adorn_attached(info.relid, new->relid);
	if (new->has_shape)
		shape_finish(new->relid);
	if (policy->protect)
		guard(new, until);
	identity_restore(&saved);
	sql_end(&session);
}

/*
 * Makes one partition and returns its OID, or InvalidOid when it is there
 * already. In a transaction or subtransaction that the caller ends.
 */
Oid
create_partition(const Policy *policy, const PlanBound *bound, int patience)
{
	NewPartition new;

	if (create_table(policy, bound, patience, &new))
		create_attach(policy, &new, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), patience));
	return new.relid;
}

/*
 * Takes a table that nobody uses until the end of the transaction; NULL if that
 * isn't so. What is read of it stays true meanwhile, but for what is made.
 */
PlaceToCreate *
create_take_unused(const Policy *policy)
{
	PlaceToCreate *place = (PlaceToCreate *) palloc0(sizeof(PlaceToCreate));
	MemoryContext context = CurrentMemoryContext;
	SqlSession	session;
	Relation	parent;
	bool		taken;

	sql_begin(&session, GetUserId());
	parent = locks_open_parent(policy->parent, ShareUpdateExclusiveLock);
	MemoryContextSwitchTo(context);
	parent_require(parent, &place->info);
	policy_plan(policy, place->info.kind, &place->plan);
	place->schema = RelationGetNamespace(parent);
	place->unlogged = parent->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED;
	place->storage = storage_clauses(policy, parent);
	table_close(parent, NoLock);
	taken = !OidIsValid(shape_model(policy, &place->info)) && unused_take(&place->info);
	sql_end(&session);
	return taken ? place : NULL;
}

/* Makes a partition of a table that was taken; false if it is there already. */
bool
create_in_place(const Policy *policy, PlaceToCreate *place, const PlanBound *bound,
				NewPartition *new)
{
	const ParentInfo *info = &place->info;
	Relation	parent = table_open(info->relid, NoLock);
	SqlSession	session;
	KeyRange	range;
	char	   *name = names_new_partition(parent, &place->plan.cal,
										   plan_nominal_start(&place->plan, bound),
										   &place->plan.interval);

	table_close(parent, NoLock);
	new->bound = *bound;
	new->relid = InvalidOid;
	new->has_shape = false;
	if (!range_is_free(info, bound, name))
		return false;
	sql_begin(&session, info->owner);
	parent_range(info, bound, &range);
	require_place(info, place->schema, name);
	sql_run(partition_statement(place, name, &range));
	new->relid = get_relname_relid(name, place->schema);
	if (!place->needs_nothing)
		place->needs_nothing = !adorn_made_in_place(info->relid, new->relid);
	if (policy->protect)
		guard(new, GetCurrentTimestamp());
	sql_end(&session);
	return true;
}

static void
fill_table(const Policy *policy, const NewPartition *new, CreateFill fill, void *arg)
{
	SqlSession	session;
	Identity	saved;
	ParentInfo	info;

	sql_begin(&session, GetUserId());
	parent_require_by_oid(policy->parent, NoLock, &info);
	identity_assume(&saved, info.owner);

	/*
	 * no row may come to the default partition after the look of whoever
	 * fills
	 */
	locks_take_all_at_once(default_of(&info), AccessExclusiveLock);
	fill(new->relid, arg);
	identity_restore(&saved);
	sql_end(&session);
}

/* The same, of one that gets rows before it is attached; with no patience. */
Oid
create_partition_filled(const Policy *policy, const PlanBound *bound, CreateFill fill, void *arg)
{
	NewPartition new;

	if (create_table(policy, bound, 0, &new))
	{
		fill_table(policy, &new, fill, arg);
		create_attach(policy, &new, GetCurrentTimestamp());
	}
	return new.relid;
}
