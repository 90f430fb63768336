/*
 * journal.h
 *		What maintenance did and found, kept in sagaz_ha.partition_history.
 */
#ifndef SAGAZ_JOURNAL_H
#define SAGAZ_JOURNAL_H

#include "postgres.h"

#define ACTION_CREATE	"CREATE"
#define ACTION_DETACH	"DETACH"
#define ACTION_DROP		"DROP"
#define ACTION_KEEP		"KEEP"
#define ACTION_DEFER	"DEFER"
#define ACTION_ANALYZE	"ANALYZE"
#define ACTION_ERROR	"ERROR"

/* In the history only. */
#define ACTION_ATTACH	"ATTACH"
#define ACTION_FREEZE	"FREEZE"

/* One row of maintain_all_partitions(), and of the history. */
typedef struct JournalEntry
{
	const char *action;
	Oid			parent;
	const char *table_name;
	Oid			partition;		/* InvalidOid where there is none yet */
	const char *partition_name; /* NULL for the table as a whole */
	const char *details;
} JournalEntry;

/* How the details of the DEFER row begin that says: this partition is ours to end. */
#define RETIRING	"retiring"

/* And then: our detach has begun. */
#define DETACHED	RETIRING ", detached"

extern bool journal_record(const JournalEntry *entry);
extern bool journal_has_created(Oid parent);

#endif							/* SAGAZ_JOURNAL_H */
