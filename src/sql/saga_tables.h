/*
 * saga_tables.h
 *		The specification's own tables.
 */
#ifndef SAGAZ_SAGA_TABLES_H
#define SAGAZ_SAGA_TABLES_H

#include "postgres.h"

extern int	saga_tables_count(void);
extern const char *saga_table_name(int index);
extern void saga_table_create(int index);

#endif							/* SAGAZ_SAGA_TABLES_H */
