/*
 * settings.h
 *		The settings (GUCs) of replication health.
 */
#ifndef SAGAZ_REPLICATION_SETTINGS_H
#define SAGAZ_REPLICATION_SETTINGS_H

#include "postgres.h"

extern int	repl_sample_interval;	/* ms */
extern int	repl_contact_grace; /* s */

extern void replication_settings_define(void);

#endif							/* SAGAZ_REPLICATION_SETTINGS_H */
