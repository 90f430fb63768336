/*
 * size.h
 *		How large a table is on disk, without opening it.
 */
#ifndef SAGAZ_CATALOG_SIZE_H
#define SAGAZ_CATALOG_SIZE_H

#include "postgres.h"

extern int64 size_of_table(Oid relid);

#endif							/* SAGAZ_CATALOG_SIZE_H */
