/*
 * toplevel.h
 *		Statements that can't run inside a function, from a background worker.
 */
#ifndef SAGAZ_TOPLEVEL_H
#define SAGAZ_TOPLEVEL_H

#include "postgres.h"

extern ErrorData *toplevel_execute(const char *sql, Oid role, bool first,
								   bool *first_committed);

#endif							/* SAGAZ_TOPLEVEL_H */
