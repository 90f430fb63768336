/*
 * protect.h
 *		Refusing what would lose rows of a protected partition by accident.
 */
#ifndef SAGAZ_DDL_PROTECT_H
#define SAGAZ_DDL_PROTECT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/nodes.h"
#include "nodes/pg_list.h"

extern void protect_check_statement(Node *statement);
extern void protect_check_truncate(Oid relid);
extern void protect_let_through(void);
extern List *protect_unguarded(Oid parent);
extern void protect_guard(Oid relid, TimestampTz until);

#endif							/* SAGAZ_DDL_PROTECT_H */
