/*
 * restored.c
 *		Whether this server was started from a backup.
 *
 * A restored copy must not drop what it was restored for. What tells it from
 * a server that crashed, and from a promoted standby, are the files that
 * recovery is asked for with, and recovery removes them. So the postmaster
 * looks before it starts recovery, and leaves a file of our own with the time:
 * that is the restore's name, which each policy is compared with (policy.c).
 *
 * The file stays. A clone of this server gets it along with the policies, and
 * the next restore gets a new one.
 */
#include "postgres.h"

#include "base/restored.h"

#include <unistd.h>

#include "access/xlog.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

/* In the data directory, where every process is. */
#define RESTORED_FILE	"sagaz_ha.restored"

/*
 * As the server decides it: standby.signal comes before all else. A
 * backup_label without a signal is a base backup that was just started.
 */
static bool
starts_from_backup(void)
{
	return access(STANDBY_SIGNAL_FILE, F_OK) != 0 &&
		(access(RECOVERY_SIGNAL_FILE, F_OK) == 0 || access(BACKUP_LABEL_FILE, F_OK) == 0);
}

/*
 * The postmaster, before recovery. A server that can't keep this in mind must
 * not start: it would drop partitions later.
 */
void
restored_note(void)
{
	FILE	   *file;
	bool		written;

	if (!starts_from_backup())
		return;
	file = AllocateFile(RESTORED_FILE ".tmp", PG_BINARY_W);
	written = file != NULL && fprintf(file, INT64_FORMAT "\n", GetCurrentTimestamp()) > 0;
	if (file == NULL || FreeFile(file) != 0 || !written)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", RESTORED_FILE ".tmp")));
	durable_rename(RESTORED_FILE ".tmp", RESTORED_FILE, FATAL);
	ereport(LOG,
			(errmsg("sagaz_ha: this server is started from a backup: drops will be held back"),
			 errhint("In each database, SELECT sagaz_ha.resume_drops(parent) FROM sagaz_ha.partition_policy lets them go on.")));
}

/* When this server was last started from a backup; 0: never. */
TimestampTz
restored_at(void)
{
	FILE	   *file = AllocateFile(RESTORED_FILE, PG_BINARY_R);
	int64		at = 0;

	if (file == NULL && errno == ENOENT)
		return 0;
	if (file == NULL || fscanf(file, INT64_FORMAT, &at) != 1 || at == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("could not read file \"%s\" in the data directory", RESTORED_FILE),
				 errhint("Without it, nobody knows that this server was restored. Remove it only if all drops may go on.")));
	FreeFile(file);
	return at;
}
