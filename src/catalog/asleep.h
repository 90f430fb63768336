/*
 * asleep.h
 *		Tables whose policy came in a restore, until they are whole.
 */
#ifndef SAGAZ_CATALOG_ASLEEP_H
#define SAGAZ_CATALOG_ASLEEP_H

#include "postgres.h"

extern void asleep_begin(Oid parent);
extern void asleep_end(Oid parent);
extern char *asleep_reason(Oid parent);
extern bool asleep_is_stable(Oid parent);

#endif							/* SAGAZ_CATALOG_ASLEEP_H */
