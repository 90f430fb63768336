/*
 * widen.h
 *		Closing a hole between two partitions by making one of them wider.
 */
#ifndef SAGAZ_DDL_WIDEN_H
#define SAGAZ_DDL_WIDEN_H

#include "postgres.h"

#include "catalog/policy.h"

extern Oid	widen_over_hole(const Policy *policy, const PlanBound *hole);

#endif							/* SAGAZ_DDL_WIDEN_H */
