/*
 * unique_look.h
 *		Looking for duplicates among rows that exist.
 */
#ifndef SAGAZ_DDL_UNIQUE_LOOK_H
#define SAGAZ_DDL_UNIQUE_LOOK_H

#include "postgres.h"

#include "catalog/unique_key.h"
#include "nodes/parsenodes.h"

extern bool unique_look_is_needless(Oid table);
extern void unique_look(const UniqueKeyRow *row, List *columns, TimestampTz now);
extern void unique_look_prepare(Oid table, Oid partition);
extern void unique_look_after_ddl(Node *statement, TimestampTz now);

#endif							/* SAGAZ_DDL_UNIQUE_LOOK_H */
