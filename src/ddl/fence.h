/*
 * fence.h
 *		A trigger that refuses writes to a partition that is being retired.
 */
#ifndef SAGAZ_DDL_FENCE_H
#define SAGAZ_DDL_FENCE_H

#include "postgres.h"

extern void fence_raise(Oid owner, Oid partition);
extern void fence_depend_on_extension(Oid trigger);
extern void fence_lower(Oid partition);

#endif							/* SAGAZ_DDL_FENCE_H */
