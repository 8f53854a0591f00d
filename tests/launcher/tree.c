/* Changes a tree and lists it, in a container and outside of it alike; tests/launcher/overlay_property.rs has it
 * built.
 *
 *   tree list ROOT            one line for everything that is there: kind, mode, way, what it holds
 *   tree do ROOT <CHANGES     makes one change a line, a word and paths, and then lists; what cannot be done is left
 *
 * What is mounted in the tree is listed as "M" and not looked into; .chariot is Chariot's own.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static uint64_t mount;

static struct statx look(const char *path)
{
    struct statx data;
    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_MNT_ID, &data) < 0) {
        perror(path);
        exit(1);
    }
    return data;
}

static void contents(const char *path)
{
    uint64_t sum = 14695981039346656037u;
    unsigned char block[4096];
    ssize_t length;
    int file = open(path, O_RDONLY | O_NOFOLLOW);
    if (file < 0) {
        perror(path);
        exit(1);
    }
    while ((length = read(file, block, sizeof block)) > 0)
        for (ssize_t i = 0; i < length; i++)
            sum = (sum ^ block[i]) * 1099511628211u;
    close(file);
    printf(" %016llx", (unsigned long long)sum);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void attributes(const char *path)
{
    char names[4096], value[256], *found[64];
    int many = 0;
    ssize_t length = llistxattr(path, names, sizeof names);
    for (char *name = names; name < names + length && many < 64; name += strlen(name) + 1)
        if (!strncmp(name, "user.", 5))
            found[many++] = name;
    qsort(found, many, sizeof *found, by_name);
    for (int i = 0; i < many; i++) {
        ssize_t size = lgetxattr(path, found[i], value, sizeof value);
        printf(" %s=%.*s", found[i], (int)(size > 0 ? size : 0), value);
    }
}

static void list(const char *path, const char *shown)
{
    struct statx data = look(path);
    if (data.stx_mnt_id != mount) {
        printf("M %s\n", shown);
        return;
    }
    int kind = data.stx_mode & S_IFMT;
    char target[4096];
    ssize_t length;
    switch (kind) {
    case S_IFDIR:
        printf("d %o %s", data.stx_mode & 07777, shown);
        break;
    case S_IFLNK:
        length = readlink(path, target, sizeof target);
        printf("l %s -> %.*s", shown, (int)(length > 0 ? length : 0), target);
        break;
    default:
        printf("%c %o %s", kind == S_IFREG ? 'f' : 'o', data.stx_mode & 07777, shown);
    }
    /* Whether two names are one symbolic link makes no difference to anybody. */
    if (kind != S_IFDIR && kind != S_IFLNK)
        printf(" = %x:%x:%llx", data.stx_dev_major, data.stx_dev_minor, (unsigned long long)data.stx_ino);
    if (kind == S_IFREG)
        contents(path);
    if (kind != S_IFLNK)
        attributes(path);
    putchar('\n');
    if (kind != S_IFDIR)
        return;
    struct dirent **entries;
    int many = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < many; i++) {
        const char *name = entries[i]->d_name;
        char below[4096], below_shown[4096];
        if (!strcmp(name, ".") || !strcmp(name, "..") || (!*shown && !strcmp(name, ".chariot")))
            continue;
        snprintf(below, sizeof below, "%s/%s", path, name);
        snprintf(below_shown, sizeof below_shown, "%s/%s", shown, name);
        list(below, below_shown);
    }
}

static void take_away(const char *path)
{
    struct stat data;
    if (lstat(path, &data) < 0)
        return;
    if (!S_ISDIR(data.st_mode)) {
        unlink(path);
        return;
    }
    struct dirent **entries;
    int many = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < many; i++) {
        char below[4096];
        const char *name = entries[i]->d_name;
        if (!strcmp(name, ".") || !strcmp(name, ".."))
            continue;
        snprintf(below, sizeof below, "%s/%s", path, name);
        struct statx found = look(below);
        if (found.stx_mnt_id == mount)
            take_away(below);
    }
    rmdir(path);
}

static void write_to(const char *path, const char *text, int flags)
{
    int file = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | flags, 0666);
    if (file >= 0 && write(file, text, strlen(text)) >= 0)
        close(file);
}

static int is_ours(const char *path)
{
    struct statx data;
    /* A directory of the host that is mounted here is none of the test's business. */
    char above[4096];
    snprintf(above, sizeof above, "%s", path);
    char *slash = strrchr(above, '/');
    slash[slash == above] = 0;
    return statx(AT_FDCWD, above, 0, STATX_MNT_ID, &data) == 0 && data.stx_mnt_id == mount;
}

static void change(const char *word, const char *a, const char *b)
{
    if (!is_ours(a) || (*b == '/' && !is_ours(b)))
        return;
    if (!strcmp(word, "write"))
        write_to(a, b, O_TRUNC);
    else if (!strcmp(word, "append"))
        write_to(a, b, O_APPEND);
    else if (!strcmp(word, "mkdir"))
        mkdir(a, 0777);
    else if (!strcmp(word, "rename"))
        rename(a, b);
    else if (!strcmp(word, "swap"))
        renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
    else if (!strcmp(word, "link"))
        link(a, b);
    else if (!strcmp(word, "symlink"))
        symlink(b + 1, a);
    else if (!strcmp(word, "remove"))
        take_away(a);
    else if (!strcmp(word, "chmod")) {
        struct statx data;
        /* Never through a link, and never what is mounted. */
        if (statx(AT_FDCWD, a, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_MNT_ID, &data) == 0 &&
            data.stx_mnt_id == mount && !S_ISLNK(data.stx_mode))
            chmod(a, strtol(b, NULL, 8) | (S_ISDIR(data.stx_mode) ? 0700 : 0));
    } else if (!strcmp(word, "mark"))
        lsetxattr(a, "user.mark", b, strlen(b), 0);
    else if (!strcmp(word, "unmark"))
        lremovexattr(a, "user.mark");
}

int main(int argc, char **argv)
{
    umask(022);
    if (argc != 3)
        return 1;
    mount = look(argv[2]).stx_mnt_id;
    char word[16], a[256], b[256], full[512], other[512];
    const char *root = strcmp(argv[2], "/") ? argv[2] : "";
    while (!strcmp(argv[1], "do") && scanf("%15s %255s %255s", word, a, b) == 3) {
        snprintf(full, sizeof full, "%s%s", root, a);
        snprintf(other, sizeof other, "%s%s", *b == '/' && strcmp(word, "symlink") ? root : "", b);
        change(word, full, other);
    }
    list(argv[2], "");
    return 0;
}
