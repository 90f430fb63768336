/*
 * repair.h
 *		Looking for partitions that differ from their table, and mending them.
 */
#ifndef SAGAZ_PASS_REPAIR_H
#define SAGAZ_PASS_REPAIR_H

#include "pass/pass.h"

extern void repair_look_by_hand(TimestampTz now, Oid parent);
extern void repair_look_if_changed(TimestampTz now);
extern void repair_by_hand(Policy *policy, TimestampTz now, PassEmit emit, void *arg);
extern bool repair_in_background(TimestampTz now, long defer_nap);
extern bool repair_way_back(const Policy *policy, ParentInfo *info, PlanBound *odd);

#endif							/* SAGAZ_PASS_REPAIR_H */
