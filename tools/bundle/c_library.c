/* SPDX-License-Identifier: Apache-2.0 */
/* dlopen and dlsym of a static program: the functions that hooks/cdi_base/syscalls.py calls by _ctypes.
 *
 * musl's own dlopen fails in a static program. Nothing can be loaded here either: only these functions can be found.
 */

#define _GNU_SOURCE
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <unistd.h>

int capset(void *header, const void *data); /* in musl, without a declaration */

static const struct {
    const char *name;
    void *address;
} functions[] = {
    {"capset", (void *)capset}, {"fstatfs", (void *)fstatfs}, {"mount", (void *)mount},     {"prctl", (void *)prctl},
    {"setns", (void *)setns},   {"syscall", (void *)syscall}, {"umount2", (void *)umount2}, {"unshare", (void *)unshare},
};

/* NULL is the program itself. */
void *dlopen(const char *file, int flags) {
    (void)flags;
    return file == NULL ? (void *)functions : NULL;
}

void *dlsym(void *restrict handle, const char *restrict name) {
    (void)handle;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(name, functions[i].name) == 0) return functions[i].address;
    return NULL;
}

int dlclose(void *handle) {
    (void)handle;
    return 0;
}

char *dlerror(void) { return "this program is static: it loads no library and has no other function"; }
