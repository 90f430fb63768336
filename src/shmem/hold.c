/*
 * hold.c
 *		A lock on a parent that the launcher holds for a worker.
 *
 * DETACH CONCURRENTLY commits, waits for every transaction that has a lock on
 * the parent, and goes on to take AccessExclusive on the partition. A worker
 * has to stop it in that wait, whoever else is there. So somebody must hold
 * AccessShare on the parent: the launcher, in a transaction without snapshot.
 * A lock tag may name a relation of another database.
 */
#include "shmem/hold.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shmem/shared.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"

static Hold *my_hold = NULL;

static HoldState
hold_state(void)
{
	HoldState	state;

	LWLockAcquire(shared_state->lock, LW_SHARED);
	state = my_hold->state;
	LWLockRelease(shared_state->lock);
	return state;
}

/* Worker: asks for the lock. False when it couldn't be had at once. */
bool
hold_acquire(Oid relation)
{
	HoldState	state = HOLD_WANTED;

	my_hold = NULL;
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SHARED_MAX_HOLDS && my_hold == NULL; i++)
		if (shared_state->holds[i].state == HOLD_FREE)
			my_hold = &shared_state->holds[i];
	if (my_hold != NULL)
	{
		my_hold->state = HOLD_WANTED;
		my_hold->pid = MyProcPid;
		my_hold->latch = MyLatch;
		my_hold->database = MyDatabaseId;
		my_hold->relation = relation;
		shared_wake_launcher();
	}
	LWLockRelease(shared_state->lock);

	/* a launcher that is gone answers no more: then not now */
	for (int tries = 0; my_hold != NULL && tries < 100 && state == HOLD_WANTED; tries++)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		state = hold_state();
	}
	if (state == HOLD_GRANTED)
		return true;
	hold_release();
	return false;
}

/* Worker: the lock is needed no more. Does nothing when there is none. */
void
hold_release(void)
{
	if (my_hold == NULL)
		return;
	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	if (my_hold->pid == MyProcPid && my_hold->state != HOLD_FREE)
		my_hold->state = HOLD_OVER;
	shared_wake_launcher();
	LWLockRelease(shared_state->lock);
	my_hold = NULL;
}

/*
 * Launcher: takes and releases what workers ask for. What a worker that is
 * gone had asked for is released too. True: a transaction is open for them.
 */
bool
hold_serve(void)
{
	static bool in_transaction = false;
	static bool locked[SHARED_MAX_HOLDS];
	int			used = 0;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SHARED_MAX_HOLDS; i++)
	{
		Hold	   *hold = &shared_state->holds[i];
		LOCKTAG		tag;

		if (hold->state == HOLD_FREE)
			continue;
		SET_LOCKTAG_RELATION(tag, hold->database, hold->relation);
		if (hold->state == HOLD_WANTED)
		{
			if (!in_transaction)
			{
				StartTransactionCommand();
				in_transaction = true;
			}
			locked[i] = LockAcquire(&tag, AccessShareLock, false, true) !=
				LOCKACQUIRE_NOT_AVAIL;
			hold->state = locked[i] ? HOLD_GRANTED : HOLD_REFUSED;
			SetLatch(hold->latch);
		}
		else if (hold->state == HOLD_OVER || BackendPidGetProc(hold->pid) == NULL)
		{
			/* after a restart of the launcher there may be none to release */
			if (locked[i])
				LockRelease(&tag, AccessShareLock, false);
			locked[i] = false;
			hold->state = HOLD_FREE;
		}
		if (hold->state != HOLD_FREE)
			used++;
	}
	LWLockRelease(shared_state->lock);
	if (in_transaction && used == 0)
	{
		CommitTransactionCommand();
		in_transaction = false;
	}
	return in_transaction;
}
