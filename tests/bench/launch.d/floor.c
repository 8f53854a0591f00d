/* The floor: a container of a directory with the fewest system calls, in two sizes. Small: user and mount namespace,
   the image read-only, the host's /dev, /proc, /sys and /tmp, pivot_root, exec. Whole: the same container as
   `chariot run` makes, with passwd and group of its own, the host's files in /etc and the working directory.

   floor small|whole IMAGE PROGRAM [ARGUMENT...]   The image has all mount points. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void die(const char *what) { perror(what); exit(125); }

static void put(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0 || write(file, text, strlen(text)) < 0) die(path);
    close(file);
}

static void bind(const char *what, const char *image, const char *where) {
    char target[4096];
    snprintf(target, sizeof target, "%s%s", image, where);
    if (mount(what, target, NULL, MS_BIND | MS_REC, NULL)) die(where);
}

/* What the image says, after a line of our own. */
static void text(const char *image, const char *name, const char *own) {
    static char from[4096], all[1 << 16];
    snprintf(from, sizeof from, "%s%s", image, name);
    size_t length = strlen(strcpy(all, own));
    int file = open(from, O_RDONLY | O_CLOEXEC);
    ssize_t more = file < 0 ? 0 : read(file, all + length, sizeof all - length - 1);
    if (more < 0) die(from);
    all[length + more] = 0;
    close(file);
    const char *made = strstr(name, "passwd") ? "/dev/shm/passwd" : "/dev/shm/group";
    put(made, all);
    bind(made, image, name);
}

int main(int count, char **words) {
    if (count < 4) return 125;
    int whole = !strcmp(words[1], "whole");
    const char *image = words[2];
    char map[64], here[4096], line[8192];
    unsigned user = geteuid(), group = getegid();
    if (!getcwd(here, sizeof here)) die("getcwd");
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS)) die("unshare");
    put("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "%u %u 1", user, user);
    put("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "%u %u 1", group, group);
    put("/proc/self/gid_map", map);
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL)) die("slave");
    if (mount(image, image, NULL, MS_BIND | MS_REC, NULL)) die("bind");
    if (mount(NULL, image, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL)) die("read-only");
    if (whole) {
        if (mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")) die("tmpfs");
        snprintf(line, sizeof line, "me:x:%u:%u::%s:/bin/sh\n", user, group, here);
        text(image, "/etc/passwd", line);
        snprintf(line, sizeof line, "us:x:%u:\n", group);
        text(image, "/etc/group", line);
        if (umount2("/dev/shm", MNT_DETACH)) die("umount");
        const char *files[] = {"/etc/hosts", "/etc/resolv.conf", "/etc/machine-id"};
        for (int i = 0; i < 3; i++)
            if (!access(files[i], F_OK)) bind(files[i], image, files[i]);
        bind(here, image, here);
    }
    const char *host[] = {"/dev", "/proc", "/sys", "/tmp"};
    for (int i = 0; i < 4; i++) bind(host[i], image, host[i]);
    if (chdir(image) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH)) die("pivot_root");
    if (chdir(whole ? here : "/") || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("prctl");
    execv(words[3], words + 3);
    die(words[3]);
}
