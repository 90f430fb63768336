/*
 * create.h
 *		Making a partition.
 */
#ifndef SAGAZ_DDL_CREATE_H
#define SAGAZ_DDL_CREATE_H

#include "catalog/parent.h"
#include "catalog/policy.h"

/* Puts rows into a partition that isn't attached yet; as the table's owner. */
typedef void (*CreateFill) (Oid partition, void *arg);

/* A table that is to be attached, or has been. */
typedef struct NewPartition
{
	PlanBound	bound;
	Oid			relid;
	bool		has_shape;		/* it has partitions itself */
} NewPartition;

/* A table that nobody uses, and that was taken to make partitions of it. */
typedef struct PlaceToCreate
{
	ParentInfo	info;			/* before the first of them */
	PlanPolicy	plan;
	Oid			schema;
	bool		unlogged;
	const char *storage;
	bool		needs_nothing;	/* the first one has all that it should have */
} PlaceToCreate;

extern PlaceToCreate *create_take_unused(const Policy *policy);
extern bool create_in_place(const Policy *policy, PlaceToCreate *place, const PlanBound *bound,
							NewPartition *new);
extern bool create_table(const Policy *policy, const PlanBound *bound, int patience,
						 NewPartition *new);
extern void create_attach(const Policy *policy, const NewPartition *new, TimestampTz until);
extern Oid	create_partition(const Policy *policy, const PlanBound *bound, int patience);
extern Oid	create_partition_filled(const Policy *policy, const PlanBound *bound,
									CreateFill fill, void *arg);

#endif							/* SAGAZ_DDL_CREATE_H */
