// SPDX-License-Identifier: Apache-2.0
// probe: what a container looks like to a program inside it. It needs no shell and no libraries
// but the C library, so that it tells the same in every image.
//
//   probe VERB SUBJECT... [-- VERB SUBJECT...]...
//
// One line for each answer: VERB, SUBJECT, then fields, between tabs; bytes that are not
// printable ASCII, and backslashes, as \xNN. An error is its symbol, ENOENT say.
//
//   dlopen NAME    ok PATH-IT-WAS-FOUND-AT | fail MESSAGE
//   who NAME       ok PATH-IT-WAS-FOUND-AT REAL-PATH WHAT-IT-SAYS | fail MESSAGE    what it says is its
//                  string lab_identity, empty in a library that is not the lab's own
//   listed NAME    the first path that `ldconfig -p` has for this architecture | none | ERROR
//   stat PATH      TYPE MODE UID GID MAJOR MINOR | ERROR     TYPE is one of f d l c b p s; follows symlinks
//   open PATH      ok | ERROR                                for reading and writing
//   create PATH    ok | ERROR                                a new, empty file
//   read PATH      the first 4096 bytes | ERROR
//   env NAME       set VALUE | unset
//   readlink PATH  TARGET | ERROR
//   ls PATH        one line for each name in it | ERROR
//   find PATH      one line for each file below it, sorted: TYPE MODE UID GID and, for f, SIZE and
//                  a checksum of its bytes; for l, its target; for c and b, MAJOR MINOR; a mount
//                  point has type M and nothing below it is listed
//   pause -        answers ok, then waits for a signal to end it
//
// The exit status is 0 when every question got an answer, also when the answer is an error.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void put(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < ' ' || c > '~' || c == '\\')
            printf("\\x%02x", c);
        else
            putchar(c);
    }
}

static void field(const char *text) {
    putchar('\t');
    put(text, strlen(text));
}

static void begin(const char *verb, const char *subject) {
    fputs(verb, stdout);
    field(subject);
}

static void end(void) {
    putchar('\n');
}

static const char *symbol(int number) {
    static char other[16];
    switch (number) {
    case EPERM: return "EPERM";
    case ENOENT: return "ENOENT";
    case EIO: return "EIO";
    case ENXIO: return "ENXIO";
    case EACCES: return "EACCES";
    case EBUSY: return "EBUSY";
    case EEXIST: return "EEXIST";
    case ENODEV: return "ENODEV";
    case ENOTDIR: return "ENOTDIR";
    case EISDIR: return "EISDIR";
    case EINVAL: return "EINVAL";
    case EROFS: return "EROFS";
    case ELOOP: return "ELOOP";
    }
    snprintf(other, sizeof other, "E%d", number);
    return other;
}

static void field_error(void) {
    field(symbol(errno));
}

static char type_of(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG: return 'f';
    case S_IFDIR: return 'd';
    case S_IFLNK: return 'l';
    case S_IFCHR: return 'c';
    case S_IFBLK: return 'b';
    case S_IFIFO: return 'p';
    case S_IFSOCK: return 's';
    }
    return '?';
}

static void field_owner(char type, const struct stat *status) {
    printf("\t%c\t%04o\t%u\t%u", type, (unsigned)status->st_mode & 07777,
           (unsigned)status->st_uid, (unsigned)status->st_gid);
}

static void field_device(const struct stat *status) {
    printf("\t%u\t%u", major(status->st_rdev), minor(status->st_rdev));
}

static void field_target(const char *path) {
    char target[PATH_MAX];
    ssize_t length = readlink(path, target, sizeof target);
    if (length < 0) {
        field_error();
        return;
    }
    putchar('\t');
    put(target, (size_t)length);
}

static void probe_dlopen(const char *verb, const char *name) {
    begin(verb, name);
    void *handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    struct link_map *map;
    if (handle == NULL) {
        field("fail");
        field(dlerror());
    } else if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0) {
        field("ok");
        field("?");
    } else {
        field("ok");
        field(map->l_name);
    }
    end();
}

static void probe_who(const char *verb, const char *name) {
    char real[PATH_MAX];
    struct link_map *map;
    begin(verb, name);
    void *handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    if (handle == NULL || dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0) {
        field("fail");
        field(dlerror());
    } else {
        const char *says = dlsym(handle, "lab_identity");
        field("ok");
        field(map->l_name);
        field(realpath(map->l_name, real) ? real : symbol(errno));
        field(says ? says : "");
    }
    end();
}

static void probe_listed(const char *verb, const char *name) {
    int ends[2];
    char line[2 * PATH_MAX], found[PATH_MAX] = "";
    int status = -1;
    begin(verb, name);
    pid_t child = pipe(ends) == 0 ? fork() : -1;
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        execl("/sbin/ldconfig", "ldconfig", "-p", (char *)NULL);
        _exit(errno);
    }
    close(ends[1]);
    FILE *list = child < 0 ? NULL : fdopen(ends[0], "r");
    while (list && fgets(line, sizeof line, list)) {
        size_t length = strlen(name);
        char *path = strstr(line, "x86-64) => ");
        // A cache of glibc before 2.33 says more between the brackets: "(libc6,x86-64, hwcap: ...)".
        if (!*found && line[0] == '\t' && path && strncmp(line + 1, name, length) == 0 && line[1 + length] == ' ')
            snprintf(found, sizeof found, "%.*s", (int)strcspn(path + 11, "\n"), path + 11);
    }
    if (list)
        fclose(list);
    if (child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        field(*found ? found : "none");
    else
        field(WIFEXITED(status) ? symbol(WEXITSTATUS(status)) : "killed");
    end();
}

