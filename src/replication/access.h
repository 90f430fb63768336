/*
 * access.h
 *		Who may see the details of replication.
 */
#ifndef SAGAZ_REPLICATION_ACCESS_H
#define SAGAZ_REPLICATION_ACCESS_H

#include "postgres.h"

extern void replication_access_require(const char *function);

#endif							/* SAGAZ_REPLICATION_ACCESS_H */
