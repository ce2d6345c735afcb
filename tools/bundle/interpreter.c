/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter of the bundle: CPython, isolated, for the programs beside it and no others.
 *
 * BASE/bin/NAME is a link to this program, BASE/python/cdi-gen-python; BASE/python has the programs' launchers and
 * packages. BASE is where the kernel found this file, so the tree works in any directory. Every module of the standard
 * library that the programs import is part of this file: no other directory is searched, and no variable of the
 * environment changes what runs.
 */

#define _GNU_SOURCE
#include <Python.h>

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "frozen_modules.h"
#include "pass_through.h"

static const struct {
    const char *name;
    const char *launcher;
} programs[] = {
    {"cdi-gen-hook", "cdi-gen-hook"},
    {"nvidia-cdi-hook", "nvidia-cdi-hook"},
    {"cdi-gen-runtime", "cdi-gen-runtime"},
    {"nvidia-container-runtime", "cdi-gen-runtime"},
    {"nvidia-container-runtime.cdi", "cdi-gen-runtime"},
    {"nvidia-container-runtime.legacy", "cdi-gen-runtime"},
    {"cdi-gen-runtime-hook", "cdi-gen-runtime-hook"},
    {"nvidia-container-runtime-hook", "cdi-gen-runtime-hook"},
};

enum { MAX_LINKS = 8, CANNOT_START = 126 };

static int fail(const char *path, const char *reason) {
    dprintf(STDERR_FILENO, "cdi-gen: %s: %s\n", path, reason);
    return CANNOT_START;
}

/* The launcher for the name under which the kernel started this program, following links with other names. */
static const char *launcher_of(const char *started_as) {
    char path[PATH_MAX], text[PATH_MAX];
    if (snprintf(path, sizeof path, "%s", started_as) >= (int)sizeof path) return NULL;
    for (int links = 0; links <= MAX_LINKS; links++) {
        char *slash = strrchr(path, '/');
        char *name = slash ? slash + 1 : path;
        for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
            if (strcmp(name, programs[i].name) == 0) return programs[i].launcher;
        ssize_t length = readlink(path, text, sizeof text - 1);
        if (length < 0) return NULL;
        text[length] = '\0';
        if (text[0] == '/') name = path;
        size_t space = sizeof path - (size_t)(name - path);
        if (snprintf(name, space, "%s", text) >= (int)space) return NULL;
    }
    return NULL;
}

static PyStatus start(const char *started_as, const char *directory, const char *launcher, int argc, char **argv) {
    PyPreConfig process;
    PyPreConfig_InitIsolatedConfig(&process);
    process.utf8_mode = 1;
    PyStatus status = Py_PreInitialize(&process);
    if (PyStatus_Exception(status)) return status;

    PyImport_FrozenModules = frozen_modules;

    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.write_bytecode = 0;
    config.install_signal_handlers = 1; /* as python3: the shim reports an interruption */
    config.module_search_paths_set = 1; /* none: the launcher adds its own directory */

    char script[PATH_MAX], program[PATH_MAX];
    snprintf(script, sizeof script, "%s/%s", directory, launcher);
    snprintf(program, sizeof program, "%s/cdi-gen-python", directory);
    const struct {
        wchar_t **field;
        const char *path;
    } paths[] = {
        {&config.prefix, directory},      {&config.exec_prefix, directory}, {&config.base_prefix, directory},
        {&config.stdlib_dir, directory},  {&config.executable, program},    {&config.base_exec_prefix, directory},
        {&config.program_name, program},  {&config.run_filename, script},
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths && !PyStatus_Exception(status); i++)
        status = PyConfig_SetBytesString(&config, paths[i].field, paths[i].path);
    if (!PyStatus_Exception(status)) {
        /* As for a script: the path that the kernel was given, whatever the caller calls the program. */
        argv[0] = (char *)started_as;
        status = PyConfig_SetBytesArgv(&config, argc, argv);
    }
    if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    return status;
}

int main(int argc, char **argv) {
    const char *started_as = (const char *)getauxval(AT_EXECFN);
    if (started_as == NULL || argc < 1) return fail("cdi-gen-python", "started without a name");
    const char *launcher = launcher_of(started_as);
    if (launcher == NULL) return fail(started_as, "not the name of a program of this bundle");

    char directory[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", directory, sizeof directory - 64);
    if (length < 0) return fail(started_as, "cannot find its own directory: /proc is not mounted");
    directory[length] = '\0';
    char *slash = strrchr(directory, '/');
    if (slash == NULL) return fail(started_as, "its own directory has no path");
    *slash = '\0';

    if (strcmp(launcher, "cdi-gen-runtime") == 0)
        pass_through(argc, argv);
    else
        /* libc opens the file that TZ names when Python starts; a hook's TZ can be the image's, and the file a pipe. */
        unsetenv("TZ");

    PyStatus status = start(started_as, directory, launcher, argc, argv);
    if (PyStatus_Exception(status)) return fail(started_as, status.err_msg ? status.err_msg : "Python does not start");
    return Py_RunMain();
}
