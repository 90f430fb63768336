/*
 * changes.h
 *		Statements after which the launcher looks at once.
 */
#ifndef SAGAZ_PROCESS_CHANGES_H
#define SAGAZ_PROCESS_CHANGES_H

extern void changes_register(void);

#endif							/* SAGAZ_PROCESS_CHANGES_H */
