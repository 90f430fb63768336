/*
 * node.c
 *		This server: its role, its timeline, and the WAL on its disk.
 *
 * Invariant: role and timeline are those of now; the control file has those of
 * the last checkpoint, for some time after a promotion still the old ones.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "base/compat.h"
#include "base/rows.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/postmaster.h"
#include "replication/access.h"
#include "replication/state.h"
#include "replication/syncrep.h"
#include "replication/time.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#define NODE_COLS	9
#define WAL_COLS	10

/* The speed of WAL is measured over so long a time. */
#define SPEED_WINDOW	(INT64CONST(300) * USECS_PER_SEC)

SAGAZ_FUNCTION(sagaz_node_state);
SAGAZ_FUNCTION(sagaz_wal_state);
SAGAZ_FUNCTION(sagaz_wal_speed);

static char *
node_name(void)
{
	char		host[256];

	if (cluster_name[0] != '\0')
		return pstrdup(cluster_name);
	if (gethostname(host, sizeof(host)) != 0)
		return psprintf("port %d", PostPortNumber);
	host[sizeof(host) - 1] = '\0';
	return psprintf("%s:%d", host, PostPortNumber);
}

/* Returns (name, role, timeline and position, synchronous standbys, sampler). */
Datum
sagaz_node_state(PG_FUNCTION_ARGS)
{
	bool		in_recovery = RecoveryInProgress();
	TimeLineID	tli = 0;
	XLogRecPtr	lsn;
	ReplSampling sampling;
	Datum		values[NODE_COLS] = {0};
	bool		nulls[NODE_COLS] = {0};

	replication_state_read(&sampling);
	lsn = in_recovery ? GetXLogReplayRecPtr(&tli) : GetFlushRecPtr(&tli);
	values[0] = CStringGetTextDatum(node_name());
	values[1] = BoolGetDatum(in_recovery);
	values[2] = BoolGetDatum(in_recovery && PromoteIsTriggered());
	values[3] = CStringGetTextDatum(psprintf(UINT64_FORMAT, GetSystemIdentifier()));
	values[4] = Int64GetDatum(tli);
	nulls[4] = tli == 0;
	values[5] = LSNGetDatum(lsn);
	nulls[5] = XLogRecPtrIsInvalid(lsn);
	values[6] = Int32GetDatum(SyncRepConfig ? SyncRepConfig->num_sync : 0);
	values[7] = BoolGetDatum(sampling.running);
	values[8] = rows_time(sampling.sampled_at, &nulls[8]);
	PG_RETURN_DATUM(rows_one(fcinfo, values, nulls));
}

/*
 * Counts whole segments, whatever is in them, by their names: a stat() of ten
 * thousand files would take longer than all the rest.
 */
static int64
count_segments(TimeLineID tli, XLogSegNo *oldest)
{
	DIR		   *dir = AllocateDir(XLOGDIR);
	struct dirent *entry;
	int64		segments = 0;

	*oldest = 0;
	while ((entry = ReadDir(dir, XLOGDIR)) != NULL)
	{
		TimeLineID	entry_tli;
		XLogSegNo	segno;

		CHECK_FOR_INTERRUPTS();
		if (!IsXLogFileName(entry->d_name) &&
			!IsPartialXLogFileName(entry->d_name))
			continue;
		segments++;
		XLogFromFileName(entry->d_name, &entry_tli, &segno, wal_segment_size);
		if (entry_tli <= tli && (*oldest == 0 || segno < *oldest))
			*oldest = segno;
	}
	FreeDir(dir);
	return segments;
}

/* How long a file has waited for the archiver; 0 if it doesn't any more. */
static TimeOffset
waiting_age(const char *path)
{
	struct stat status;

	if (stat(path, &status) != 0)
		return 0;
	return Max(0, GetCurrentTimestamp() - time_t_to_timestamptz(status.st_mtime));
}

