/*
 * report.h
 *		Recording what a pass did and found, and what is wrong now.
 */
#ifndef SAGAZ_PASS_REPORT_H
#define SAGAZ_PASS_REPORT_H

#include "pass/pass.h"

extern void report_begin_table(Pass *pass, int partitions);
extern Subject report_table(const TablePlan *table);
extern Subject report_partition(const TablePlan *table, Oid partition, const char *name);
extern void report_done(Pass *pass, const Subject *subject, Action action, const char *details);
extern void report_keep(Pass *pass, const Subject *subject, const char *details);
extern void report_defer(Pass *pass, const Subject *subject, const char *details);
extern void report_drift(Pass *pass, const Subject *subject, const char *details);
extern void report_announced(Pass *pass, const Subject *subject, const char *details);
extern void report_waits(Pass *pass, const Subject *subject, const char *details);
extern bool report_is_for_later(const ErrorData *error);
extern void report_failed_retirement(Pass *pass, const Subject *subject, const ErrorData *error);
extern void report_failure(Pass *pass, const Subject *subject, const ErrorData *error);
extern void report_failure_of_all(Pass *pass, const Subject *subject, const ErrorData *error,
								  int left);
extern bool report_ends_table(const ErrorData *error, bool creating);
extern bool report_table_backs_off(Pass *pass, const Subject *subject, bool creating);
extern bool report_backs_off(Pass *pass, const Subject *subject);
extern void report_leave(Pass *pass, const Subject *subject);
extern void report_solved(Pass *pass, const Subject *subject);
extern void report_leave_expired(Pass *pass, const TablePlan *table);
extern void report_leave_missing(Pass *pass, const TablePlan *table);

#endif							/* SAGAZ_PASS_REPORT_H */
