/*
 * convert_clone.h
 *		An index of a table on another one.
 */
#ifndef SAGAZ_DDL_CONVERT_CLONE_H
#define SAGAZ_DDL_CONVERT_CLONE_H

#include "postgres.h"

extern void convert_clone_index(Oid index, Oid target, const char *name);

#endif							/* SAGAZ_DDL_CONVERT_CLONE_H */
