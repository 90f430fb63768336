/*
 * parent.c
 *		A partitioned table and its partitions, as the catalogs have them.
 *
 * Invariant: bounds come from the relation cache, which a warm session has at
 * hand; catalogs are scanned only for what the cache doesn't tell apart.
 */
#include "catalog/parent.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/citus.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "catalog/policy.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/syscache.h"

static bool
problem_is(ParentProblem *problem, int sqlstate, const char *message,
		   const char *hint)
{
	problem->sqlstate = sqlstate;
	problem->message = message;
	problem->hint = hint;
	return false;
}

static const char *
relkind_name(char relkind)
{
	switch (relkind)
	{
		case RELKIND_FOREIGN_TABLE:
			return "a foreign table";
		case RELKIND_VIEW:
			return "a view";
		case RELKIND_MATVIEW:
			return "a materialized view";
		case RELKIND_INDEX:
		case RELKIND_PARTITIONED_INDEX:
			return "an index";
		case RELKIND_SEQUENCE:
			return "a sequence";
		case RELKIND_COMPOSITE_TYPE:
			return "a composite type";
		default:
			return "a plain table";
	}
}

/* Whether the table is one that this extension can maintain, and if not, why. */
static bool
check_parent(Relation rel, ParentProblem *problem)
{
	const char *name = RelationGetRelationName(rel);
	PartitionKey key;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return problem_is(problem, ERRCODE_WRONG_OBJECT_TYPE,
						  psprintf("\"%s\" is not a partitioned table but %s",
								   name, relkind_name(rel->rd_rel->relkind)),
						  rel->rd_rel->relkind == RELKIND_RELATION ?
						  "Use sagaz_ha.partition_table() to convert it." :
						  "Create the table with PARTITION BY RANGE on a timestamptz, timestamp, date, uuid, text, varchar, char or bigint column.");
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		return problem_is(problem, ERRCODE_WRONG_OBJECT_TYPE,
						  psprintf("\"%s\" is a temporary table", name),
						  "A temporary table is gone before it needs maintenance.");

	key = RelationGetPartitionKey(rel);
	if (key->strategy != PARTITION_STRATEGY_RANGE)
		return problem_is(problem, ERRCODE_FEATURE_NOT_SUPPORTED,
						  psprintf("table \"%s\" is partitioned by %s", name,
								   key->strategy == PARTITION_STRATEGY_LIST ? "LIST" : "HASH"),
						  "Only PARTITION BY RANGE on one column is supported.");
	if (key->partnatts != 1)
		return problem_is(problem, ERRCODE_FEATURE_NOT_SUPPORTED,
						  psprintf("table \"%s\" is partitioned by several columns", name),
						  "Only PARTITION BY RANGE on one column is supported.");
	if (key->partattrs[0] == 0)
		return problem_is(problem, ERRCODE_FEATURE_NOT_SUPPORTED,
						  psprintf("table \"%s\" is partitioned by an expression", name),
						  "Only PARTITION BY RANGE on one column is supported.");
	return true;
}

static void
unsorted(const char *name, ParentProblem *problem)
{
	problem_is(problem, ERRCODE_FEATURE_NOT_SUPPORTED,
			   psprintf("the key of table \"%s\" has a collation that doesn't sort ULIDs by time", name),
			   "Give the column COLLATE \"C\".");
}

/*
 * The kind of a column that is, or is to become, a table's key, and of which the
 * encoding was told, or not (NULL); or NULL, and why not.
 */
const KeyKind *
parent_column_kind(Relation rel, AttrNumber attnum, const char *encoding, ParentProblem *problem)
{
	const char *name = RelationGetRelationName(rel);
	Form_pg_attribute column = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
	Oid			type = column->atttypid;
	const char *choices = key_choices(type);
	const KeyKind *kind = key_kind_told(type, encoding);

	if (kind == NULL && encoding != NULL && (choices != NULL || key_kind_of(type) != NULL))
		problem_is(problem, ERRCODE_INVALID_PARAMETER_VALUE,
				   psprintf("invalid key_encoding \"%s\" for table \"%s\", whose key is of type %s",
							encoding, name, format_type_be(type)),
				   choices == NULL ? "Leave it out: a key of this type needs none." :
				   psprintf("Use %s.", choices));
	else if (kind == NULL && choices != NULL)
		problem_is(problem, ERRCODE_INVALID_PARAMETER_VALUE,
				   psprintf("key_encoding must say how the key of table \"%s\", of type %s, carries its time",
							name, format_type_be(type)),
				   psprintf("Use %s.", choices));
	else if (kind == NULL)
		problem_is(problem, ERRCODE_FEATURE_NOT_SUPPORTED,
				   psprintf("table \"%s\" is partitioned by a column of type %s",
							name, format_type_be(type)),
				   "The partition key must be a timestamptz, timestamp, date, uuid, text, varchar, char or bigint column.");
	else if (!key_sorts_well(kind, column->attcollation))
	{
		kind = NULL;
		unsorted(name, problem);
	}
	return kind;
}

