/*
 * shape.c
 *		Partitions that are partitioned themselves.
 *
 * Invariant: a new partition is partitioned as the newest one is, with partitions
 * for the same values, before it is attached: nobody has seen it yet, so the locks
 * are nobody's concern. Where the values are the table's own key, which moves on
 * with time, they are steps as wide as the newest one's.
 */
#include "ddl/shape.h"

#include "access/table.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "common/hashfn.h"
#include "ddl/adorn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"

typedef struct Shape
{
	const PlanPolicy *plan;
	const char *key_name;		/* of the managed table */
	const char *key_encoding;	/* the same */
	const char *storage;		/* of a partition with rows */
	const PlanBound *bound;		/* of the new partition */
	KeyRange	range;			/* the same, exactly */
} Shape;

typedef struct Child
{
	Oid			relid;
	char	   *name;
	bool		is_partitioned;
	char	   *bound;
} Child;

static void fill(const Shape *shape, Oid model, Oid table);

/* The partition whose shape a new one gets; InvalidOid: a plain table. */
Oid
shape_model(const Policy *policy, const ParentInfo *info)
{
	Oid			newest = info->nparts > 0 ? info->relids[info->nparts - 1] : InvalidOid;

	if (policy->plain || info->distributed || !OidIsValid(newest) ||
		get_rel_relkind(newest) != RELKIND_PARTITIONED_TABLE)
		return InvalidOid;
	return newest;
}

/* PARTITION BY …. Inside SPI. */
char *
shape_key(Oid model)
{
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(model));
	(void) sql_execute("SELECT ' PARTITION BY ' || pg_get_partkeydef($1)", &args);
	return sql_text(0, 1);
}

static List *
children(Oid model)
{
	SqlArgs		args = {0};
	List	   *result = NIL;
	uint64		rows;

	sql_arg(&args, OIDOID, ObjectIdGetDatum(model));
	rows = sql_execute("SELECT c.oid, c.relname, c.relkind = 'p', pg_get_expr(c.relpartbound, c.oid)"
					   "  FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
					   " WHERE i.inhparent = $1 AND NOT i.inhdetachpending ORDER BY c.oid", &args);
	for (uint64 i = 0; i < rows; i++)
	{
		Child	   *child = (Child *) palloc(sizeof(Child));
		bool		isnull;

		child->relid = sql_oid(i, 1);
		child->name = sql_text(i, 2);
		child->is_partitioned = DatumGetBool(sql_value(i, 3, &isnull));
		child->bound = sql_text(i, 4);
		result = lappend(result, child);
	}
	return result;
}

/* A name that has to be cut gets a hash of the whole: others begin and end as it does. */
static char *
joined_name(Oid table, const char *rest)
{
	const char *own = get_rel_name(table);
	char	   *whole = psprintf("%s_%s", own, rest);
	uint32		hash = hash_bytes((const unsigned char *) whole, strlen(whole));

	return makeObjectName(own, rest, strlen(whole) < NAMEDATALEN ? NULL : psprintf("%08x", hash));
}

/* What follows the model's name in its partition's is kept. */
static char *
child_name(Oid model, const Child *child, Oid table)
{
	const char *own = get_rel_name(model);
	const char *rest = child->name;

	if (strncmp(rest, own, strlen(own)) == 0 && rest[strlen(own)] != '\0')
	{
		rest += strlen(own);
		rest += *rest == '_' && rest[1] != '\0';
	}
	return joined_name(table, rest);
}

static void
make_child(const Shape *shape, Oid table, const char *name, const char *bound, Oid model)
{
	Oid			schema = get_rel_namespace(table);
	bool		is_partitioned = get_rel_relkind(model) == RELKIND_PARTITIONED_TABLE;
	Oid			made;

	CHECK_FOR_INTERRUPTS();
	sql_run(psprintf("CREATE %sTABLE %s PARTITION OF %s %s%s",
					 get_rel_persistence(table) == RELPERSISTENCE_UNLOGGED ? "UNLOGGED " : "",
					 quote_qualified_identifier(get_namespace_name(schema), name),
					 names_qualified(table), bound,
					 is_partitioned ? shape_key(model) : shape->storage));
	made = get_relname_relid(name, schema);
	adorn_partition(table, made);
	if (is_partitioned)
		fill(shape, model, made);
}

/* Whether all partitions but the last are one span wide. */
static bool
is_width(const Shape *shape, const ParentInfo *info, const CalSpan *span)
{
	CalTime		end;

	for (int i = 0; i < info->nparts - (info->nparts > 1); i++)
		if (!cal_add(&shape->plan->cal, info->bounds[i].lower, span, 1, &end) ||
			end != info->bounds[i].upper)
			return false;
	return true;
}

