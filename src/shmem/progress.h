/*
 * progress.h
 *		What a worker does, for maintenance_status() and pg_stat_activity.
 *
 * Invariant: in a process that isn't a worker these functions do nothing,
 * except that progress_error() counts errors there, too.
 */
#ifndef SAGAZ_PROGRESS_H
#define SAGAZ_PROGRESS_H

#include "postgres.h"

#include "shmem/shared.h"

extern void progress_attach(WorkState *work);
extern void progress_phase(const char *phase, const char *table);
extern void progress_subject(Oid table);
extern void progress_count(int done, int total);
extern void progress_waiting_for(const char *what);
extern void progress_action(void);
extern void progress_error(const char *error);
extern void stop_point(const char *name);

#endif							/* SAGAZ_PROGRESS_H */
