/*
 * hook.h
 *		The function that a policy's before_drop names.
 */
#ifndef SAGAZ_CATALOG_HOOK_H
#define SAGAZ_CATALOG_HOOK_H

#include "postgres.h"

extern char *hook_name(Oid function);
extern Oid	hook_require(const char *name, Oid owner);

#endif							/* SAGAZ_CATALOG_HOOK_H */
