/*
 * create.h
 *		A pass makes what is missing; a partition is made by hand.
 */
#ifndef SAGAZ_PASS_CREATE_H
#define SAGAZ_PASS_CREATE_H

#include "pass/pass.h"

extern void create_missing(Pass *pass, List *tables);
extern char *create_at(Policy *policy, const ParentInfo *info, CalTime at, TimestampTz now);

#endif							/* SAGAZ_PASS_CREATE_H */
