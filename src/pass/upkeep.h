/*
 * upkeep.h
 *		What autovacuum doesn't do for partitioned tables.
 */
#ifndef SAGAZ_UPKEEP_H
#define SAGAZ_UPKEEP_H

#include "pass/maintain.h"

extern void upkeep_run(Pass *pass);

#endif							/* SAGAZ_UPKEEP_H */
