/*
 * create.c
 *		Making a partition.
 *
 * Invariant: it is made as a table by itself, with a CHECK that its bounds imply,
 * and then attached: without a scan, under ShareUpdateExclusive on the parent,
 * which no reader or writer notices. It is its table's owner who makes it.
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
#include "ddl/shape.h"
#include "ddl/unique_look.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

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
						 names_qualified(taken))));
}

/* What attaching a partition locks beside the parent, once no autovacuum has it. */
static void
lock_related(const ParentInfo *info)
{
	List	   *related = list_concat_unique_oid(parent_referenced_tables(info->relid),
												 parent_referencing_tables(info->relid));

	if (OidIsValid(info->default_relid))
		locks_end_vacuums(list_make1_oid(info->default_relid), false);
	locks_end_vacuums(related, false);
	if (OidIsValid(info->default_relid))
		locks_take_at_once(info->default_relid, AccessExclusiveLock);
	locks_take_all_at_once(related, ShareRowExclusiveLock);
}

/* A partition that is to be made. */
typedef struct NewPartition
{
	const Policy *policy;
	const ParentInfo *info;
	const PlanBound *bound;
	const KeyRange *range;		/* the same, exactly as its neighbours end and
								 * begin */
	Oid			schema;
	const char *name;
	const char *statement;
	Oid			model;			/* the partition whose shape it gets, or
								 * InvalidOid */
	const char *storage;
	CreateFill	fill;			/* NULL: it gets no rows */
	void	   *fill_arg;
} NewPartition;

/* Makes and attaches it. The parent is locked, and this is its owner. */
static Oid
create_attached(const NewPartition *new)
{
	const ParentInfo *info = new->info;
	const char *qualified = quote_qualified_identifier(get_namespace_name(new->schema), new->name);
	Oid			created;

	Assert(sagaz_has_lock(info->relid, ShareUpdateExclusiveLock));
	if (info->distributed)
		citus_prepare_nodes();
	require_place(info, new->schema, new->name);
	lock_related(info);

	sql_run(new->statement);
	created = get_relname_relid(new->name, new->schema);
	adorn_partition(info->relid, created);
	if (OidIsValid(new->model))
		shape_fill(new->policy, info, new->model, created, new->bound, new->storage);
	unique_look_prepare(info->relid, created);
	if (new->fill != NULL)
		new->fill(created, new->fill_arg);
	sql_run(psprintf("ALTER TABLE %s ATTACH PARTITION %s %s", names_qualified(info->relid),
					 qualified, key_for_values_of_range(info->kind, new->range)));
	adorn_attached(info->relid, created);
	if (OidIsValid(new->model))
		shape_finish(created);
	return created;
}

/*
 * Makes one partition and returns its OID, or InvalidOid when it is there
 * already. In a transaction or subtransaction that the caller ends.
 */
Oid
create_partition(const Policy *policy, const PlanBound *bound)
{
	return create_partition_filled(policy, bound, NULL, NULL);
}

/* The same, of one that gets rows before it is attached. */
Oid
create_partition_filled(const Policy *policy, const PlanBound *bound, CreateFill fill, void *arg)
{
	SqlSession	session;
	Identity	caller;
	Relation	parent;
	ParentInfo	info;
	PlanPolicy	plan;
	KeyRange	range;
	NewPartition new = {policy, &info, bound, &range};
	Oid			created = InvalidOid;

	sql_begin(&session, GetUserId());
	parent = locks_open_parent(policy->parent, ShareUpdateExclusiveLock);
	parent_require(parent, &info);
	policy_plan(policy, info.kind, &plan);
	identity_assume(&caller, info.owner);
	parent_range(&info, bound, &range);
	new.fill = fill;
	new.fill_arg = arg;
	new.schema = RelationGetNamespace(parent);
	new.name = names_new_partition(parent, &plan.cal, plan_nominal_start(&plan, bound), &plan.interval);
	new.model = shape_model(policy, &info);
	new.storage = storage_clauses(policy, parent);
	new.statement = standalone_statement(parent, &info, &range,
										 quote_qualified_identifier(get_namespace_name(new.schema),
																	new.name),
										 OidIsValid(new.model) ? shape_key(new.model) : new.storage);
	/* ALTER TABLE refuses a table that this session has open */
	table_close(parent, NoLock);
	if (range_is_free(&info, bound, new.name))
		created = create_attached(&new);
	identity_restore(&caller);
	sql_end(&session);
	return created;
}
