/*
 * citus.h
 *		Tables that Citus distributes.
 */
#ifndef SAGAZ_CATALOG_CITUS_H
#define SAGAZ_CATALOG_CITUS_H

#include "postgres.h"

extern bool citus_distributes(Oid relid);
extern int64 citus_total_bytes(Oid relid, Oid owner);
extern void citus_prepare_nodes(void);

#endif							/* SAGAZ_CATALOG_CITUS_H */
