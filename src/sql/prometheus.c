/*
 * prometheus.c
 *		Labels of a metric as the Prometheus text format has them.
 *
 * Invariant: whatever a label's value is, its line parses.
 */
#include "postgres.h"

#include "base/compat.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

SAGAZ_FUNCTION(sagaz_prometheus_labels);

/* The format knows three escapes, and takes every other character as it is. */
static void
append_escaped(StringInfo out, const char *value, int len)
{
	int			i;

	for (i = 0; i < len; i++)
	{
		if (value[i] == '\n')
			appendStringInfoString(out, "\\n");
		else
		{
			if (value[i] == '\\' || value[i] == '"')
				appendStringInfoChar(out, '\\');
			appendStringInfoChar(out, value[i]);
		}
	}
}

static void
append_value(StringInfo out, const JsonbValue *value)
{
	char	   *number;

	appendStringInfoString(out, "=\"");
	if (value->type == jbvString)
		append_escaped(out, value->val.string.val, value->val.string.len);
	else if (value->type == jbvBool)
		appendStringInfoString(out, value->val.boolean ? "true" : "false");
	else if (value->type == jbvNumeric)
	{
		number = DatumGetCString(DirectFunctionCall1(numeric_out,
													 NumericGetDatum(value->val.numeric)));
		appendStringInfoString(out, number);
	}
	appendStringInfoChar(out, '"');
}

/* Returns {slot="a"} for {"slot": "a"}, and nothing for an empty object. */
Datum
sagaz_prometheus_labels(PG_FUNCTION_ARGS)
{
	Jsonb	   *labels = PG_GETARG_JSONB_P(0);
	StringInfoData out;
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_OBJECT(labels) || JB_ROOT_COUNT(labels) == 0)
		PG_RETURN_TEXT_P(cstring_to_text(""));
	initStringInfo(&out);
	it = JsonbIteratorInit(&labels->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			appendStringInfoChar(&out, out.len == 0 ? '{' : ',');
			appendBinaryStringInfo(&out, value.val.string.val,
								   value.val.string.len);
		}
		else if (token == WJB_VALUE)
			append_value(&out, &value);
	}
	appendStringInfoChar(&out, '}');
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
