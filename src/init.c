/*
 * init.c
 *		Loading the library.
 *
 * Invariant: settings and registration, nothing else. Without preloading, only
 * settings.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/settings.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "process/changes.h"
#include "process/guard.h"
#include "process/launcher.h"
#include "process/own_database.h"
#include "replication/sampler.h"
#include "replication/settings.h"
#include "replication/state.h"
#include "shmem/shared.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/* Called by the server when it loads the library. */
void
_PG_init(void)
{
	settings_define();
	replication_settings_define();

	/*
	 * Not while pg_upgrade runs the server: the old one must not change after
	 * its dump, and the new one is incomplete.
	 */
	if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade)
	{
		shared_init();
		launcher_register();
		own_database_register();
		changes_register();
		guard_register();
		replication_state_register();
		sampler_register();
	}
	MarkGUCPrefixReserved("sagaz_ha");
}
