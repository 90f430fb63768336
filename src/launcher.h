/*
 * launcher.h
 *		The one static process: finds databases and starts workers for them.
 */
#ifndef SAGAZ_LAUNCHER_H
#define SAGAZ_LAUNCHER_H

#include <stdbool.h>

extern void launcher_register(void);
extern bool launcher_wants(const char *database);

#endif							/* SAGAZ_LAUNCHER_H */
