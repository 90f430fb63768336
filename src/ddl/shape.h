/*
 * shape.h
 *		Partitions that are partitioned themselves.
 */
#ifndef SAGAZ_DDL_SHAPE_H
#define SAGAZ_DDL_SHAPE_H

#include "postgres.h"

#include "catalog/parent.h"
#include "catalog/policy.h"

extern Oid	shape_model(const Policy *policy, const ParentInfo *info);
extern char *shape_key(Oid model);
extern void shape_fill(const Policy *policy, const ParentInfo *info, Oid model,
					   Oid table, const PlanBound *bound, const char *storage);
extern void shape_finish(Oid table);

#endif							/* SAGAZ_DDL_SHAPE_H */
