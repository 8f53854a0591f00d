# Sourced by tests/run and tests/matrix, as root in the root of the repository: installs and builds what
# the tests need, makes a directory `$place` with the launcher, the plugin, images and a user, and
# removes it all at the end.
[ "$(id -u)" = 0 ] || { echo "$0: as root, please; without, there is: cargo test" >&2; exit 1; }
tests/tools/install-packages
etc/build
cargo build --tests --quiet

# Not in /tmp, of which jobs may have one of their own.
place=$(mktemp -d /var/tmp/chariot-tests.XXXXXX)
chmod 755 "$place"
export CHARIOT_TEST_SCRATCH=$place/scratch
install -d -m 1777 "$CHARIOT_TEST_SCRATCH"
# What takes long to make and holds nothing of ours is kept from one run to the next.
cache=${CHARIOT_TEST_CACHE:-/var/cache/chariot-tests}
export place CHARIOT=$place/chariot CHARIOT_SO=$place/chariot.so
install -m 755 target/package/chariot "$CHARIOT"
install -m 644 target/package/chariot.so "$CHARIOT_SO"

clean() {
    trap - EXIT
    [ -z "${running:-}" ] || kill -KILL "$running" 2>/dev/null || true
    for conf in "$place"/*/slurm.conf; do [ ! -e "$conf" ] || tests/tools/cluster stop "${conf%/*}"; done
    pkill -KILL -u chariot-test 2>/dev/null || true
    userdel chariot-test 2>/dev/null || true
    groupdel chariot-test-group 2>/dev/null || true
    # By which slurmd's log has one line an hour on a site's file that is broken.
    rm -f /run/chariot-broken"${place//\//-}"-*
    [ -n "${CHARIOT_KEEP:-}" ] || rm -rf --one-file-system "$place"
}
trap clean EXIT
trap 'exit 130' INT TERM

groupadd -f chariot-test-group
id chariot-test >/dev/null 2>&1 || useradd -M -d "$place/home" -s /bin/bash -G chariot-test-group chariot-test
install -d -o chariot-test "$place/home"
export CHARIOT_TEST_USER=chariot-test CHARIOT_TEST_IMAGES=$place/images
mkdir "$place/images"
tests/tools/make-tree busybox "$place/images/busybox"
echo "an image in a file" >"$place/images/busybox/etc/motd"
mksquashfs "$place/images/busybox" "$place/images/busybox.sqfs" -quiet -no-progress
tests/tools/make-tree debian "$place/images/debian" "$cache" openmpi-bin
# A package manager of another family, which Debian has too.
tests/tools/make-tree debian "$place/dnf" "$cache" dnf createrepo-c rpm
# As most images have them: links, and not the host's.
ln -sf /usr/share/zoneinfo/Europe/Berlin "$place/dnf/etc/localtime"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$place/dnf/etc/resolv.conf"
mksquashfs "$place/dnf" "$place/images/dnf.sqfs" -comp lz4 -quiet -no-progress
rm -rf "$place/dnf"
# Images of layers, and a registry that has them.
tests/tools/make-layered-images "$place/oci" "$place/images/busybox" "$place/images/debian"
cp /usr/bin/docker-registry "$place/docker-registry"
export CHARIOT_TEST_OCI=$place/oci CHARIOT_TEST_REGISTRY=$place/docker-registry
export CHARIOT_TEST_RANKS=$place/ranks
mpicc -o "$CHARIOT_TEST_RANKS" tests/slurm/ranks.c

etc/make-packages >/dev/null
export CHARIOT_TEST_DEB=$place/chariot.deb CHARIOT_STATIC=$CHARIOT
cp target/package/chariot_*.deb "$CHARIOT_TEST_DEB"

# The program with the Slurm tests, so that it can run where there is no cargo.
slurm_tests=$(cargo test -p chariot-spank --test slurm --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
export CHARIOT_SLURM_TESTS=$place/slurm-tests
install -m 755 "$slurm_tests" "$CHARIOT_SLURM_TESTS"
