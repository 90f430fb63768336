/*
 * convert_lock.h
 *		The short, strong lock of a conversion.
 */
#ifndef SAGAZ_DDL_CONVERT_LOCK_H
#define SAGAZ_DDL_CONVERT_LOCK_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

extern void convert_lock_gently(List *relids);
extern char *convert_lock_blocker(List *relids);
extern void convert_lock_prepare(List *relids);
extern TimestampTz convert_lock_strongly(List *relids, List *companions);

#endif							/* SAGAZ_DDL_CONVERT_LOCK_H */
