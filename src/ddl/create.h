/*
 * create.h
 *		Making a partition.
 */
#ifndef SAGAZ_DDL_CREATE_H
#define SAGAZ_DDL_CREATE_H

#include "catalog/policy.h"

extern Oid	create_partition(const Policy *policy, const PlanBound *bound);

#endif							/* SAGAZ_DDL_CREATE_H */
