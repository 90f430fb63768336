/*
 * create.h
 *		Making a partition.
 */
#ifndef SAGAZ_DDL_CREATE_H
#define SAGAZ_DDL_CREATE_H

#include "catalog/policy.h"

/* A table that is to be attached, or has been. */
typedef struct NewPartition
{
	PlanBound	bound;
	Oid			relid;
	bool		has_shape;		/* it has partitions itself */
} NewPartition;

extern bool create_table(const Policy *policy, const PlanBound *bound, int patience,
						 NewPartition *new);
extern void create_attach(const Policy *policy, const NewPartition *new, int patience);
extern Oid	create_partition(const Policy *policy, const PlanBound *bound, int patience);

#endif							/* SAGAZ_DDL_CREATE_H */
