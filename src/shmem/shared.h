/*
 * shared.h
 *		What launcher, workers and SQL functions tell each other.
 *
 * Nothing here decides what is done to a table: that comes from the catalogs
 * alone. Losing it, as a restart does, costs a pass and nothing else.
 */
#ifndef SAGAZ_SHARED_H
#define SAGAZ_SHARED_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#define SHARED_MAX_DATABASES	1024
#define SHARED_MAX_HOLDS		16
#define SHARED_TEXT				192

typedef enum WorkerKind
{
	WORKER_PASS,				/* makes and retires partitions */
	WORKER_UPKEEP,				/* analyzes and freezes, which can take long */
	WORKER_KINDS
} WorkerKind;

/* One kind of work in one database. */
typedef struct WorkState
{
	pid_t		pid;			/* 0: no worker runs */
	bool		finished;		/* the last worker came to its end */
	int			soon;			/* ms until work is due again; 0: the nap */
	int			deferrals;		/* passes in a row that could not get a lock */
	TimestampTz last;			/* end of the last finished pass */
	TimestampTz next;
	int64		passes;
	int64		actions;
	int64		errors;			/* of passes by hand as well */
	TimestampTz started;		/* of the last pass that began */
	TimeOffset	last_duration;	/* of the last finished pass */
	TimestampTz since;			/* of the phase */
	char		phase[SHARED_TEXT];
	char		table[SHARED_TEXT];
	int			done;
	int			total;
	char		waiting_for[SHARED_TEXT];
	char		last_error[SHARED_TEXT];
} WorkState;

typedef struct DatabaseState
{
	Oid			database;		/* InvalidOid: a free entry */
	NameData	name;
	bool		has_extension;
	pid_t		held_by;		/* a backend that needs the database for itself */
	WorkState	work[WORKER_KINDS];
} DatabaseState;

/*
 * A lock that the launcher holds for a worker: AccessShare on a parent, so
 * that DETACH CONCURRENTLY has somebody to wait for.
 */
typedef enum HoldState
{
	HOLD_FREE,
	HOLD_WANTED,
	HOLD_GRANTED,
	HOLD_REFUSED,
	HOLD_OVER
} HoldState;

typedef struct Hold
{
	HoldState	state;
	pid_t		pid;
	Latch	   *latch;
	Oid			database;
	Oid			relation;
} Hold;

typedef struct SharedState
{
	LWLock	   *lock;			/* protects all that follows */
	pid_t		launcher_pid;
	Latch	   *launcher_latch;
	TimestampTz launcher_since; /* when it began, or when it ended */
	bool		enabled;		/* as the launcher has it: maintenance runs */
	bool		rescan;			/* look for databases now */
	Hold		holds[SHARED_MAX_HOLDS];
	DatabaseState databases[SHARED_MAX_DATABASES];
} SharedState;

extern SharedState *shared_state;	/* NULL: the library isn't preloaded */

extern void shared_init(void);
extern DatabaseState *shared_find_database(Oid database);
extern bool shared_is_served(Oid database);
extern void shared_wake_launcher(void);
extern void shared_wake_database_at_commit(void);
extern void shared_hold_database(Oid database);
extern void shared_release_database(Oid database);

#endif							/* SAGAZ_SHARED_H */
