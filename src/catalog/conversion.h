/*
 * conversion.h
 *		Which tables are becoming partitioned, and how far that has come.
 */
#ifndef SAGAZ_CATALOG_CONVERSION_H
#define SAGAZ_CATALOG_CONVERSION_H

#include "postgres.h"

#include "catalog/policy.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef enum ConversionKind
{
	CONVERSION_TABLE,			/* a plain table */
	CONVERSION_PARTITION,		/* a default or catch-all partition gets
								 * bounds */
	CONVERSION_ROWS				/* a default partition's rows are moved out */
} ConversionKind;

/* In their order. */
typedef enum ConversionPhase
{
	CONVERSION_CHECKING,		/* the CHECK that implies the bounds */
	CONVERSION_VALIDATING,
	CONVERSION_INDEXING,
	CONVERSION_LINKING,			/* foreign keys to other tables */
	CONVERSION_ATTACHING,
	CONVERSION_ANALYZING,
	CONVERSION_RENAMING,
	CONVERSION_MOVING,			/* rows, out of a default partition */
	CONVERSION_FINISHING,
	CONVERSION_FAILED			/* and undone; waits for an operator */
} ConversionPhase;

typedef struct Conversion
{
	Oid			relation;		/* has the rows */
	Oid			parent;
	ConversionKind kind;
	ConversionPhase phase;
	char	   *table_name;
	char	   *key;
	char	   *lower;			/* bounds, as SQL */
	char	   *upper;
	bool		weaken_unique;
	bool		publish_via_partition_root;
	TimestampTz finish_by;		/* 0: none */
	int			tries;
	TimestampTz next_try;		/* 0: now */
	TimeOffset	longest_lock;	/* 0: none yet */
} Conversion;

extern const char *conversion_phase_name(ConversionPhase phase);
extern List *conversion_load(void);
extern bool conversion_find(Oid relid, Conversion *conversion);
extern bool conversion_lock(Conversion *conversion);
extern Policy *conversion_policy(const Conversion *conversion);
extern void conversion_begin(const Conversion *conversion, TimestampTz now);
extern void conversion_enter(Conversion *conversion, ConversionPhase phase);
extern void conversion_note_bound(const Conversion *conversion);
extern void conversion_note_try(Conversion *conversion, const char *waits_for, const char *error,
								long nap);
extern void conversion_note_lock(const Conversion *conversion, TimeOffset held);
extern void conversion_restore_policy(const Conversion *conversion);
extern void conversion_fail(Conversion *conversion, const char *error, bool taken_back);
extern void conversion_end(Oid relation);

#endif							/* SAGAZ_CATALOG_CONVERSION_H */