/* The kind of a partitioned table's key. */
static const KeyKind *
find_kind(Relation rel, const char *encoding, ParentProblem *problem)
{
	const char *name = RelationGetRelationName(rel);
	PartitionKey key = RelationGetPartitionKey(rel);
	const KeyKind *kind = parent_column_kind(rel, key->partattrs[0], encoding, problem);

	if (kind != NULL && key->partopfamily[0] != kind->opfamily)
	{
		/* an own one could run its author's code when bounds compare */
		kind = NULL;
		problem_is(problem, ERRCODE_FEATURE_NOT_SUPPORTED,
				   psprintf("table \"%s\" is partitioned with a non-default operator class", name),
				   "Use the default operator class for the partition key.");
	}
	else if (kind != NULL && !key_sorts_well(kind, key->partcollation[0]))
	{
		kind = NULL;
		unsorted(name, problem);
	}
	return kind;
}

/* The parent's partition with a pending detach; there can be only one. */
static Oid
find_pending(Oid parent)
{
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			pending = InvalidOid;

	ScanKeyInit(&key, Anum_pg_inherits_inhparent, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(parent));
	scan = systable_beginscan(inherits, InheritsParentIndexId, true, NULL, 1, &key);
	while (!OidIsValid(pending) && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_inherits row = (Form_pg_inherits) GETSTRUCT(tuple);

		if (row->inhdetachpending)
			pending = row->inhrelid;
	}
	systable_endscan(scan);
	table_close(inherits, AccessShareLock);
	return pending;
}

/*
 * A partition's place on the time line, after the one before it. Values closer
 * together than the kind tells apart have the same time: where two bounds aren't
 * the same value, a microsecond says so, and the hole is seen.
 */
static PlanBound
place(const ParentInfo *info, const KeyRange *range, bool touches)
{
	PlanBound	bound = key_range_times(info->kind, range);

	if (info->nparts > 0)
	{
		CalTime		end = info->bounds[info->nparts - 1].upper;

		if (touches)
			bound.lower = end;
		else if (bound.lower <= end && cal_is_finite(end))
			bound.lower = end + 1;
		bound.upper = Max(bound.upper, bound.lower);
	}
	return bound;
}

/*
 * Enters one partition: among the others, or as the one being detached. It may
 * touch the one that was entered before.
 */
static void
add_partition(ParentInfo *info, Oid relid, const KeyRange *range, bool touches)
{
	PlanBound	bound = place(info, range, touches);

	if (relid == info->pending_relid)
	{
		info->pending_range = *range;
		info->pending_bound = bound;
		return;
	}
	info->relids[info->nparts] = relid;
	info->ranges[info->nparts] = *range;
	info->bounds[info->nparts++] = bound;
}

/* A bound outlives the relation cache's entry. */
static Datum
copy_datum(PartitionKey key, PartitionRangeDatumKind kind, Datum value)
{
	return kind == PARTITION_RANGE_DATUM_VALUE ?
		datumCopy(value, key->parttypbyval[0], key->parttyplen[0]) : (Datum) 0;
}

/*
 * Reads what maintenance has to know of a table whose key is encoded so; false,
 * and why, if it can't be managed.
 */
bool
parent_read_told(Relation rel, const char *encoding, ParentInfo *info, ParentProblem *problem)
{
	PartitionKey key;
	PartitionDesc desc;
	PartitionBoundInfo bounds;
	int			previous = -1;	/* the datum that the last one ends at */

	memset(info, 0, sizeof(*info));
	if (!check_parent(rel, problem))
		return false;
	key = RelationGetPartitionKey(rel);
	info->relid = RelationGetRelid(rel);
	info->owner = rel->rd_rel->relowner;
	info->key_attnum = key->partattrs[0];
	info->kind = find_kind(rel, encoding, problem);
	if (info->kind == NULL)
		return false;
	info->distributed = citus_distributes(info->relid);

	desc = RelationGetPartitionDesc(rel, false);
	info->relids = (Oid *) palloc(sizeof(Oid) * (desc->nparts + 1));
	info->ranges = (KeyRange *) palloc(sizeof(KeyRange) * (desc->nparts + 1));
	info->bounds = (PlanBound *) palloc(sizeof(PlanBound) * (desc->nparts + 1));
	if (desc->nparts == 0)
		return true;
	if (desc->detached_exist)
		info->pending_relid = find_pending(info->relid);

	bounds = desc->boundinfo;
	if (partition_bound_has_default(bounds))
		info->default_relid = desc->oids[bounds->default_index];

	/* datum i is the upper bound of partition indexes[i], if that isn't -1 */
	for (int i = 1; i < bounds->ndatums; i++)
	{
		KeyRange	range;

		if (bounds->indexes[i] < 0)
			continue;
		range.lower_kind = bounds->kind[i - 1][0];
		range.upper_kind = bounds->kind[i][0];
		range.lower = copy_datum(key, range.lower_kind, bounds->datums[i - 1][0]);
		range.upper = copy_datum(key, range.upper_kind, bounds->datums[i][0]);
		add_partition(info, desc->oids[bounds->indexes[i]], &range, previous == i - 1);
		if (desc->oids[bounds->indexes[i]] != info->pending_relid)
			previous = i;
	}
	return true;
}

