/*
 * partition.c
 *		A partitioned table and its partitions, as the catalogs have them.
 *
 * Bounds come from the relation cache, which a warm session has at hand; the
 * catalogs themselves are read only for what the cache doesn't tell apart.
 */
#include "catalog/parent.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

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
bool
partition_check_parent(Relation rel, ParentProblem *problem)
{
	const char *name = RelationGetRelationName(rel);
	PartitionKey key;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return problem_is(problem, ERRCODE_WRONG_OBJECT_TYPE,
						  psprintf("\"%s\" is not a partitioned table but %s",
								   name, relkind_name(rel->rd_rel->relkind)),
						  "Create the table with PARTITION BY RANGE on a timestamptz, timestamp or date column.");
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		return problem_is(problem, ERRCODE_WRONG_OBJECT_TYPE,
						  psprintf("\"%s\" is a temporary table", name),
						  "A temporary table is gone before it needs maintenance.");

	key = RelationGetPartitionKey(rel);
	if (key->strategy != PARTITION_STRATEGY_RANGE)
		return problem_is(problem, ERRCODE_FEATURE_NOT_SUPPORTED,
						  psprintf("table \"%s\" is partitioned by %s", name,
								   key->strategy == PARTITION_STRATEGY_LIST ? "LIST" : "HASH"),
						  "Only PARTITION BY RANGE on one timestamptz, timestamp or date column is supported.");
	if (key->partnatts != 1)
		return problem_is(problem, ERRCODE_FEATURE_NOT_SUPPORTED,
						  psprintf("table \"%s\" is partitioned by several columns", name),
						  "Only PARTITION BY RANGE on one timestamptz, timestamp or date column is supported.");
	if (key->partattrs[0] == 0)
		return problem_is(problem, ERRCODE_FEATURE_NOT_SUPPORTED,
						  psprintf("table \"%s\" is partitioned by an expression", name),
						  "Only PARTITION BY RANGE on one timestamptz, timestamp or date column is supported.");
	if (key->parttypid[0] != TIMESTAMPTZOID &&
		key->parttypid[0] != TIMESTAMPOID && key->parttypid[0] != DATEOID)
		return problem_is(problem, ERRCODE_FEATURE_NOT_SUPPORTED,
						  psprintf("table \"%s\" is partitioned by a column of type %s",
								   name, format_type_be(key->parttypid[0])),
						  "The partition key must be a timestamptz, timestamp or date column.");

	/* an own operator class could run its author's code when bounds compare */
	if (key->partopfamily[0] != DATETIME_BTREE_FAMILY)
		return problem_is(problem, ERRCODE_FEATURE_NOT_SUPPORTED,
						  psprintf("table \"%s\" is partitioned with a non-default operator class", name),
						  "Use the default operator class for the partition key.");
	return true;
}

/* A value of the key as time. Infinite dates and timestamps become our own. */
CalTime
partition_key_time(Oid key_type, Datum value)
{
	DateADT		date;

	/* -infinity and infinity are the least and the greatest value here too */
	if (key_type != DATEOID)
		return DatumGetTimestamp(value);
	date = DatumGetDateADT(value);
	if (DATE_IS_NOBEGIN(date))
		return CAL_MINUS_INFINITY;
	if (DATE_IS_NOEND(date) || date >= CAL_END / CAL_DAY)
		return CAL_INFINITY;
	return date * CAL_DAY;
}

static CalTime
bound_time(Oid key_type, PartitionRangeDatumKind kind, Datum value)
{
	if (kind == PARTITION_RANGE_DATUM_MINVALUE)
		return CAL_MINUS_INFINITY;
	if (kind == PARTITION_RANGE_DATUM_MAXVALUE)
		return CAL_INFINITY;
	return partition_key_time(key_type, value);
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

/* Reads what maintenance has to know; false, and why, if it can't be managed. */
bool
partition_read_parent(Relation rel, ParentInfo *info, ParentProblem *problem)
{
	PartitionKey key;
	PartitionDesc desc;
	PartitionBoundInfo bounds;

	memset(info, 0, sizeof(*info));
	if (!partition_check_parent(rel, problem))
		return false;
	key = RelationGetPartitionKey(rel);
	info->relid = RelationGetRelid(rel);
	info->owner = rel->rd_rel->relowner;
	info->key_attnum = key->partattrs[0];
	info->key_type = key->parttypid[0];

	desc = RelationGetPartitionDesc(rel, false);
	info->relids = (Oid *) palloc(sizeof(Oid) * (desc->nparts + 1));
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
		int			part = bounds->indexes[i];
		PlanBound	bound;

		if (part < 0)
			continue;
		bound.lower = bound_time(info->key_type, bounds->kind[i - 1][0],
								 bounds->datums[i - 1][0]);
		bound.upper = bound_time(info->key_type, bounds->kind[i][0],
								 bounds->datums[i][0]);
		if (desc->oids[part] == info->pending_relid)
		{
			info->pending_bound = bound;
			continue;
		}
		info->relids[info->nparts] = desc->oids[part];
		info->bounds[info->nparts++] = bound;
	}
	return true;
}

