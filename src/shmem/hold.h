/*
 * hold.h
 *		A lock on a parent that the launcher holds for a worker.
 */
#ifndef SAGAZ_HOLD_H
#define SAGAZ_HOLD_H

#include "postgres.h"

extern bool hold_acquire(Oid relation);
extern void hold_release(void);
extern bool hold_serve(void);

#endif							/* SAGAZ_HOLD_H */
