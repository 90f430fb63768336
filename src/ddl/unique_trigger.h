/*
 * unique_trigger.h
 *		The two triggers of a unique key, when they fire.
 */
#ifndef SAGAZ_DDL_UNIQUE_TRIGGER_H
#define SAGAZ_DDL_UNIQUE_TRIGGER_H

#include "postgres.h"

#include "commands/trigger.h"
#include "datatype/timestamp.h"

extern void unique_trigger_check(TriggerData *data, TimestampTz now);
extern bool unique_trigger_keeps(TriggerData *data, TimestampTz now);

#endif							/* SAGAZ_DDL_UNIQUE_TRIGGER_H */
