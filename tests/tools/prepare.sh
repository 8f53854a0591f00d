# Sourced, as root, in the root of the repository: `prepare NEED…` installs and builds what tests need, makes a
# directory `$place` with the launcher, the plugin and a user, and in it what is needed of these; all unless said:
#
# | NEED     | what it is |
# |----------|------------|
# | busybox  | the small image, as a tree and as a SquashFS file |
# | debian   | a Debian tree with Open MPI |
# | dnf      | a SquashFS file with a package manager of another family |
# | layers   | images of layers, and a registry that has them |
# | ranks    | a program for MPI |
# | roots    | root file systems of other distributions |
# | package  | Chariot's own packages |
# | slurm    | the program with the Slurm tests |
# | nothing  | no more than the launcher, the plugin and the user |
#
# It removes all that at the end, and then calls what `at_end` names. Whoever calls a command with CHARIOT_TEST_PREPARED set, as .ci/run does, has done it
# already, and removes it.
#
# All of it but the launcher and the plugin there is for the processor that `processor` names in Debian's words, if it does;
# and there is no user if `userless` is set.
. tests/tools/kept.sh
. tests/tools/bootstrap.sh
export processor
all_needs="busybox debian dnf layers ranks roots package slurm"

prepare() {
    [ "$(id -u)" = 0 ] || { echo "$0: as root, please; without, there is: cargo test" >&2; exit 1; }
    trap clean EXIT
    trap 'exit 130' INT TERM
    [ -z "${CHARIOT_TEST_PREPARED:-}" ] || return 0
    tests/tools/install-packages
    etc/build
    make_place
    [ $# -gt 0 ] || set -- $all_needs
    local need
    for need in "$@"; do "make_$need"; done
}

make_place() {
    # Not in /tmp, of which jobs may have one of their own.
    place=$(mktemp -d /var/tmp/chariot-tests.XXXXXX)
    own_place=$place
    chmod 755 "$place"
    export place CHARIOT=$place/chariot CHARIOT_SO=$place/chariot.so CHARIOT_STATIC=$place/chariot
    export CHARIOT_TEST_USER=chariot-test CHARIOT_TEST_IMAGES=$place/images CHARIOT_TEST_SCRATCH=$place/scratch
    install -m 755 target/package/chariot "$CHARIOT"
    install -m 644 target/package/chariot.so "$CHARIOT_SO"
    install -d -m 1777 "$CHARIOT_TEST_SCRATCH"
    mkdir "$CHARIOT_TEST_IMAGES"
    [ -n "${userless:-}" ] || { make_user; install -d -o chariot-test "$place/home"; }
}

make_user() {
    case $(getent passwd chariot-test | cut -d: -f6) in
    '') ;;
    # Of tests that were killed.
    /var/tmp/chariot-tests.*) remove_user ;;
    *) echo "$0: there is a user chariot-test, and it is not the tests'" >&2; exit 1 ;;
    esac
    made_user=yes
    groupadd -f chariot-test-group
    useradd -M -d "$place/home" -s /bin/bash -G chariot-test-group chariot-test
}

remove_user() {
    pkill -KILL -u chariot-test 2>/dev/null || true
    userdel chariot-test 2>/dev/null || true
    groupdel chariot-test-group 2>/dev/null || true
}

# Ends what the caller named in `running`, and removes the place if it was made here.
clean() {
    trap - EXIT
    local pid
    for pid in ${running:-}; do kill -KILL "$pid" 2>/dev/null || true; done
    # Their namespaces end with them, and hold what is removed below.
    [ -z "${running:-}" ] || wait $running 2>/dev/null || true
    # What a cluster of the kind `site` could not remove any more.
    [ -z "${running:-}" ] || find /sys/fs/cgroup/*/slurm_n[1-4] -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [ -n "${own_place:-}" ] || { ${at_end:-:}; return 0; }
    # All others have ended with their namespaces.
    [ ! -e "$place/spark-cluster" ] || tests/tools/cluster stop "$place/spark-cluster"
    [ ! -e "$place/soak-cluster" ] || find /sys/fs/cgroup/*/slurm_n[1-9]* -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [ -z "${made_user:-}" ] || remove_user
    # By which slurmd's log has one line an hour on a site's file that is broken.
    rm -f /run/chariot-broken"${place//\//-}"-*
    [ -n "${CHARIOT_KEEP:-}" ] || rm -rf --one-file-system "$place"
    ${at_end:-:}
}

