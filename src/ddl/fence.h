/*
 * fence.h
 *		A trigger that refuses writes to a partition that is being retired.
 */
#ifndef SAGAZ_FENCE_H
#define SAGAZ_FENCE_H

#include "catalog/parent.h"

extern void fence_raise(Oid owner, Oid partition);
extern bool fence_is_up(Oid partition);
extern void fence_lower(Oid partition);

#endif							/* SAGAZ_FENCE_H */
