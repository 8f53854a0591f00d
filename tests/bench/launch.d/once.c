/* Runs a command once and prints what it cost: wall and CPU microseconds, peak KiB, and its exit status. The
   measuring program is small, so that what it leaves in the child's numbers is too.

   once COMMAND [ARGUMENT...] */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

int main(int count, char **words) {
    if (count < 2) return 1;
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    struct timespec from, to;
    struct rusage use;
    pid_t child;
    int status;
    clock_gettime(CLOCK_MONOTONIC, &from);
    if (posix_spawnp(&child, words[1], &files, NULL, words + 1, environ)) return 127;
    if (wait4(child, &status, 0, &use) < 0) return 1;
    clock_gettime(CLOCK_MONOTONIC, &to);
    long wall = (to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000;
    long cpu = (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000 + use.ru_utime.tv_usec + use.ru_stime.tv_usec;
    printf("%ld %ld %ld\n", wall, cpu, use.ru_maxrss);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
