/*
 * init.c
 *		Loading the library: settings and registration, nothing else.
 */
#include "base/settings.h"

#include "base/compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "process/guard.h"
#include "process/launcher.h"
#include "replication/sampler.h"
#include "replication/settings.h"
#include "replication/state.h"
#include "shmem/shared.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	settings_define();
	replication_settings_define();

	/*
	 * Not while pg_upgrade runs the server: on the old one nothing may change
	 * once it is dumped, and the new one is still being filled.
	 */
	if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade)
	{
		shared_init();
		launcher_register();
		guard_register();
		replication_state_register();
		sampler_register();
	}
	MarkGUCPrefixReserved("sagaz_ha");
}
