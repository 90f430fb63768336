/*
 * sampler.h
 *		The process that keeps the LSN clock.
 */
#ifndef SAGAZ_REPLICATION_SAMPLER_H
#define SAGAZ_REPLICATION_SAMPLER_H

#include "postgres.h"

extern void sampler_register(void);

#endif							/* SAGAZ_REPLICATION_SAMPLER_H */
