#!/bin/bash
# manual.sh HELP2MAN PROGRAM FOLDER - manual pages from the program's own help: uniperceiver.1 and one a command.
set -eu -o pipefail
help2man=${1:?} program=${2:?} folder=${3:?}
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
page() { # page NAME SUMMARY [COMMAND]
    printf '#!/bin/sh\nif [ "$1" = --version ]; then exec "%s" --version; fi\nexec "%s" %s --help\n' \
        "$program" "$program" "${3:-}" >"$work/$1"
    chmod +x "$work/$1"
    "$help2man" --no-info --no-discard-stderr --section 1 --manual "User Commands" --name "$2" \
        "$work/$1" | gzip -9n >"$folder/$1.1.gz"
}
while read -r command summary; do
    page "uniperceiver-$command" "$summary" "$command"
done < <("$program" --help | sed -n 's/^  \([a-z]\+\)  *\(.*\)$/\1 \2/p')
page uniperceiver "one Transformer encoder for text, pictures and video"
