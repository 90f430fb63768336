/*
 * guard.h
 *		On a standby: includes sessions without a snapshot in the feedback.
 */
#ifndef SAGAZ_GUARD_H
#define SAGAZ_GUARD_H

extern void guard_register(void);

#endif							/* SAGAZ_GUARD_H */
