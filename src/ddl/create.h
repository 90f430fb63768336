/*
 * create.h
 *		Making a partition.
 */
#ifndef SAGAZ_DDL_CREATE_H
#define SAGAZ_DDL_CREATE_H

#include "catalog/policy.h"

/* Puts rows into a partition that isn't attached yet; as the table's owner. */
typedef void (*CreateFill) (Oid partition, void *arg);

extern Oid	create_partition(const Policy *policy, const PlanBound *bound);
extern Oid	create_partition_filled(const Policy *policy, const PlanBound *bound,
									CreateFill fill, void *arg);

#endif							/* SAGAZ_DDL_CREATE_H */
