/*
 * reattach.h
 *		Bringing back a partition that was detached or archived.
 */
#ifndef SAGAZ_REATTACH_H
#define SAGAZ_REATTACH_H

#include "postgres.h"

#include "bounds/plan.h"

extern bool reattach_bounds(Oid partition, const char *key_name, PlanBound *bound);
extern void reattach_remember_bounds(Oid partition, const char *key_name,
									 Oid key_type, const PlanBound *bound);
extern Oid	reattach_parent(Oid partition);
extern bool reattach_is_brought_back(Oid partition);
extern char *reattach(Oid partition, Oid parent);

#endif							/* SAGAZ_REATTACH_H */