/* Counts the segments that wait for the archiver; how long the first has waited. */
static int64
count_ready(XLogSegNo *oldest, TimeOffset *waiting)
{
	const char *path = XLOGDIR "/archive_status";
	DIR		   *dir = AllocateDir(path);
	struct dirent *entry;
	int64		ready = 0;
	char		first[MAXPGPATH] = "";

	*oldest = 0;
	while ((entry = ReadDir(dir, path)) != NULL)
	{
		size_t		len = strlen(entry->d_name);
		TimeLineID	tli;
		XLogSegNo	segno;
		char		name[MAXFNAMELEN];

		CHECK_FOR_INTERRUPTS();
		if (len < 7 || len >= MAXFNAMELEN ||
			strcmp(entry->d_name + len - 6, ".ready") != 0)
			continue;
		ready++;
		strlcpy(name, entry->d_name, len - 5);
		if (!IsXLogFileName(name))
			continue;
		XLogFromFileName(name, &tli, &segno, wal_segment_size);
		if (*oldest != 0 && segno >= *oldest)
			continue;
		*oldest = segno;
		snprintf(first, sizeof(first), "%s/%s", path, entry->d_name);
	}
	FreeDir(dir);
	*waiting = waiting_age(first);
	return ready;
}

static Datum
segment_start(XLogSegNo segno, bool *null)
{
	XLogRecPtr	lsn = InvalidXLogRecPtr;

	*null = segno == 0;
	if (segno != 0)
		XLogSegNoOffsetToRecPtr(segno, 0, wal_segment_size, lsn);
	return LSNGetDatum(lsn);
}

/* Bytes of WAL per second over the last minutes; false without a clock. */
static bool
wal_speed(double *speed)
{
	TimestampTz now;
	bool		known = false;

	if (replication_time_now(&now))
	{
		LWLockAcquire(repl_shared->lock, LW_SHARED);
		known = lsn_clock_speed(&repl_shared->clock, now, SPEED_WINDOW, speed);
		LWLockRelease(repl_shared->lock);
	}
	return known;
}

/* The same as a value; NULL without a clock. */
Datum
sagaz_wal_speed(PG_FUNCTION_ARGS)
{
	double		speed;

	if (!wal_speed(&speed))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(speed);
}

/*
 * What the archiver has done, and the bytes per second that its work grows by.
 * Without a clock that is what has come since the first that waits.
 */
static void
archiver_state(int64 ready, TimeOffset waiting, Datum *values, bool *nulls)
{
	PgStat_ArchiverStats *stats = pgstat_fetch_stat_archiver();
	double		speed = 0;

	values[0] = BoolGetDatum(RecoveryInProgress() ? XLogArchivingAlways() : XLogArchivingActive());
	values[1] = rows_interval(waiting);
	nulls[1] = ready == 0;
	values[2] = rows_time(stats->last_archived_timestamp, &nulls[2]);
	values[3] = rows_time(stats->last_failed_timestamp, &nulls[3]);
	if (!wal_speed(&speed) && waiting > 0)
		speed = (double) ready * wal_segment_size * USECS_PER_SEC / waiting;
	values[4] = Float8GetDatum(speed);
}

/*
 * Returns (bytes, oldest LSN, free bytes, files to archive, LSN of the first,
 * whether WAL is archived, how long the first has waited, last success, last
 * failure, bytes of WAL per second).
 */
Datum
sagaz_wal_state(PG_FUNCTION_ARGS)
{
	Datum		values[WAL_COLS] = {0};
	bool		nulls[WAL_COLS] = {0};
	struct statvfs disk;
	XLogSegNo	oldest;
	XLogSegNo	oldest_ready;
	TimeOffset	waiting;
	int64		ready;
	TimeLineID	tli;

	replication_access_require("wal_retention");
	if (RecoveryInProgress())
		(void) GetXLogReplayRecPtr(&tli);
	else
		tli = GetWALInsertionTimeLine();
	values[0] = Int64GetDatum(count_segments(tli, &oldest) * wal_segment_size);
	values[1] = segment_start(oldest, &nulls[1]);
	nulls[2] = statvfs(XLOGDIR, &disk) != 0;
	if (!nulls[2])
		values[2] = Int64GetDatum((int64) disk.f_bavail * (int64) disk.f_frsize);
	ready = count_ready(&oldest_ready, &waiting);
	values[3] = Int64GetDatum(ready);
	values[4] = segment_start(oldest_ready, &nulls[4]);
	archiver_state(ready, waiting, &values[5], &nulls[5]);
	PG_RETURN_DATUM(rows_one(fcinfo, values, nulls));
}
