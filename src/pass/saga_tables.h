/*
 * saga_tables.h
 *		The specification's own tables.
 */
#ifndef SAGAZ_PASS_SAGA_TABLES_H
#define SAGAZ_PASS_SAGA_TABLES_H

#include "postgres.h"

#include "datatype/timestamp.h"

extern int	saga_tables_count(void);
extern const char *saga_table_name(int index);
extern void saga_table_create(int index);
extern char *saga_table_plain_details(int index, Oid *relid);
extern Oid	saga_table_require(const char *name);
extern int64 saga_table_clean_inbox(int days, TimestampTz now);

#endif							/* SAGAZ_PASS_SAGA_TABLES_H */
