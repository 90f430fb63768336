/*
 * attempt.h
 *		Running a step so that its failure undoes the step and nothing else.
 *
 * Invariant: an attempt returns NULL, or the error that undid the step. That
 * the session's own query was cancelled is no failure of a step in a
 * subtransaction: it goes on up.
 */
#ifndef SAGAZ_BASE_ATTEMPT_H
#define SAGAZ_BASE_ATTEMPT_H

#include "postgres.h"

typedef void (*AttemptStep) (void *arg);

/* Surrounds a step with a subtransaction or with a transaction. */
typedef ErrorData *(*AttemptRunner) (AttemptStep step, void *arg);

extern ErrorData *attempt_in_subtransaction(AttemptStep step, void *arg);
extern ErrorData *attempt_in_subtransaction_untimed(AttemptStep step, void *arg);
extern ErrorData *attempt_in_transaction(AttemptStep step, void *arg);
extern ErrorData *attempt_at_top_level(AttemptStep step, void *arg);
extern void attempt_commit_lazily(void);
extern char *attempt_error_text(const ErrorData *error);

#endif							/* SAGAZ_BASE_ATTEMPT_H */
