/*
 * preview.h
 *		What a pass would do, without doing it.
 */
#ifndef SAGAZ_PASS_PREVIEW_H
#define SAGAZ_PASS_PREVIEW_H

#include "pass/pass.h"

extern void preview(TimestampTz at, PassEmit emit, void *arg);

#endif							/* SAGAZ_PASS_PREVIEW_H */
