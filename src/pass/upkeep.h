/*
 * upkeep.h
 *		What autovacuum doesn't do for partitioned tables.
 */
#ifndef SAGAZ_PASS_UPKEEP_H
#define SAGAZ_PASS_UPKEEP_H

#include "pass/pass.h"

extern int	upkeep_run(Pass *pass, bool *waits);

#endif							/* SAGAZ_PASS_UPKEEP_H */