static void probe_stat(const char *verb, const char *path) {
    struct stat status;
    begin(verb, path);
    if (stat(path, &status) != 0) {
        field_error();
    } else {
        field_owner(type_of(status.st_mode), &status);
        field_device(&status);
    }
    end();
}

static void probe_open(const char *verb, const char *path) {
    int creating = strcmp(verb, "create") == 0;
    begin(verb, path);
    int file = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | (creating ? O_CREAT | O_EXCL : 0), 0644);
    if (file < 0) {
        field_error();
    } else {
        field("ok");
        close(file);
    }
    end();
}

static void probe_read(const char *verb, const char *path) {
    char text[4096];
    begin(verb, path);
    int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text);
    if (length < 0) {
        field_error();
    } else {
        putchar('\t');
        put(text, (size_t)length);
    }
    if (file >= 0)
        close(file);
    end();
}

static void probe_env(const char *verb, const char *name) {
    const char *value = getenv(name);
    begin(verb, name);
    field(value ? "set" : "unset");
    if (value)
        field(value);
    end();
}

static void probe_readlink(const char *verb, const char *path) {
    begin(verb, path);
    field_target(path);
    end();
}

static int no_dots(const struct dirent *entry) {
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void probe_ls(const char *verb, const char *path) {
    struct dirent **entries;
    int count = scandir(path, &entries, no_dots, by_bytes);
    if (count < 0) {
        begin(verb, path);
        field_error();
        end();
        return;
    }
    for (int i = 0; i < count; i++) {
        begin(verb, path);
        field(entries[i]->d_name);
        end();
        free(entries[i]);
    }
    free(entries);
}

// FNV-1a: not a defence, only a way to see that a file has changed.
static void field_checksum(const char *path) {
    unsigned char bytes[65536];
    uint64_t sum = 0xcbf29ce484222325u;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        field_error();
        return;
    }
    for (ssize_t length; (length = read(file, bytes, sizeof bytes)) > 0;)
        for (ssize_t i = 0; i < length; i++)
            sum = (sum ^ bytes[i]) * 0x100000001b3u;
    close(file);
    printf("\t%016llx", (unsigned long long)sum);
}

static void find_below(const char *verb, const char *folder, dev_t device) {
    struct dirent **entries;
    int count = scandir(folder, &entries, no_dots, by_bytes);
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", strcmp(folder, "/") ? folder : "", entries[i]->d_name);
        free(entries[i]);
        begin(verb, path);
        if (lstat(path, &status) != 0) {
            field_error();
            end();
            continue;
        }
        char type = type_of(status.st_mode);
        int crossed = type == 'd' && status.st_dev != device;
        field_owner(crossed ? 'M' : type, &status);
        if (type == 'f') {
            printf("\t%lld", (long long)status.st_size);
            field_checksum(path);
        } else if (type == 'l') {
            field_target(path);
        } else if (type == 'c' || type == 'b') {
            field_device(&status);
        }
        end();
        if (type == 'd' && !crossed)
            find_below(verb, path, device);
    }
    if (count >= 0)
        free(entries);
}

static void probe_find(const char *verb, const char *path) {
    struct stat status;
    if (stat(path, &status) != 0) {
        begin(verb, path);
        field_error();
        end();
        return;
    }
    find_below(verb, path, status.st_dev);
}

static void stop(int signal_number) {
    _exit(signal_number == SIGTERM ? 0 : 128 + signal_number);
}

static void probe_pause(const char *verb, const char *subject) {
    // As process 1 of a container it would not even notice a signal that it has no handler for.
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    begin(verb, subject);
    field("ok");
    end();
    fflush(stdout);
    pause();
}

static const struct {
    const char *verb;
    void (*answer)(const char *verb, const char *subject);
} probes[] = {
    {"dlopen", probe_dlopen}, {"who", probe_who},   {"listed", probe_listed}, {"stat", probe_stat}, {"open", probe_open},
    {"create", probe_open},   {"read", probe_read}, {"env", probe_env},
    {"readlink", probe_readlink}, {"ls", probe_ls}, {"find", probe_find},
    {"pause", probe_pause},
};

int main(int count, char **words) {
    for (int i = 1; i < count; i++) {
        const char *verb = words[i];
        size_t known = 0;
        while (known < sizeof probes / sizeof *probes && strcmp(probes[known].verb, verb) != 0)
            known++;
        if (known == sizeof probes / sizeof *probes) {
            fprintf(stderr, "probe: no such verb: %s\n", verb);
            return 2;
        }
        for (i++; i < count && strcmp(words[i], "--") != 0; i++)
            probes[known].answer(verb, words[i]);
    }
    return 0;
}
