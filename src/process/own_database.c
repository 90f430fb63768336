/*
 * own_database.c
 *		Statements that need a database for themselves, such as DROP DATABASE.
 *
 * Invariant: while such a statement runs, its database is reserved: the workers
 * in it have ended, the launcher starts none, and one on its way ends before it
 * connects. Only a database's owner can reserve it.
 */
#include "process/own_database.h"

#include "postgres.h"

#include <signal.h>

#include "access/xlog.h"
#include "base/compat.h"
#include "base/process.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "shmem/calls.h"
#include "shmem/shared.h"
#include "tcop/utility.h"

/* Longest wait for workers to end: so many times 10 ms. */
#define MAX_TRIES	500

static ProcessUtility_hook_type previous_utility_hook = NULL;

/* The database that a statement needs for itself, or InvalidOid. */
static Oid
needed_database(Node *statement)
{
	ListCell   *cell;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return get_database_oid(((DropdbStmt *) statement)->dbname, true);
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return get_database_oid(((RenameStmt *) statement)->subname, true);
			break;
		case T_AlterDatabaseStmt:
			foreach(cell, ((AlterDatabaseStmt *) statement)->options)
			{
				if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
					return get_database_oid(((AlterDatabaseStmt *) statement)->dbname, true);
			}
			break;
		case T_CreatedbStmt:
			foreach(cell, ((CreatedbStmt *) statement)->options)
			{
				DefElem    *option = lfirst_node(DefElem, cell);

				if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
					return get_database_oid(defGetString(option), true);
			}
			return get_database_oid("template1", true);
		default:
			break;
	}
	return InvalidOid;
}

/*
 * Signals a database's workers; true when it has none. Under the lock: a worker
 * clears its pid before it exits, so the signal reaches no other process.
 */
static bool
end_workers(const DatabaseState *state)
{
	bool		gone = calls_end_in(state->database);

	Assert(LWLockHeldByMe(shared_state->lock));
	for (int kind = 0; kind < WORKER_KINDS; kind++)
	{
		if (state->work[kind].pid == 0)
			continue;
		gone = false;
		(void) kill(state->work[kind].pid, SIGTERM);
	}
	return gone;
}

/* Sets the reservation, and ends workers; true when there are none. */
static bool
try_reserve(Oid database)
{
	DatabaseState *state;
	bool		gone = true;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	state = shared_find_database(database);
	if (state != NULL)
	{
		state->reserved_by = MyProcPid;
		gone = end_workers(state);
	}
	LWLockRelease(shared_state->lock);
	return gone;
}

/*
 * Reserves a database, and waits for its workers to end. They handle SIGTERM
 * wherever a backend does, so the wait is short.
 */
static void
reserve(Oid database)
{
	for (int tries = 0; tries < MAX_TRIES && !try_reserve(database); tries++)
		process_nap(10);
}

/* Ends the reservation; the launcher sees which databases there are now. */
static void
release(Oid database)
{
	DatabaseState *state;

	LWLockAcquire(shared_state->lock, LW_EXCLUSIVE);
	state = shared_find_database(database);
	if (state != NULL && state->reserved_by == MyProcPid)
		state->reserved_by = 0;
	shared_state->rescan = true;
	shared_wake_launcher();
	LWLockRelease(shared_state->lock);
}

/* Runs a utility statement; with its database reserved, if it needs one. */
static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *dest,
				QueryCompletion *completion)
{
	volatile Oid database = InvalidOid;

	if (shared_state != NULL && !RecoveryInProgress())
		database = needed_database(pstmt->utilityStmt);
	/* a statement that will be refused must not end workers */
	if (OidIsValid(database) && !sagaz_owns_database(database, GetUserId()))
		database = InvalidOid;
	PG_TRY();
	{
		/* inside, since the wait can be cancelled */
		if (OidIsValid(database))
			reserve(database);
		if (previous_utility_hook)
			previous_utility_hook(pstmt, query, read_only_tree, context, params,
								  environment, dest, completion);
		else
			standard_ProcessUtility(pstmt, query, read_only_tree, context, params,
									environment, dest, completion);
	}
	PG_FINALLY();
	{
		if (OidIsValid(database))
			release(database);
	}
	PG_END_TRY();
}

/* Installs the hook; while shared_preload_libraries is processed. */
void
own_database_register(void)
{
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
