/*
 * retirement.h
 *		Which partitions are being retired, and how far that has come.
 */
#ifndef SAGAZ_CATALOG_RETIREMENT_H
#define SAGAZ_CATALOG_RETIREMENT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef enum RetirementPhase
{
	RETIREMENT_ANNOUNCED,
	RETIREMENT_FENCED,			/* a trigger refuses writes */
	RETIREMENT_DETACHING,		/* a detach is pending, ours or another */
	RETIREMENT_BEFORE_DROP,		/* detached; the policy's function has to
								 * agree */
	RETIREMENT_AGREED			/* it has */
} RetirementPhase;

typedef struct Retirement
{
	Oid			parent;
	Oid			partition;
	RetirementPhase phase;
	TimestampTz since;
	bool		detach_is_ours; /* our own detach has begun */
	int			calls;			/* of the function */
	TimestampTz called_at;		/* by the server's clock; 0: not yet */
} Retirement;

extern bool retirement_find(Oid partition, Retirement *retirement);
extern List *retirement_load(void);
extern void retirement_begin(Oid parent, Oid partition, TimestampTz now);
extern void retirement_note_fence(Oid partition);
extern void retirement_note_detach(Oid partition);
extern void retirement_note_wait(Oid parent, Oid partition, const char *waits_for,
								 TimestampTz now);
extern void retirement_note_before_drop(Oid parent, Oid partition, TimestampTz now);
extern void retirement_note_call(Oid partition, TimestampTz at);
extern bool retirement_note_agreed(Oid partition);
extern void retirement_end(Oid partition);

#endif							/* SAGAZ_CATALOG_RETIREMENT_H */
