/*
 * toplevel.h
 *		Statements that can't run inside a function, from a background worker.
 */
#ifndef SAGAZ_TOPLEVEL_H
#define SAGAZ_TOPLEVEL_H

#include "postgres.h"

#include "base/attempt.h"

extern ErrorData *toplevel_execute(const char *sql, Oid role, bool *first_committed);
extern ErrorData *toplevel_execute_limited(const char *sql, Oid role, Oid table,
										   bool *first_committed);
extern ErrorData *toplevel_execute_first(const char *sql, Oid role, AttemptStep with_first,
										 void *arg, bool *first_committed);

#endif							/* SAGAZ_TOPLEVEL_H */
