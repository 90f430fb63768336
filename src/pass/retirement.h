/*
 * retirement.h
 *		The worker's way of retiring partitions: no lock that a client notices.
 */
#ifndef SAGAZ_PASS_RETIREMENT_H
#define SAGAZ_PASS_RETIREMENT_H

#include "pass/pass.h"

extern void retirement_go_on(Pass *pass, TablePlan *table);

#endif							/* SAGAZ_PASS_RETIREMENT_H */
