/*
 * dropped.h
 *		Forgetting what was said about tables that were dropped.
 */
#ifndef SAGAZ_CATALOG_DROPPED_H
#define SAGAZ_CATALOG_DROPPED_H

extern void dropped_forget_in_event_trigger(void);
extern void dropped_forget_orphans(void);
extern void dropped_forget_times(void);

#endif							/* SAGAZ_CATALOG_DROPPED_H */
