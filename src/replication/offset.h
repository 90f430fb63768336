/*
 * offset.h
 *		How another host's clock stands to this one.
 *
 * Invariant: no locking and no server function: the owner of the memory locks.
 */
#ifndef SAGAZ_REPLICATION_OFFSET_H
#define SAGAZ_REPLICATION_OFFSET_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * The least of (received here - sent there) is the difference of the clocks
 * plus the shortest way. It is kept over two windows, so that old ones expire.
 */
typedef struct ReplOffset
{
	TimestampTz began;			/* of the current window */
	bool		known;
	TimeOffset	least;
	bool		before_known;
	TimeOffset	before;			/* the least of the window before */
} ReplOffset;

extern void replication_offset_add(ReplOffset *offset, TimestampTz now,
								   TimeOffset difference);
extern bool replication_offset_get(const ReplOffset *offset, TimeOffset *least);
extern void replication_offset_shift(ReplOffset *offset, TimeOffset step);

#endif							/* SAGAZ_REPLICATION_OFFSET_H */
