/*
 * tap.h
 *		The least of TAP, so that prove counts the tests.
 */
#ifndef SAGAZ_TAP_H
#define SAGAZ_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

static int	tap_run;
static int	tap_failed;

__attribute__((format(printf, 2, 3)))
static inline bool
ok(bool passed, const char *name,...)
{
	va_list		args;

	printf("%sok %d - ", passed ? "" : "not ", ++tap_run);
	va_start(args, name);
	vprintf(name, args);
	va_end(args);
	printf("\n");
	/* a sanitizer that ends the program doesn't flush */
	fflush(stdout);
	if (!passed)
		tap_failed++;
	return passed;
}

static inline void
is_time(int64_t got, int64_t expected, const char *name)
{
	if (!ok(got == expected, "%s", name))
		printf("# got %lld, expected %lld: %+.6f hours off\n", (long long) got,
			   (long long) expected, ((double) got - (double) expected) / 3.6e9);
}

/* The plan comes last, so that a program that ends early has none. */
static inline int
done_testing(void)
{
	printf("1..%d\n", tap_run);
	return tap_failed > 0 || tap_run == 0;
}

#endif							/* SAGAZ_TAP_H */
