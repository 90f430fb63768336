/*
 * before_drop.h
 *		Asking a policy's function whether a detached partition may go.
 */
#ifndef SAGAZ_PASS_BEFORE_DROP_H
#define SAGAZ_PASS_BEFORE_DROP_H

#include "pass/pass.h"

extern void before_drop_ask(Pass *pass);
extern void before_drop_call(Pass *pass, Oid partition);

#endif							/* SAGAZ_PASS_BEFORE_DROP_H */
