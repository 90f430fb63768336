/*
 * launcher.h
 *		The one static process: finds databases and starts workers in them.
 */
#ifndef SAGAZ_LAUNCHER_H
#define SAGAZ_LAUNCHER_H

#include "postgres.h"

extern void launcher_register(void);

#endif							/* SAGAZ_LAUNCHER_H */