/* The same for callers that can't go on without. */
void
partition_require_parent(Relation rel, ParentInfo *info)
{
	ParentProblem problem;

	if (!partition_read_parent(rel, info, &problem))
		ereport(ERROR,
				(errcode(problem.sqlstate),
				 errmsg("%s", problem.message),
				 errhint("%s", problem.hint)));
}

/* Tables that the parent's foreign keys reference. */
List *
partition_referenced_tables(Oid parent)
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
partition_referencing_tables(Oid parent)
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

/*
 * The name for a partition that begins here. A parent's name that is too long
 * for the suffix is cut and gets a hash of the whole, so that two parents with
 * a long common beginning don't collide.
 */
char *
partition_name(Relation parent, const Calendar *cal, CalTime start,
			   const CalSpan *span)
{
	const char *name = RelationGetRelationName(parent);
	int			len = strlen(name);
	char		suffix[CAL_SUFFIX_SIZE];
	char		hash[10];
	int			room;

	cal_suffix(cal, start, span, suffix);
	room = NAMEDATALEN - 1 - (int) strlen(suffix);
	if (len <= room)
		return psprintf("%s%s", name, suffix);
	snprintf(hash, sizeof(hash), "_%08x",
			 DatumGetUInt32(hash_any((const unsigned char *) name, len)));
	len = pg_mbcliplen(name, len, room - (int) strlen(hash));
	return psprintf("%.*s%s%s", len, name, hash, suffix);
}

/* A bound as it is written, and read again, whatever DateStyle and TimeZone. */
static char *
format_time(Oid key_type, CalTime value)
{
	char		buf[MAXDATELEN + 1];
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(value, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("partition bound out of range")));
	tm.tm_isdst = 0;			/* or else the offset isn't written */
	if (key_type == DATEOID)
		EncodeDateOnly(&tm, USE_ISO_DATES, buf);
	else
		EncodeDateTime(&tm, fsec, key_type == TIMESTAMPTZOID, 0, NULL,
					   USE_ISO_DATES, buf);
	return pstrdup(buf);
}

char *
partition_bound_literal(Oid key_type, CalTime value)
{
	return psprintf("%s::%s", quote_literal_cstr(format_time(key_type, value)),
					format_type_be_qualified(key_type));
}

/* "2025-01-01 00:00:00+00 to 2025-02-01 00:00:00+00", for people */
char *
partition_bound_display(Oid key_type, const PlanBound *bound)
{
	return psprintf("%s to %s",
					bound->lower == CAL_MINUS_INFINITY ? "-infinity" :
					format_time(key_type, bound->lower),
					bound->upper == CAL_INFINITY ? "infinity" :
					format_time(key_type, bound->upper));
}

/* An instant, whatever DateStyle and TimeZone. */
char *
partition_time_display(TimestampTz t)
{
	return format_time(TIMESTAMPTZOID, t);
}

/* schema.name, quoted, for a statement; NULL when the relation is gone */
char *
partition_qualified_name(Oid relid)
{
	char	   *name = get_rel_name(relid);
	char	   *schema;

	if (name == NULL)
		return NULL;
	schema = get_namespace_name(get_rel_namespace(relid));
	return quote_qualified_identifier(schema, name);
}

/*
 * The name that people read, whatever search_path is: as in a statement, but
 * without the schema where that is the extension's own.
 */
char *
partition_display_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		return NULL;
	if (get_rel_namespace(relid) == sagaz_extension_schema())
		return pstrdup(quote_identifier(name));
	return partition_qualified_name(relid);
}

/* The schema that CREATE EXTENSION put the specification's names in. */
Oid
sagaz_extension_schema(void)
{
	Relation	extensions = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			schema = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("sagaz_ha"));
	scan = systable_beginscan(extensions, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(extensions, AccessShareLock);
	return schema;
}
