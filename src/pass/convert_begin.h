/*
 * convert_begin.h
 *		A conversion is asked for: what is in the way, its plan, its beginning.
 */
#ifndef SAGAZ_PASS_CONVERT_BEGIN_H
#define SAGAZ_PASS_CONVERT_BEGIN_H

#include "catalog/conversion.h"
#include "catalog/policy.h"
#include "ddl/convert.h"

/* What the user wants; the conversion's bounds are found later. */
typedef struct ConvertWish
{
	Conversion	conversion;
	Policy		policy;
	TimestampTz now;
} ConvertWish;

typedef void (*ConvertEmit) (const ConvertStatement *statement, void *arg);

extern void convert_begin(ConvertWish *wish);
extern void convert_plan(ConvertWish *wish, ConvertEmit emit, void *arg);

#endif							/* SAGAZ_PASS_CONVERT_BEGIN_H */
