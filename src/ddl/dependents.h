/*
 * dependents.h
 *		What hinders retiring a partition, other than its rows and holds.
 */
#ifndef SAGAZ_DDL_DEPENDENTS_H
#define SAGAZ_DDL_DEPENDENTS_H

#include "catalog/policy.h"

extern char *dependents_reason(const Policy *policy, Oid owner, Oid partition);

#endif							/* SAGAZ_DDL_DEPENDENTS_H */
