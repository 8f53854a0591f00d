/* What a program does all the time, as often as it can in half a second: inside KIND, prints the rate per second.
   KIND: getpid, stat, compute */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

int main(int count, char **words) {
    if (count != 2) return 1;
    volatile double sum = 0;
    struct stat data;
    long rounds = 0;
    double start = now(), end;
    do {
        for (int i = 0; i < 1000; i++) {
            if (!strcmp(words[1], "getpid")) syscall(SYS_getpid);
            else if (!strcmp(words[1], "stat")) stat("/usr/bin/env", &data);
            else for (int j = 0; j < 1000; j++) sum += j * 1.000001;
        }
        rounds += 1000;
        end = now();
    } while (end - start < 0.5);
    printf("%.0f\n", rounds / (end - start));
}
