# Sourced, with a processor in Debian's words in `processor`, this machine's own if that is empty:
#
#   bootstrap RELEASE VARIANT PACKAGES FILE   makes a root file system of a Debian release, as a tar archive
#   emulated COMMAND…                         runs a command that starts programs of that processor
#   name_pmix ROOT                            mends what Slurm does not find in such a root file system
#
# `foreign` is the processor in the kernel's words and Rust's, if it is not this machine's.
foreign=
processor=${processor:-$(dpkg --print-architecture)}
if [ "$processor" != "$(dpkg --print-architecture)" ]; then
    case $processor in
    arm64) foreign=aarch64 ;;
    *) echo "$0: this is made for arm64, and not for $processor" >&2; exit 1 ;;
    esac
fi

bootstrap() {
    # A release that is not out yet may call its list of packages expired. By emulation no /sys can be mounted, and a check
    # of the emulator wants a package more.
    emulated mmdebstrap --quiet --mode=root --variant="$2" --include="$3" --architectures="$processor" \
        ${foreign:+--skip=check/qemu,chroot/mount/sys} \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$1" "$4" "$(tests/tools/make-tree mirror)"
}

# In a user namespace with a binfmt_misc of its own, which Linux has since 6.7, so that the machine knows no emulator later.
emulated() (
    [ -n "$foreign" ] || exec "$@"
    own=$BASHPID
    map_all_users "$own" &
    exec unshare --user --mount --pid --fork --kill-child bash -euc '
        until grep -q . /proc/self/gid_map; do sleep 0.1; done
        mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
        cat "$0" >/proc/sys/fs/binfmt_misc/register
        exec "$@"' "/usr/lib/binfmt.d/qemu-$foreign.conf" "$@"
)

# Everybody is in the namespace that a process makes who they are outside; that is said from outside, once it is there.
map_all_users() {
    local map
    for map in uid_map gid_map; do
        until { echo 0 0 4294967295 >"/proc/$1/$map"; } 2>/dev/null || ! kill -0 "$1" 2>/dev/null; do sleep 0.1; done
    done
}

# Debian's plugin asks for the library by the name that only the development package has.
name_pmix() {
    local pmix
    pmix=$(echo "$1"/usr/lib/*/pmix2/lib)
    [ ! -d "$pmix" ] || ln -sf libpmix.so.2 "$pmix/libpmix.so"
}
