/*
 * convert.h
 *		The statements of a conversion, and running them.
 */
#ifndef SAGAZ_DDL_CONVERT_H
#define SAGAZ_DDL_CONVERT_H

#include "postgres.h"

#include "catalog/conversion.h"
#include "nodes/pg_list.h"

typedef struct ConvertStatement
{
	char	   *phase;
	Oid			run_as;			/* InvalidOid: what only a person runs */
	char	   *lock;			/* NULL: none that matters */
	char	   *sql;
	char	   *meaning;		/* NULL: it says all */
} ConvertStatement;

/* What is in the way. */
typedef struct ConvertObstacle
{
	char	   *problem;
	char	   *hint;
} ConvertObstacle;

extern bool convert_find_left(Oid relation, Conversion *conversion);
extern List *convert_obstacles(const Conversion *conversion);
extern void convert_refuse(const Conversion *conversion, List *obstacles);
extern List *convert_building(const Conversion *conversion);
extern List *convert_steps(const Conversion *conversion);
extern List *convert_step(const Conversion *conversion, ConversionPhase phase);
extern List *convert_companions(Oid relation, const char *step);
extern List *convert_finishing(const Conversion *conversion);
extern List *convert_returning(Oid parent, Oid partition);
extern List *convert_dropping_check(const Conversion *conversion);
extern List *convert_undoing(const Conversion *conversion);
extern bool convert_next_index(const Conversion *conversion, ConvertStatement *statement);
extern List *convert_storage_parameters(Oid relation);
extern void convert_run(List *statements);
extern void convert_drop_left(Oid parent);
extern bool convert_has_rows(Oid relation);
extern void convert_replace_query(Oid view, const char *query);

#endif							/* SAGAZ_DDL_CONVERT_H */
