#ifndef CORE_BASE_LOCK_H
#define CORE_BASE_LOCK_H
/*
 * A lock that says: these outputs belong to this process. Two runs that write into one folder would
 * leave files of both, and each would call that success.
 *
 * It is a file, ".linnet.lock" say, held by flock(2): the system lets it go when the process dies,
 * however that happens, and the file that stays behind locks nobody out. In it stand process, machine
 * and time, for the message to whoever comes second.
 *
 * Of several ranks (ranks.h) the first takes it for all.
 *
 * Limit: file systems without locks (some network mounts) let everybody in.
 */
#include "core/base/mem.h"

struct lock;
/* path: of the lock's file; what: the outputs, for the message, "folder 'out'". ERR_IO: another
 * process holds it, and which. lock_release in every case. */
int lock_take(const char *path, const char *what, struct lock **out) MUST_CHECK;
void lock_release(struct lock *l); /* NULL is fine */
FREE_AT(lock_release, struct lock)
/* For the owner: removes the temporaries that killed writers (file.h) left in `folder` of files whose
 * names begin with `prefix`. Those of living processes stay. */
void lock_remove_leftovers(const char *folder, const char *prefix);
#endif