/* How wide the model's partitions are: months, days, or hours. */
static CalSpan
find_width(const Shape *shape, const ParentInfo *info)
{
	const Calendar *cal = &shape->plan->cal;
	const PlanBound *first = &info->bounds[0];
	CalSpan		span = {0, 0, 0};
	int64		width;

	if (!cal_is_finite(first->lower) || !cal_is_finite(first->upper))
		return span;
	for (span.months = 1; span.months <= 12; span.months++)
		if (is_width(shape, info, &span))
			return span;
	span.months = 0;
	width = cal_to_local(cal, first->upper) - cal_to_local(cal, first->lower);
	if (width % CAL_DAY == 0)
		span.days = width / CAL_DAY;
	else
		span.usec = first->upper - first->lower;
	return span;
}

/* FOR VALUES …; the first one begins, and the last one ends, as the new partition does. */
static char *
step_bounds(const Shape *shape, const KeyKind *kind, const PlanBound *step)
{
	KeyRange	range;

	key_range_of(kind, step, &range);
	if (step->lower == shape->bound->lower)
		range.lower = shape->range.lower;
	if (step->upper == shape->bound->upper)
		range.upper = shape->range.upper;
	return key_for_values_of_range(kind, &range);
}

/* Steps over the new partition's range, as wide as the model's partitions. */
static void
fill_steps(const Shape *shape, const ParentInfo *info, Oid table)
{
	CalSpan		span = find_width(shape, info);
	PlanBound	step = {shape->bound->lower, shape->bound->lower};

	if (span.months == 0 && span.days == 0 && span.usec == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("partitions of %s have no width that could be repeated",
						names_display(info->relid)),
				 errhint("Have new partitions plain, with plain => true in sagaz_ha.manage_partitions(), or give it finite bounds.")));
	for (int n = 1; step.upper < shape->bound->upper; n++)
	{
		step.lower = step.upper;
		if (n > PLAN_MAX_CREATE)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("a partition of table %s needs more than %d partitions",
							names_display(info->relid), PLAN_MAX_CREATE)));
		if (!cal_add(&shape->plan->cal, shape->bound->lower, &span, n, &step.upper) ||
			step.upper > shape->bound->upper)
			step.upper = shape->bound->upper;
		make_child(shape, table, joined_name(table, psprintf("p%d", n)),
				   step_bounds(shape, info->kind, &step), info->relids[0]);
	}
	if (OidIsValid(info->default_relid))
		make_child(shape, table, joined_name(table, "default"), "DEFAULT",
				   info->default_relid);
}

/* Whether a partition is partitioned by the very key of the managed table. */
static bool
has_same_key(const Shape *shape, Oid model, ParentInfo *info)
{
	Relation	rel = table_open(model, AccessShareLock);
	PartitionKey key = RelationGetPartitionKey(rel);
	ParentProblem problem;
	bool		same = false;

	for (int i = 0; key->strategy == PARTITION_STRATEGY_RANGE && i < key->partnatts; i++)
		if (key->partattrs[i] != 0 &&
			strcmp(get_attname(model, key->partattrs[i], false), shape->key_name) == 0)
			same = true;
	if (same && !parent_read_told(rel, shape->key_encoding, info, &problem))
		ereport(ERROR,
				(errcode(problem.sqlstate),
				 errmsg("%s", problem.message),
				 errdetail("A new partition gets the shape of the newest one."),
				 errhint("Have new partitions plain, with plain => true in sagaz_ha.manage_partitions().")));
	table_close(rel, NoLock);
	return same && info->nparts > 0;
}

static void
fill(const Shape *shape, Oid model, Oid table)
{
	ParentInfo	info;
	ListCell   *cell;

	if (has_same_key(shape, model, &info))
	{
		fill_steps(shape, &info, table);
		return;
	}
	foreach(cell, children(model))
	{
		const Child *child = (Child *) lfirst(cell);

		make_child(shape, table, child_name(model, child, table), child->bound, child->relid);
	}
}

/* Gives a new partition, not attached yet, the partitions that the model has. Inside SPI. */
void
shape_fill(const Policy *policy, const ParentInfo *info, Oid model,
		   Oid table, const PlanBound *bound, const char *storage)
{
	PlanPolicy	plan;
	Shape		shape = {&plan, parent_key_name(info), policy->key_encoding, storage, bound};

	policy_plan(policy, info->kind, &plan);
	parent_range(info, bound, &shape.range);
	fill(&shape, model, table);
}

/* What they can have only once it is attached. */
void
shape_finish(Oid table)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(table, NoLock, NULL))
	{
		if (lfirst_oid(cell) != table)
			(void) adorn_attached(get_partition_parent(lfirst_oid(cell), false), lfirst_oid(cell));
	}
}
