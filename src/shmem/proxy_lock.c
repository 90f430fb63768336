/*
 * proxy_lock.c
 *		A lock on a parent that the launcher takes on behalf of a worker.
 *
 * Invariant: the worker takes a slot from FREE to WANTED and, from any state, to
 * OVER; the launcher from WANTED to GRANTED or REFUSED, and back to FREE. It
 * takes and releases heavyweight locks without the LWLock.
 *
 * DETACH CONCURRENTLY commits, waits for every transaction that has a lock on
 * the parent, and then takes AccessExclusive on the partition. A worker must
 * stop it in that wait, so another process must have AccessShare on the parent:
 * the launcher, in a transaction without a snapshot. A lock tag may name a
 * relation of another database.
 */
#include "shmem/proxy_lock.h"

#include "access/xact.h"
#include "base/process.h"
#include "miscadmin.h"
#include "shmem/shared.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"

/* Longest wait for the launcher's answer: so many times 10 ms. */
#define MAX_TRIES	100

static ProxyLock *my_lock = NULL;

/* Launcher: which slots' locks it has. A restarted launcher has none. */
static bool locked[SHARED_MAX_PROXY_LOCKS];

static ProxyLockState
my_state(void)
{
	ProxyLockState state;

	LWLockAcquire(shared_state->lock, LW_SHARED);
	state = my_lock->state;
	LWLockRelease(shared_state->lock);
	return state;
}

static void
request(Oid relation)
{
	my_lock = NULL;
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SHARED_MAX_PROXY_LOCKS && my_lock == NULL; i++)
		if (shared_state->proxy_locks[i].state == PROXY_LOCK_FREE)
			my_lock = &shared_state->proxy_locks[i];
	if (my_lock != NULL)
	{
		my_lock->state = PROXY_LOCK_WANTED;
		my_lock->pid = MyProcPid;
		my_lock->latch = MyLatch;
		my_lock->database = MyDatabaseId;
		my_lock->relation = relation;
		shared_wake_launcher();
	}
	LWLockRelease(shared_state->lock);
}

/*
 * Worker: asks the launcher for AccessShare on the relation. False when the lock
 * is unavailable, all slots are taken, or no launcher answers.
 */
bool
proxy_lock_acquire(Oid relation)
{
	ProxyLockState state = PROXY_LOCK_WANTED;

	request(relation);
	for (int tries = 0; my_lock != NULL && tries < MAX_TRIES && state == PROXY_LOCK_WANTED; tries++)
	{
		process_nap(10);
		state = my_state();
	}
	if (state == PROXY_LOCK_GRANTED)
		return true;
	proxy_lock_release();
	return false;
}

/* Worker: gives the lock back, if it asked for one. */
void
proxy_lock_release(void)
{
	if (my_lock == NULL)
		return;
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	if (my_lock->pid == MyProcPid && my_lock->state != PROXY_LOCK_FREE)
		my_lock->state = PROXY_LOCK_OVER;
	shared_wake_launcher();
	LWLockRelease(shared_state->lock);
	my_lock = NULL;
}

/*
 * Takes the lock, if that needs no wait, and answers. A worker that no longer
 * waits has set OVER and then our latch, so the next call releases the lock.
 */
static void
grant(int slot, const LOCKTAG *tag)
{
	ProxyLock  *proxy = &shared_state->proxy_locks[slot];

	locked[slot] = LockAcquire(tag, AccessShareLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	if (proxy->state == PROXY_LOCK_WANTED)
	{
		proxy->state = locked[slot] ? PROXY_LOCK_GRANTED : PROXY_LOCK_REFUSED;
		SetLatch(proxy->latch);
	}
	LWLockRelease(shared_state->lock);
}

/* Releases the lock, then the slot: in this order, since others take free slots. */
static void
withdraw(int slot, const LOCKTAG *tag)
{
	if (locked[slot])
		LockRelease(tag, AccessShareLock, false);
	locked[slot] = false;
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	shared_state->proxy_locks[slot].state = PROXY_LOCK_FREE;
	LWLockRelease(shared_state->lock);
}

/*
 * Launcher: takes and releases what workers ask for, and releases what
 * terminated workers left. True while a transaction is open for the locks.
 *
 * The copy stays valid without the LWLock: a slot's worker changes nothing but
 * its state, and only this process frees slots.
 */
bool
proxy_lock_serve(void)
{
	static bool in_transaction = false;
	MemoryContext context = CurrentMemoryContext;
	ProxyLock	slots[SHARED_MAX_PROXY_LOCKS];
	bool		used = false;

	LWLockAcquire(shared_state->lock, LW_SHARED);
	memcpy(slots, shared_state->proxy_locks, sizeof(slots));
	LWLockRelease(shared_state->lock);

	for (int i = 0; i < SHARED_MAX_PROXY_LOCKS; i++)
	{
		LOCKTAG		tag;

		if (slots[i].state == PROXY_LOCK_FREE)
			continue;
		SET_LOCKTAG_RELATION(tag, slots[i].database, slots[i].relation);
		if (slots[i].state == PROXY_LOCK_OVER || BackendPidGetProc(slots[i].pid) == NULL)
		{
			withdraw(i, &tag);
			continue;
		}
		used = true;
		if (slots[i].state != PROXY_LOCK_WANTED)
			continue;
		if (!in_transaction)
			StartTransactionCommand();
		in_transaction = true;
		grant(i, &tag);
	}
	if (in_transaction && !used)
	{
		CommitTransactionCommand();
		in_transaction = false;
	}
	MemoryContextSwitchTo(context);
	return in_transaction;
}
