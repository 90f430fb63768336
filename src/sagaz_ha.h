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
extern PGDLLIMPORT char *sagaz_stop_at;	/* for tests */

/* The injected time, or the transaction's own: see the GUC sagaz_ha.clock. */
extern TimestampTz sagaz_now(void);

/* In a background process: takes over changed settings, if there are any. */
extern void sagaz_process_reload(void);

/* What every background process begins with. */
extern void sagaz_take_signals(void);

#endif							/* SAGAZ_HA_H */
