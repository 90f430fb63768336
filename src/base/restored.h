/*
 * restored.h
 *		Whether this server was started from a backup.
 */
#ifndef SAGAZ_RESTORED_H
#define SAGAZ_RESTORED_H

#include "datatype/timestamp.h"

extern void restored_note(void);
extern TimestampTz restored_at(void);

#endif							/* SAGAZ_RESTORED_H */