make_nothing() { :; }

make_busybox() {
    tests/tools/make-tree busybox "$place/images/busybox"
    echo "an image in a file" >"$place/images/busybox/etc/motd"
    mksquashfs "$place/images/busybox" "$place/images/busybox.sqfs" -quiet -no-progress
}

make_debian() {
    tests/tools/make-tree debian "$place/images/debian" "$cache" openmpi-bin
}

# A package manager of another family, which Debian has too.
make_dnf() {
    local file
    file=$(kept dnf.sqfs "$(declare -f make_dnf)" "$(cat tests/tools/make-tree /etc/debian_version)")
    if [ ! -e "$file" ]; then
        tests/tools/make-tree debian "$place/dnf" "$cache" dnf createrepo-c rpm
        # As most images have them: links, and not the host's.
        ln -sf /usr/share/zoneinfo/Europe/Berlin "$place/dnf/etc/localtime"
        ln -sf ../run/systemd/resolve/stub-resolv.conf "$place/dnf/etc/resolv.conf"
        mksquashfs "$place/dnf" "$place/dnf.sqfs" -comp lz4 -quiet -no-progress
        rm -rf "$place/dnf"
        cp "$place/dnf.sqfs" "$file.new.$$" && mv "$file.new.$$" "$file"
    fi
    cp "$file" "$place/images/dnf.sqfs"
}

# Images of layers, and a registry that has them.
make_layers() {
    local file
    file=$(kept layers.tar "$(declare -f make_layers make_busybox)" "$(cat tests/tools/make-{tree,oci-layout,layered-images} /etc/debian_version)" \
        "$(dpkg-query -W busybox-static docker-registry openssl skopeo)")
    if [ ! -e "$file" ]; then
        [ -d "$place/images/debian" ] || make_debian
        tests/tools/make-layered-images "$place/oci" "$place/images/busybox" "$place/images/debian"
        tar -C "$place" -cf "$file.new.$$" oci && mv "$file.new.$$" "$file"
    else
        tar -C "$place" -xf "$file"
    fi
    cp /usr/bin/docker-registry "$place/docker-registry"
    export CHARIOT_TEST_OCI=$place/oci CHARIOT_TEST_REGISTRY=$place/docker-registry
}

make_ranks() {
    export CHARIOT_TEST_RANKS=$place/ranks
    [ -n "$foreign" ] || { mpicc -o "$CHARIOT_TEST_RANKS" tests/slurm/ranks.c; return; }
    local machine target other directory cc package multiarch
    . etc/targets "$foreign"
    # The library's own libraries are in the image, where it will run.
    "$cc" -o "$CHARIOT_TEST_RANKS" $(mpicc --showme:compile) tests/slurm/ranks.c \
        "$place/images/debian/usr/lib/$multiarch/libmpi.so.40" -Wl,--unresolved-symbols=ignore-in-shared-libs
}

make_roots() {
    export CHARIOT_TEST_ROOTS=$place/roots
    tests/tools/make-other-roots "$CHARIOT_TEST_ROOTS"
}

make_package() {
    local machine target other directory cc package multiarch
    . etc/targets $foreign
    etc/make-packages $foreign >/dev/null
    export CHARIOT_TEST_DEB=$place/chariot.deb CHARIOT_TEST_RPM=$place/chariot.rpm
    cp "$package"/chariot_*.deb "$CHARIOT_TEST_DEB"
    cp "$package"/chariot-*."${target%%-*}".rpm "$CHARIOT_TEST_RPM"
}

# The programs of the tests: a line each with the kind, the directory in which it runs, and the file.
test_programs() (
    set -o pipefail
    cargo test --quiet --no-run --message-format=json "$@" | python3 tests/tools/test-programs
)

# So that it can run where there is no cargo.
make_slurm() {
    local program machine target other directory cc package multiarch
    . etc/targets $foreign
    [ -z "$other" ] || export "CARGO_TARGET_$(tr a-z- A-Z_ <<<"$other")_LINKER=$cc"
    program=$(test_programs --test slurm ${other:+--target "$other"})
    export CHARIOT_SLURM_TESTS=$place/slurm-tests
    install -m 755 "${program##*$'\t'}" "$CHARIOT_SLURM_TESTS"
}
