/*
 * unused.h
 *		Taking a table that nobody uses.
 */
#ifndef SAGAZ_DDL_UNUSED_H
#define SAGAZ_DDL_UNUSED_H

#include "catalog/parent.h"
#include "nodes/pg_list.h"

extern bool unused_take(const ParentInfo *info);
extern bool unused_is_wanted(List *parents);

#endif							/* SAGAZ_DDL_UNUSED_H */
