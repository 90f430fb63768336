/*
 * parent.h
 *		A partitioned table and its partitions, as the catalogs have them.
 */
#ifndef SAGAZ_CATALOG_PARENT_H
#define SAGAZ_CATALOG_PARENT_H

#include "postgres.h"

#include "catalog/key.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/rel.h"

typedef struct ParentInfo
{
	Oid			relid;
	Oid			owner;
	AttrNumber	key_attnum;
	const KeyKind *kind;
	bool		distributed;	/* by Citus */
	int			nparts;
	Oid		   *relids;			/* sorted by bound, as ranges[] and bounds[] */
	KeyRange   *ranges;
	PlanBound  *bounds;
	Oid			default_relid;	/* the default partition, or InvalidOid */
	Oid			pending_relid;	/* partition whose detach is pending, or
								 * InvalidOid */
	KeyRange	pending_range;
	PlanBound	pending_bound;
} ParentInfo;

/* Why a table can't be managed. */
typedef struct ParentProblem
{
	int			sqlstate;
	const char *message;
	const char *hint;
} ParentProblem;

extern const KeyKind *parent_column_kind(Relation rel, AttrNumber attnum, const char *encoding,
										 ParentProblem *problem);
extern bool parent_read(Relation rel, ParentInfo *info, ParentProblem *problem);
extern bool parent_read_told(Relation rel, const char *encoding, ParentInfo *info,
							 ParentProblem *problem);
extern void parent_range(const ParentInfo *info, const PlanBound *bound, KeyRange *range);
extern void parent_require(Relation rel, ParentInfo *info);
extern void parent_require_told(Relation rel, const char *encoding, ParentInfo *info);
extern void parent_require_by_oid(Oid relid, LOCKMODE mode, ParentInfo *info);
extern int	parent_find(const ParentInfo *info, Oid partition);
extern char *parent_key_name(const ParentInfo *info);
extern List *parent_referenced_tables(Oid parent);
extern List *parent_referencing_tables(Oid parent);
extern List *parent_tied_tables(Oid parent);

#endif							/* SAGAZ_CATALOG_PARENT_H */
