/*
 * sagaz_ha.h
 *		Names and settings that every module may use.
 */
#ifndef SAGAZ_HA_H
#define SAGAZ_HA_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* The schema of everything that the specification doesn't name. */
#define SAGAZ_SCHEMA	"sagaz_ha"

extern PGDLLIMPORT bool sagaz_enabled;
extern PGDLLIMPORT int sagaz_naptime;
extern PGDLLIMPORT char *sagaz_databases;
extern PGDLLIMPORT int sagaz_lock_timeout;
extern PGDLLIMPORT int sagaz_standby_drain_timeout;

/* The injected time, or the transaction's own: see the GUC sagaz_ha.clock. */
extern TimestampTz sagaz_now(void);

#endif							/* SAGAZ_HA_H */
