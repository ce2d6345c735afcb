/* SPDX-License-Identifier: Apache-2.0
 * measured FILE PROGRAM [ARGUMENT]...: runs a program, and appends a line to FILE: the monotonic clock
 * before and after in nanoseconds, the program's user and system time in microseconds, its minor
 * and major page faults, its voluntary and involuntary context switches, and its peak of memory in KiB. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long microseconds(struct timeval time)
{
    return time.tv_sec * 1000000LL + time.tv_usec;
}

int main(int count, char **words)
{
    struct rusage usage;
    int status;

    if (count < 3)
        return 2;
    long long begin = now();
    pid_t child = vfork();
    if (child == 0) {
        execv(words[2], words + 2);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) < 0)
        return 126;
    long long end = now();
    int file = open(words[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0)
        return 125;
    dprintf(file, "%lld %lld %lld %lld %ld %ld %ld %ld %ld\n", begin, end,
            microseconds(usage.ru_utime), microseconds(usage.ru_stime), usage.ru_minflt, usage.ru_majflt,
            usage.ru_nvcsw, usage.ru_nivcsw, usage.ru_maxrss);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
