/*
 * process.h
 *		What each background process is registered with, begins with and waits by.
 */
#ifndef SAGAZ_BASE_PROCESS_H
#define SAGAZ_BASE_PROCESS_H

#include "postgres.h"

#include "postmaster/bgworker.h"

/* Whether this is one of our background processes. */
extern bool process_is_ours;

extern void process_describe(BackgroundWorker *worker, const char *function,
							 const char *type);
extern void process_begin(void);
extern void process_ignore_settings(void);
extern void process_reload(void);
extern void process_nap(long timeout);

#endif							/* SAGAZ_BASE_PROCESS_H */
