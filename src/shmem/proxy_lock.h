/*
 * proxy_lock.h
 *		A lock on a parent that the launcher takes on behalf of a worker.
 */
#ifndef SAGAZ_PROXY_LOCK_H
#define SAGAZ_PROXY_LOCK_H

#include "postgres.h"

extern bool proxy_lock_acquire(Oid relation);
extern void proxy_lock_release(void);
extern bool proxy_lock_serve(void);

#endif							/* SAGAZ_PROXY_LOCK_H */
