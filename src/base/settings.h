/*
 * settings.h
 *		The settings of maintenance, and its clock.
 *
 * Invariant: only entry points (SQL functions, a worker's start) ask the clock;
 * from there on, time is an argument.
 */
#ifndef SAGAZ_BASE_SETTINGS_H
#define SAGAZ_BASE_SETTINGS_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* The schema of everything that the specification doesn't name. */
#define SAGAZ_SCHEMA	"sagaz_ha"

extern bool sagaz_enabled;
extern bool sagaz_retire;
extern int	sagaz_naptime;
extern int	sagaz_max_databases;
extern int	sagaz_lock_timeout;
extern int	sagaz_conversion_lock_timeout;
extern int	sagaz_standby_drain_timeout;
extern bool sagaz_protect;
extern int	sagaz_condition_timeout;
extern int	sagaz_before_drop_timeout;
extern char *sagaz_stop_at;

extern void settings_define(void);
extern TimestampTz settings_now(void);
extern int	settings_naptime_ms(void);
extern bool settings_want_database(const char *name);

#endif							/* SAGAZ_BASE_SETTINGS_H */
