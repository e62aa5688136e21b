#!/bin/bash
# soak_text.sh [UNIPERCEIVER [LINES]] - tokenizes 100,000 different lines of many languages, gathered from what happens to be
# installed: translations, locales, manual pages, documents, and lines of programs, which are no text at all. Passes if the
# program ends with 0, answers one line for each line, and says nothing on stderr.
set -eu
export LC_ALL=C
up=$(realpath "${1:-$(dirname "$0")/../build/uniperceiver}") wanted=${2:-100000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

some() { # some N FOLDER FIND_TEST...: N files, spread over the folder, always the same ones
    local n=$1 folder=$2
    shift 2
    find "$folder" -type f -size -300k "$@" -print0 2>/dev/null | sort -z | shuf -z -n "$n" --random-source=<(yes) || true
}
translations() {
    if ! type -P msgunfmt >/dev/null; then return; fi
    some 500 /usr/share/locale -name '*.mo' | xargs -0 -r -n 1 msgunfmt --no-wrap 2>/dev/null |
        sed -n 's/^\(msgstr.*\|\)"\(.*\)"$/\2/p'
}
{
    translations | shuf -n $((wanted / 2)) --random-source=<(yes)
    some 150 /usr/share/i18n/locales | xargs -0 -r cat | shuf -n $((wanted / 6)) --random-source=<(yes)
    some 400 /usr/share/unicode/cldr -name '*.xml' | xargs -0 -r cat
    some 600 /usr/share/man -path '*/man/??*/man*' -name '*.gz' | xargs -0 -r zcat
    some 300 /usr/share -name '*.desktop' | xargs -0 -r cat
    some 200 /usr/bin | xargs -0 -r cat | head -n $((wanted / 50))
    some 2000 /usr/share/doc | xargs -0 -r zcat -f
    some 2000 /usr/share -name '*.txt' | xargs -0 -r cat
} 2>/dev/null | awk 'length && !seen[$0]++' | head -n "$wanted" >lines || true

lines=$(wc -l <lines)
echo "$lines lines, $(wc -c <lines) bytes, $(grep -c '[^ -~]' lines) lines with more than ASCII"
if [ "$lines" -lt "$wanted" ]; then
    echo "soak_text.sh: only $lines different lines are to be had here, wanted $wanted" >&2
    exit 1
fi
start=$(date +%s%N) code=0
"$up" tokenize <lines >ids 2>errors || code=$?
end=$(date +%s%N)
answers=$(wc -l <ids) odd=$(grep -cvE '^([0-9]+( [0-9]+)*)?$' ids || true)
echo "$answers answers, $(wc -w <ids) tokens, $(((end - start) / 1000000)) ms, exit $code"
if [ $code != 0 ] || [ "$answers" != "$lines" ] || [ "$odd" != 0 ] || [ -s errors ]; then
    echo "soak_text.sh: FAILED; lines of the answer that are no ids: $odd; said on stderr:" >&2
    head -5 errors >&2
    exit 1
fi
echo "soak_text.sh: passed"
