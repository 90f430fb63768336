/*
 * coverage.h
 *		What the managed tables look like now: for people, alerts and metrics.
 */
#ifndef SAGAZ_PASS_COVERAGE_H
#define SAGAZ_PASS_COVERAGE_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct PartitionStats
{
	Oid			parent;
	char	   *table_name;
	Oid			relid;
	char	   *name;
	TimestampTz start;
	TimestampTz end;
	const char *state;			/* current, future, past, expired, detaching,
								 * default */
	int64		total_bytes;	/* -1: not asked for, or unknown */
	int64		estimated_rows; /* -1: unknown */
} PartitionStats;

/* What a table's partitions come to. */
typedef struct TableStats
{
	Oid			parent;
	char	   *table_name;
	int64		partitions;
	char	   *oldest;			/* NULL: none */
	char	   *newest;
	int64		total_bytes;	/* of those whose size is known */
	int64		estimated_rows; /* likewise */
	int64		kept;			/* expired, and kept by the last pass */
	bool		covered;
	TimestampTz covered_until;
	TimestampTz premade_until;	/* 0: the table can't be read */
} TableStats;

typedef struct CoverageStats
{
	Oid			parent;
	char	   *table_name;
	bool		covered;		/* is there a partition of its own for now? */
	TimestampTz covered_until;
	TimestampTz premade_until;	/* what the policy wants to be covered */
	int			holes;
	TimestampTz first_hole;
	Oid			catch_all;		/* partition without an end, or InvalidOid */
	Oid			default_partition;
	bool		default_has_rows;
	Oid			pending_partition;
	char	   *pending_waits_for;	/* NULL: nothing */
	char	   *problem;		/* why it can't be maintained, or NULL */
} CoverageStats;

typedef void (*PartitionStatsEmit) (const PartitionStats *stats, void *arg);
typedef void (*TableStatsEmit) (const TableStats *stats, void *arg);
typedef void (*CoverageStatsEmit) (const CoverageStats *stats, void *arg);

extern void coverage_partitions(bool sizes, TimestampTz now, PartitionStatsEmit emit, void *arg);
extern void coverage_statistics(TimestampTz now, TableStatsEmit emit, void *arg);
extern void coverage_tables(TimestampTz now, CoverageStatsEmit emit, void *arg);

#endif							/* SAGAZ_PASS_COVERAGE_H */
