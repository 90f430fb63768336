/*
 * register.h
 *		How each table wants to be maintained: checking and storing.
 */
#ifndef SAGAZ_CATALOG_REGISTER_H
#define SAGAZ_CATALOG_REGISTER_H

#include "catalog/policy.h"

extern void register_policy(Policy *policy);
extern void register_recheck(const Policy *policy, Oid owner);
extern void register_forget(Oid parent);
extern bool register_hold_back_drops(const Policy *policy, TimestampTz now);
extern bool register_resume_drops(Oid parent);

#endif							/* SAGAZ_CATALOG_REGISTER_H */
