/*
 * times.h
 *		When maintenance made, froze or detached a partition that exists.
 */
#ifndef SAGAZ_CATALOG_TIMES_H
#define SAGAZ_CATALOG_TIMES_H

#include "postgres.h"

#include "datatype/timestamp.h"

extern void times_note_creation(Oid parent, Oid partition, TimestampTz now);
extern void times_note_freeze(Oid parent, Oid partition, TimestampTz now);
extern void times_note_detach(Oid parent, Oid partition, TimestampTz now);
extern bool times_any_created(Oid parent);
extern Oid	times_detached_from(Oid partition);

#endif							/* SAGAZ_CATALOG_TIMES_H */
