/*
 * expire.h
 *		Expired partitions: which have to stay, and retiring the others at once.
 */
#ifndef SAGAZ_PASS_EXPIRE_H
#define SAGAZ_PASS_EXPIRE_H

#include "ddl/retire.h"
#include "pass/pass.h"

extern bool expire_stays(Pass *pass, const TablePlan *table, const ExpiredPartition *expired);
extern void expire_take_writes(Pass *pass, Oid partition);
extern void expire_at_once(Pass *pass, const TablePlan *table, const ExpiredPartition *expired);
extern void expire_foreground(Pass *pass, TablePlan *table);
extern void expire_report(Pass *pass, const Subject *subject, const RetireResult *result);
extern bool expire_drops_are_held_back(Pass *pass, const TablePlan *table);
extern bool expire_may_go_on(Pass *pass, TablePlan *table);

#endif							/* SAGAZ_PASS_EXPIRE_H */
