/*
 * key_sample.h
 *		Whether rows have the keys that their table is said to have.
 */
#ifndef SAGAZ_PASS_KEY_SAMPLE_H
#define SAGAZ_PASS_KEY_SAMPLE_H

#include "postgres.h"

typedef struct KeySample
{
	char	   *table_name;
	char	   *partition_name; /* NULL: no partition has rows */
	const char *wanted;			/* what the keys should be, for people */
	int			sampled;
	int			others;			/* of these, with another key */
} KeySample;

typedef void (*KeySampleEmit) (const KeySample *sample, void *arg);

extern void key_sample_tables(KeySampleEmit emit, void *arg);
extern void key_sample_warn(Oid parent);

#endif							/* SAGAZ_PASS_KEY_SAMPLE_H */
