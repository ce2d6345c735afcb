/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the low-level runtime at once for commands that create no container, as the script hooks/cdi-gen-runtime does.
 *
 * An engine starts the shim several times for each container, and Python takes ten times as long as this. All that is
 * not certain is left to Python: create, run, version, and a config.toml that names runtimes or cannot be read.
 */

#define _GNU_SOURCE
#include "pass_through.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char selection[] = "CDI_GEN_LOW_LEVEL_RUNTIME";
static const char override[] = "NVIDIA_CTK_CONFIG_FILE_PATH";
static const char default_runtimes[] = "runtimes = [\"runc\", \"crun\"]";
static const char more_directories[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/* The value of a variable; NULL if it is empty. */
static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

static bool creates_container(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        size_t length = strlen(word), ending = strlen("version");
        if (strcmp(word, "create") == 0 || strcmp(word, "run") == 0) return true;
        if (strcmp(word, "-v") == 0 || strcmp(word, "-V") == 0) return true;
        if (length >= ending && strcmp(word + length - ending, "version") == 0) return true;
    }
    return false;
}

/* Whether the file can be started and is not this program, which would start itself forever. */
static bool is_runtime(const char *path, const struct stat *self) {
    struct stat file;
    return path[0] == '/' && stat(path, &file) == 0 && S_ISREG(file.st_mode) && access(path, X_OK) == 0 &&
           !(file.st_dev == self->st_dev && file.st_ino == self->st_ino);
}

/* Whether config.toml leaves the default runtimes as they are. */
static bool has_default_runtimes(void) {
    char buffer[PATH_MAX];
    const char *path = variable(override);
    if (path == NULL) {
        const char *directory = variable("XDG_CONFIG_HOME");
        int length = snprintf(buffer, sizeof buffer, "%s/nvidia-container-runtime/config.toml", directory ? directory : "/etc");
        if (length >= (int)sizeof buffer) return false;
        path = buffer;
    }
    struct stat status;
    if (stat(path, &status) != 0) return variable(override) == NULL;
    if (!S_ISREG(status.st_mode)) return false;
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    char line[4096];
    bool is_default = true;
    while (is_default && fgets(line, sizeof line, file) != NULL) {
        char *text = line + strspn(line, " \t");
        text[strcspn(text, "\n")] = '\0';
        size_t length = strlen(text);
        while (length > 0 && strchr(" \t", text[length - 1]) != NULL) text[--length] = '\0';
        if (text[0] != '#' && strcmp(text, default_runtimes) != 0 && strstr(text, "runtimes") != NULL) is_default = false;
        /* The rest of a line that is longer could hold anything. */
        if (strlen(line) == sizeof line - 1) is_default = false;
    }
    if (ferror(file)) is_default = false;
    fclose(file);
    return is_default;
}

/* Start the first program of this name in a list of directories; return if there is none. */
static void start_from(const char *directories, const char *name, const struct stat *self, char **argv) {
    for (const char *start = directories; start != NULL;) {
        const char *colon = strchr(start, ':');
        int length = colon ? (int)(colon - start) : (int)strlen(start);
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%.*s/%s", length, start, name) < (int)sizeof path && is_runtime(path, self)) {
            argv[0] = path;
            execv(path, argv);
        }
        start = colon ? colon + 1 : NULL;
    }
}

void pass_through(int argc, char **argv) {
    struct stat self;
    if (creates_container(argc, argv) || stat("/proc/self/exe", &self) != 0) return;
    char *name = argv[0];
    const char *selected = variable(selection);
    if (selected != NULL) {
        if (!is_runtime(selected, &self)) return;
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s", selected) >= (int)sizeof path) return;
        unsetenv(selection);
        argv[0] = path;
        execv(path, argv);
        setenv(selection, path, 1);
    } else if (has_default_runtimes()) {
        static const char *const names[] = {"runc", "crun"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            const char *search_path = getenv("PATH");
            if (search_path != NULL) start_from(search_path, names[i], &self, argv);
            start_from(more_directories, names[i], &self, argv);
        }
    }
    argv[0] = name; /* no runtime could be started: Python reports why */
}
