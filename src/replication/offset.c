/*
 * offset.c
 *		How another host's clock stands to this one.
 *
 * Invariant: no locking and no server function: the owner of the memory locks.
 */
#include "replication/offset.h"

#define OFFSET_WINDOW	(INT64CONST(120) * USECS_PER_SEC)

/* Notes (received here - sent there) of one message. */
void
replication_offset_add(ReplOffset *offset, TimestampTz now, TimeOffset difference)
{
	if (offset->began == 0 || now - offset->began > OFFSET_WINDOW ||
		now < offset->began)
	{
		offset->before_known = offset->known;
		offset->before = offset->least;
		offset->known = false;
		offset->began = now;
	}
	offset->least = offset->known ? Min(offset->least, difference) : difference;
	offset->known = true;
}

/* Gets the least difference of both windows; false before the first message. */
bool
replication_offset_get(const ReplOffset *offset, TimeOffset *least)
{
	if (!offset->known && !offset->before_known)
		return false;
	if (!offset->known)
		*least = offset->before;
	else if (!offset->before_known)
		*least = offset->least;
	else
		*least = Min(offset->least, offset->before);
	return true;
}

/* This host's clock was set forward by step: so are the differences to it. */
void
replication_offset_shift(ReplOffset *offset, TimeOffset step)
{
	offset->began += offset->began ? step : 0;
	offset->least += step;
	offset->before += step;
}
