/*
 * partition.h
 *		A partitioned table and its partitions, as the catalogs have them.
 */
#ifndef SAGAZ_PARTITION_H
#define SAGAZ_PARTITION_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "bounds/plan.h"
#include "utils/rel.h"

/* pg_opfamily's datetime_ops, which has no symbol */
#define DATETIME_BTREE_FAMILY	434

typedef struct ParentInfo
{
	Oid			relid;
	Oid			owner;
	AttrNumber	key_attnum;
	Oid			key_type;		/* timestamptz, timestamp or date */
	int			nparts;
	Oid		   *relids;			/* sorted by bound, as bounds[] */
	PlanBound  *bounds;
	Oid			default_relid;	/* the default partition, or InvalidOid */
	Oid			pending_relid;	/* partition whose detach is pending, or InvalidOid */
	PlanBound	pending_bound;
} ParentInfo;

/* Why a table can't be managed. */
typedef struct ParentProblem
{
	int			sqlstate;
	const char *message;
	const char *hint;
} ParentProblem;

extern bool partition_check_parent(Relation rel, ParentProblem *problem);
extern bool partition_read_parent(Relation rel, ParentInfo *info,
								  ParentProblem *problem);
extern void partition_require_parent(Relation rel, ParentInfo *info);
extern CalTime partition_key_time(Oid key_type, Datum value);
extern List *partition_referenced_tables(Oid parent);
extern List *partition_referencing_tables(Oid parent);
extern char *partition_name(Relation parent, const Calendar *cal,
							CalTime start, const CalSpan *span);
extern char *partition_bound_literal(Oid key_type, CalTime value);
extern char *partition_bound_display(Oid key_type, const PlanBound *bound);
extern char *partition_time_display(TimestampTz t);
extern char *partition_qualified_name(Oid relid);
extern char *partition_display_name(Oid relid);
extern Oid	sagaz_extension_schema(void);

#endif							/* SAGAZ_PARTITION_H */
