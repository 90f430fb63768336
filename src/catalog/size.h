/*
 * size.h
 *		How large a table is on disk, without opening it.
 */
#ifndef SAGAZ_CATALOG_SIZE_H
#define SAGAZ_CATALOG_SIZE_H

#include "postgres.h"

typedef struct SizeReader SizeReader;

extern SizeReader *size_begin(int ntables);
extern int64 size_of_table(SizeReader *reader, Oid relid);
extern void size_end(SizeReader *reader);
extern bool size_has_no_page(Oid relid);

#endif							/* SAGAZ_CATALOG_SIZE_H */
