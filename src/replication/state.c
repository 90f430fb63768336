/*
 * state.c
 *		The samples in shared memory: their request and their start.
 *
 * Invariant: see state.h; a server that didn't preload the library has none.
 */
#include "replication/state.h"

#include "miscadmin.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

ReplShared *repl_shared = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static Size
shared_size(void)
{
	return add_size(offsetof(ReplShared, senders),
					mul_size(sizeof(ReplSender), max_wal_senders));
}

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("sagaz_ha_replication", 1);
}

static void
startup_shmem(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	repl_shared = ShmemInitStruct("sagaz_ha replication", shared_size(), &found);
	if (!found)
	{
		memset(repl_shared, 0, shared_size());
		repl_shared->lock = &GetNamedLWLockTranche("sagaz_ha_replication")->lock;
		repl_shared->nsenders = max_wal_senders;
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Registers the hooks; only while shared_preload_libraries is processed. */
void
replication_state_register(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

/* Reads the sampler's own fields; all zero without shared memory. */
void
replication_state_read(ReplSampling *sampling)
{
	memset(sampling, 0, sizeof(*sampling));
	if (repl_shared == NULL)
		return;
	LWLockAcquire(repl_shared->lock, LW_SHARED);
	sampling->running = repl_shared->sampler_pid != 0;
	sampling->latch = repl_shared->sampler_latch;
	sampling->in_recovery = repl_shared->in_recovery;
	sampling->sampled_at = repl_shared->sampled_at;
	sampling->sampled_monotonic = repl_shared->sampled_monotonic;
	LWLockRelease(repl_shared->lock);
}
