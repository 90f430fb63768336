/*
 * run.h
 *		Running a pass.
 */
#ifndef SAGAZ_PASS_RUN_H
#define SAGAZ_PASS_RUN_H

#include "pass/pass.h"
#include "shmem/shared.h"

extern void run_init_foreground(Pass *pass, TimestampTz now, PassEmit emit, void *arg);
extern void run_init_background(Pass *pass, TimestampTz now, WorkerKind kind,
								long defer_nap);
extern void run_load_problems(Pass *pass);
extern void run_pass(Pass *pass, Oid parent);

#endif							/* SAGAZ_PASS_RUN_H */