/* The same as its policy says. */
bool
parent_read(Relation rel, ParentInfo *info, ParentProblem *problem)
{
	PartitionKey key = RelationGetPartitionKey(rel);
	char	   *encoding = NULL;

	/* of most types there is nothing to be told */
	if (key != NULL && key_choices(key->parttypid[0]) != NULL)
		encoding = policy_key_encoding(RelationGetRelid(rel));
	return parent_read_told(rel, encoding, info, problem);
}

static void
refuse(const ParentProblem *problem)
{
	ereport(ERROR,
			(errcode(problem->sqlstate),
			 errmsg("%s", problem->message),
			 errhint("%s", problem->hint)));
}

/* The same for callers that can't go on without. */
void
parent_require(Relation rel, ParentInfo *info)
{
	ParentProblem problem;

	if (!parent_read(rel, info, &problem))
		refuse(&problem);
}

/* The same of a table whose key is encoded so. */
void
parent_require_told(Relation rel, const char *encoding, ParentInfo *info)
{
	ParentProblem problem;

	if (!parent_read_told(rel, encoding, info, &problem))
		refuse(&problem);
}

/* The same of a table that the caller hasn't opened, under this lock. */
void
parent_require_by_oid(Oid relid, LOCKMODE mode, ParentInfo *info)
{
	Relation	rel = table_open(relid, mode);

	parent_require(rel, info);
	table_close(rel, NoLock);
}

/*
 * The bounds of a range, where it begins or ends with a partition that exists
 * those of that partition, whatever low bits they have.
 */
void
parent_range(const ParentInfo *info, const PlanBound *bound, KeyRange *range)
{
	bool		ends = false;

	key_range_of(info->kind, bound, range);
	for (int i = 0; i < info->nparts; i++)
	{
		const KeyRange *neighbour = &info->ranges[i];

		if (info->bounds[i].upper == bound->lower)
		{
			range->lower_kind = neighbour->upper_kind;
			range->lower = neighbour->upper;
		}
		if (!ends && info->bounds[i].lower == bound->upper)
		{
			range->upper_kind = neighbour->lower_kind;
			range->upper = neighbour->lower;
			ends = true;
		}
	}
}

/* The index of a partition that is attached, or -1. */
int
parent_find(const ParentInfo *info, Oid partition)
{
	for (int i = 0; i < info->nparts; i++)
		if (info->relids[i] == partition)
			return i;
	return -1;
}

/* The name of the key's column. */
char *
parent_key_name(const ParentInfo *info)
{
	return get_attname(info->relid, info->key_attnum, false);
}

/* Tables that the parent's foreign keys reference. */
List *
parent_referenced_tables(Oid parent)
{
	Relation	constraints = table_open(ConstraintRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *result = NIL;

	ScanKeyInit(&key, Anum_pg_constraint_conrelid,
				BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(parent));
	scan = systable_beginscan(constraints, ConstraintRelidTypidNameIndexId, true,
							  NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint row = (Form_pg_constraint) GETSTRUCT(tuple);

		if (row->contype == CONSTRAINT_FOREIGN)
			result = list_append_unique_oid(result, row->confrelid);
	}
	systable_endscan(scan);
	table_close(constraints, AccessShareLock);
	return result;
}

/* The table that a foreign key of another table belongs to, or InvalidOid. */
static Oid
referencing_table(Oid constraint, Oid referenced)
{
	HeapTuple	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	Form_pg_constraint row;
	Oid			result = InvalidOid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	row = (Form_pg_constraint) GETSTRUCT(tuple);
	if (row->contype == CONSTRAINT_FOREIGN && row->confrelid == referenced)
		result = row->conrelid;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * Tables whose foreign keys reference the parent. No index of pg_constraint
 * leads with confrelid, and each partition has several rows there; but a foreign
 * key depends on the columns that it references, and few things do.
 */
List *
parent_referencing_tables(Oid parent)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *result = NIL;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid,
				BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid,
				BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(parent));
	ScanKeyInit(&keys[2], Anum_pg_depend_refobjsubid,
				BTGreaterStrategyNumber, F_INT4GT, Int32GetDatum(0));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 3, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend row = (Form_pg_depend) GETSTRUCT(tuple);
		Oid			table = InvalidOid;

		if (row->classid == ConstraintRelationId)
			table = referencing_table(row->objid, parent);
		if (OidIsValid(table))
			result = list_append_unique_oid(result, table);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return result;
}

/* Tables at the other end of the parent's foreign keys, and of those that reference it. */
List *
parent_tied_tables(Oid parent)
{
	return list_concat_unique_oid(parent_referenced_tables(parent),
								  parent_referencing_tables(parent));
}
