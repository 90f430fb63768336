/*
 * repair.h
 *		Making a partition what its table is.
 */
#ifndef SAGAZ_DDL_REPAIR_H
#define SAGAZ_DDL_REPAIR_H

#include "postgres.h"

#include "catalog/drift.h"

extern bool repair_is_possible(const Drift *drift);
extern void repair_apply(const Drift *drift);
extern char *repair_concurrent_statement(const DriftIndex *index);
extern void repair_require_no_build(const DriftIndex *index);
extern void repair_attach_index(const DriftIndex *index);
extern void repair_build_index(const DriftIndex *index);

#endif							/* SAGAZ_DDL_REPAIR_H */
