#!/bin/sh
# Runs a command with secrets from files: IMGSEARCH_TOKEN_FILE=/path becomes IMGSEARCH_TOKEN.
# So a secret is in no image, in no compose file, and not in `docker inspect`.
set -eu

from_file() {
    eval "file=\${$1_FILE:-}"
    [ -n "$file" ] || return 0
    if [ ! -r "$file" ]; then
        echo "imgsearch: cannot read $file ($1_FILE): run the service setup first" >&2
        exit 1
    fi
    value=$(cat "$file")
    export "$1=$value"
    unset "$1_FILE" value
}

for name in IMGSEARCH_ES_API_KEY IMGSEARCH_ES_PASSWORD IMGSEARCH_TOKEN JUPYTER_TOKEN; do
    from_file "$name"
done
exec "$@"
