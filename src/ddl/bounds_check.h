/*
 * bounds_check.h
 *		The CHECK constraint that a partition's bounds imply.
 */
#ifndef SAGAZ_DDL_BOUNDS_CHECK_H
#define SAGAZ_DDL_BOUNDS_CHECK_H

#include "postgres.h"

#include "catalog/key.h"

extern char *bounds_check_clause(const char *key_name, const KeyKind *kind,
								 const KeyRange *range);
extern bool bounds_check_find(Oid partition, const char *key_name, const KeyKind *kind,
							  KeyRange *range);
extern void bounds_check_remember(Oid partition, const char *key_name, const KeyKind *kind,
								  const KeyRange *range);

#endif							/* SAGAZ_DDL_BOUNDS_CHECK_H */
