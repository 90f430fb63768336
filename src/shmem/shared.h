/*
 * shared.h
 *		Shared memory of launcher, workers and SQL functions.
 *
 * Invariant: nothing here decides what is done to a table; the catalogs alone
 * do. Losing it, as a restart does, costs a pass and nothing else. Only the
 * launcher enters and forgets databases, and forgets none that has a worker.
 * The LWLock covers reads and writes of this memory, signals and latches; never
 * a catalog scan, a heavyweight lock, an allocation or a log line.
 */
#ifndef SAGAZ_SHARED_H
#define SAGAZ_SHARED_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#define SHARED_MAX_PROXY_LOCKS	16
#define SHARED_MAX_CALLS		16
#define SHARED_TEXT				192

/*
 * A pass over a database is due after the first at the latest, in ms, should a cause
 * have been missed; what else there is, after the second.
 */
#define SHARED_NET_NAP			3600000
#define SHARED_LONG_NAP			86400000

typedef enum WorkerKind
{
	WORKER_PASS,				/* makes partitions */
	WORKER_RETIREMENT,			/* retires them; wanted by a pass that found
								 * some */
	WORKER_UPKEEP,				/* analyzes and freezes, which can take long */
	WORKER_CONVERSION,			/* turns tables into partitioned ones; the
								 * same */
	WORKER_KINDS
} WorkerKind;

/* Somebody wants a run; if one runs, one more. */
typedef enum Wish
{
	WISH_NONE,
	WISH_SOON,					/* but not before what had to be put off */
	WISH_NOW
} Wish;

/* One kind of work in one database. */
typedef struct WorkState
{
	pid_t		pid;			/* of the running worker, or 0 */
	bool		finished;		/* the last worker completed its work */
	Wish		wanted;
	TimestampTz due;			/* when the next is due, or the running or
								 * failing one was */
	TimestampTz not_before;		/* one that failed, or missed a lock, is tried
								 * again then */
	int			soon;			/* ms until work is due again; 0: when it is
								 * wanted */
	int			deferrals;		/* consecutive passes that missed a lock */
	TimestampTz last;			/* end of the last finished pass */
	int64		passes;
	int64		actions;
	int64		errors;			/* of foreground passes, too */
	TimestampTz started;		/* of the last pass that began */
	TimeOffset	last_duration;	/* of the last finished pass */
	TimestampTz since;			/* of the phase */
	char		phase[SHARED_TEXT];
	char		table[SHARED_TEXT];
	Oid			subject;		/* the table that is being converted */
	int			done;
	int			total;
	char		waiting_for[SHARED_TEXT];
	char		last_error[SHARED_TEXT];
	Oid			stuck;			/* partition whose owner's code could not be
								 * cancelled, and ended the last worker */
} WorkState;

typedef struct DatabaseState
{
	Oid			database;		/* InvalidOid: a free entry */
	NameData	name;
	bool		has_extension;
	int64		compared;		/* drift_changes() at the last comparison of
								 * partitions with their tables */
	TimestampTz compared_at;	/* 0: not since the start */
	pid_t		reserved_by;	/* backend that keeps workers out, or 0 */
	WorkState	work[WORKER_KINDS];
} DatabaseState;

/* States of a lock that the launcher takes on behalf of a worker. */
typedef enum ProxyLockState
{
	PROXY_LOCK_FREE,
	PROXY_LOCK_WANTED,
	PROXY_LOCK_GRANTED,
	PROXY_LOCK_REFUSED,
	PROXY_LOCK_OVER
} ProxyLockState;

typedef struct ProxyLock
{
	ProxyLockState state;
	pid_t		pid;			/* of the worker */
	Latch	   *latch;
	Oid			database;
	Oid			relation;
} ProxyLock;

/* States of a call of a before_drop function. */
typedef enum CallState
{
	CALL_FREE,
	CALL_WANTED,
	CALL_STARTED,				/* a process was registered for it */
	CALL_OVER
} CallState;

typedef struct Call
{
	CallState	state;
	Oid			database;
	Oid			parent;
	Oid			partition;
	WorkState	work;			/* its pid is 0 until the process is there */
} Call;

typedef struct SharedState
{
	LWLock	   *lock;			/* protects all that follows */
	pid_t		launcher_pid;
	Latch	   *launcher_latch;
	TimestampTz launcher_since; /* when it began, or when it ended */
	bool		enabled;		/* the launcher's sagaz_ha.enabled */
	TimestampTz retire_off_since;	/* by sagaz_ha.retire; 0: it is on */
	bool		rescan;			/* look for databases now */
	bool		is_full;		/* a database has found no room */
	ProxyLock	proxy_locks[SHARED_MAX_PROXY_LOCKS];
	Call		calls[SHARED_MAX_CALLS];
	DatabaseState databases[FLEXIBLE_ARRAY_MEMBER]; /* sagaz_max_databases */
} SharedState;

extern SharedState *shared_state;	/* NULL: the library isn't preloaded */

extern void shared_init(void);
extern DatabaseState *shared_find_database(Oid database);
extern bool shared_is_served(Oid database);
extern bool shared_launcher_is_younger_than(int seconds);
extern void shared_wake_launcher(void);
extern void shared_want_retirement(Oid database);
extern void shared_want(WorkerKind kind);
extern void shared_want_all(DatabaseState *database);
extern void shared_wake_database_at_commit(void);
extern void shared_wake_for_ddl_at_commit(void);
extern void shared_wake_for_extension_at_commit(void);
extern void shared_rescan_at_commit(void);
extern bool shared_is_overdue(const WorkState *work, TimestampTz now);
extern bool shared_was_compared(int64 changes, TimestampTz since);
extern void shared_note_comparison(int64 changes);
extern bool shared_copy_database(int index, DatabaseState *copy);

#endif							/* SAGAZ_SHARED_H */
