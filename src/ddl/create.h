/*
 * create.h
 *		Making a partition.
 */
#ifndef SAGAZ_DDL_CREATE_H
#define SAGAZ_DDL_CREATE_H

#include "catalog/policy.h"

/* Puts rows into a partition that isn't attached yet; as the table's owner. */
typedef void (*CreateFill) (Oid partition, void *arg);

/* A table that is to be attached, or has been. */
typedef struct NewPartition
{
	PlanBound	bound;
	Oid			relid;
	bool		has_shape;		/* it has partitions itself */
} NewPartition;

extern bool create_table(const Policy *policy, const PlanBound *bound, int patience,
						 NewPartition *new);
extern void create_attach(const Policy *policy, const NewPartition *new, TimestampTz until);
extern Oid	create_partition(const Policy *policy, const PlanBound *bound, int patience);
extern Oid	create_partition_filled(const Policy *policy, const PlanBound *bound,
									CreateFill fill, void *arg);

#endif							/* SAGAZ_DDL_CREATE_H */
