/*
 * retire.h
 *		The worker's way of retiring partitions: no lock that anybody notices.
 */
#ifndef SAGAZ_RETIRE_H
#define SAGAZ_RETIRE_H

#include "pass/maintain.h"

extern void retire_background(Pass *pass, TablePlan *table);
extern void retire_leftovers(Pass *pass);

#endif							/* SAGAZ_RETIRE_H */
