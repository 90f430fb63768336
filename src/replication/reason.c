/*
 * reason.c
 *		What reasons amount to: a status, and lines for people.
 *
 * Invariant: a reason is (severity, message) until it is shown. No code reads
 * the line that it is shown as.
 */
#include "postgres.h"

#include "base/compat.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

/* the columns of sagaz_ha._reason */
#define REASON_SEVERITY	1
#define REASON_MESSAGE	2

SAGAZ_FUNCTION(sagaz_status);
SAGAZ_FUNCTION(sagaz_reason_lines);

/* Severities in the order of the status that they make, the worst last. */
static const char *const severities[] = {"ok", "unknown", "warning", "critical"};

/* Takes the array apart; a NULL among its elements is no reason. */
static int
get_reasons(ArrayType *array, HeapTupleHeader **reasons)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	int			kept = 0;
	int			i;

	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_DOUBLE,
					  &elems, &nulls, &n);
	*reasons = palloc(sizeof(HeapTupleHeader) * (n + 1));
	for (i = 0; i < n; i++)
		if (!nulls[i])
			(*reasons)[kept++] = DatumGetHeapTupleHeader(elems[i]);
	return kept;
}

static char *
get_column(HeapTupleHeader reason, int column)
{
	bool		isnull;
	Datum		value = GetAttributeByNum(reason, column, &isnull);

	if (isnull)
		elog(ERROR, "column %d of a reason is null", column);
	return TextDatumGetCString(value);
}

static int
severity_rank(const char *severity)
{
	int			rank;

	for (rank = 0; rank < lengthof(severities); rank++)
		if (strcmp(severity, severities[rank]) == 0)
			return rank;
	elog(ERROR, "unrecognized severity: \"%s\"", severity);
	return 0;					/* keep compiler quiet */
}

/* Returns the worst severity of the reasons; "ok" without any. */
Datum
sagaz_status(PG_FUNCTION_ARGS)
{
	HeapTupleHeader *reasons;
	int			n = get_reasons(PG_GETARG_ARRAYTYPE_P(0), &reasons);
	int			worst = 0;
	int			i;

	for (i = 0; i < n; i++)
		worst = Max(worst, severity_rank(get_column(reasons[i], REASON_SEVERITY)));
	PG_RETURN_TEXT_P(cstring_to_text(severities[worst]));
}

/* Returns the reasons as people see them: "severity: message". */
Datum
sagaz_reason_lines(PG_FUNCTION_ARGS)
{
	HeapTupleHeader *reasons;
	int			n = get_reasons(PG_GETARG_ARRAYTYPE_P(0), &reasons);
	Datum	   *lines = palloc(sizeof(Datum) * (n + 1));
	int			i;

	for (i = 0; i < n; i++)
		lines[i] = CStringGetTextDatum(psprintf("%s: %s",
												get_column(reasons[i], REASON_SEVERITY),
												get_column(reasons[i], REASON_MESSAGE)));
	PG_RETURN_ARRAYTYPE_P(construct_array(lines, n, TEXTOID, -1, false, TYPALIGN_INT));
}
