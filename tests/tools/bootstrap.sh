# Sourced: `bootstrap RELEASE VARIANT PACKAGES FILE` makes a root file system of a Debian release, as a tar archive.
bootstrap() {
    # A release that is not out yet may call its list of packages expired.
    mmdebstrap --quiet --mode=root --variant="$2" --include="$3" \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$1" "$4" "$(tests/tools/make-tree mirror)"
}
