/*
 * names.h
 *		Names of tables and partitions: in statements, for people, and new ones.
 */
#ifndef SAGAZ_CATALOG_NAMES_H
#define SAGAZ_CATALOG_NAMES_H

#include "postgres.h"

#include "bounds/calendar.h"
#include "utils/rel.h"

extern char *names_new_partition(Relation parent, const Calendar *cal,
								 CalTime start, const CalSpan *span);
extern char *names_qualified(Oid relid);
extern const char *names_table_keyword(Oid relid);
extern char *names_display(Oid relid);
extern char *names_display_as(Oid extension_schema, Oid schema, const char *name);
extern char *names_display_from(Oid extension_schema, Oid relid);
extern char *names_display_in(Oid schema, const char *name);
extern Oid	names_extension_schema(void);

#endif							/* SAGAZ_CATALOG_NAMES_H */
