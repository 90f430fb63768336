/*
 * hold.h
 *		Partitions that stay however old they are.
 */
#ifndef SAGAZ_CATALOG_HOLD_H
#define SAGAZ_CATALOG_HOLD_H

#include "postgres.h"

#include "datatype/timestamp.h"

extern char *hold_reason(Oid partition);
extern void hold_add(Oid partition, const char *reason, TimestampTz now);
extern bool hold_remove(Oid partition);

#endif							/* SAGAZ_CATALOG_HOLD_H */
