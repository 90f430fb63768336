/*
 * arguments.h
 *		Arguments of SQL-callable functions, checked.
 */
#ifndef SAGAZ_SQL_ARGUMENTS_H
#define SAGAZ_SQL_ARGUMENTS_H

#include "postgres.h"

#include "catalog/policy.h"
#include "fmgr.h"

extern void argument_require(FunctionCallInfo fcinfo, int argument, const char *name);
extern char *argument_text(FunctionCallInfo fcinfo, int argument);
extern Oid	argument_table(FunctionCallInfo fcinfo, const char *function);
extern Oid	argument_partition(FunctionCallInfo fcinfo);
extern TimestampTz argument_finite_time(FunctionCallInfo fcinfo, int argument,
										const char *message, const char *hint);
extern Policy *argument_require_policy(Oid relid);
extern void argument_policy(FunctionCallInfo fcinfo, int first, Policy *policy);

#endif							/* SAGAZ_SQL_ARGUMENTS_H */
