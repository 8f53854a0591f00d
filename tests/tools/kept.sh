# Sourced: where the cache keeps what takes long to make. Its name tells of what it was made, so that nothing old is taken for new.
cache=${CHARIOT_TEST_CACHE:-/var/cache/chariot-tests}

# The path of NAME made of these PARTs: the recipe's own text, versions, names of what it is made of.
kept() {
    local name=$1
    shift
    mkdir -p "$cache"
    local file
    file=$cache/$name-$(printf '%s\0' "$@" | sha256sum | cut -c1-12)
    if [ -e "$file" ]; then
        touch "$file"
    else
        # Of other recipes, what nobody has used for a month.
        find "$cache" -maxdepth 1 -name "$name-*" -mtime +30 -delete
    fi
    echo "$file"
}
