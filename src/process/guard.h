/*
 * guard.h
 *		On a standby: makes feedback speak for sessions that have no snapshot.
 */
#ifndef SAGAZ_GUARD_H
#define SAGAZ_GUARD_H

extern void guard_register(void);

#endif							/* SAGAZ_GUARD_H */
