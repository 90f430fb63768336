/*
 * reattach.h
 *		Bringing back a partition that was detached or archived.
 */
#ifndef SAGAZ_DDL_REATTACH_H
#define SAGAZ_DDL_REATTACH_H

#include "postgres.h"

extern char *reattach_partition(Oid partition, Oid parent);

#endif							/* SAGAZ_DDL_REATTACH_H */
