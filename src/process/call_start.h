/*
 * call_start.h
 *		Starting the processes that call before_drop functions.
 */
#ifndef SAGAZ_CALL_START_H
#define SAGAZ_CALL_START_H

#include "postgres.h"

extern int	call_start_reap(void);
extern bool call_start_wanted(int running, int room);
extern void call_start_end_all(void);
extern bool call_start_is_in(Oid database);

#endif							/* SAGAZ_CALL_START_H */
