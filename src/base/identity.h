/*
 * identity.h
 *		Running SQL as another role, safely.
 */
#ifndef SAGAZ_IDENTITY_H
#define SAGAZ_IDENTITY_H

#include "postgres.h"

typedef struct Identity
{
	Oid			user;
	int			context;
	int			guc_level;
} Identity;

extern void identity_assume(Identity *saved, Oid role);
extern void identity_restore(const Identity *saved);
extern Oid	identity_owner_of(Oid relid);
extern Oid	identity_extension_owner(void);
extern void identity_set_local(const char *name, const char *value);
extern void identity_set_local_by_superuser(const char *name, const char *value);
extern void identity_require_owner(Oid relid);
extern void identity_require_primary(const char *function);

#endif							/* SAGAZ_IDENTITY_H */
