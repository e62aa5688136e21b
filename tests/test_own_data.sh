#!/bin/bash
# test_own_data.sh - docs/your-own-data.md as written: its configurations, at most ten lines each, and every command of
# it, in order, over tiny data of the same layout. Training takes 4 steps; an error line that the page shows must be the
# one that its command prints. UP_BINARY and UP_SOURCE_DIR name the program and the source tree.
set -u
export LC_ALL=C
up=${UP_BINARY:?} source=${UP_SOURCE_DIR:?}
page=$source/docs/your-own-data.md
work=$(mktemp -d) && cd "$work" || exit 1
trap 'rm -rf "$work"' EXIT
. "$UP_SOURCE_DIR/tests/checks.sh"

fill() { # fill FILE ENDING FOLDER...: each folder gets a few copies of the file, under names that the page's commands have
    local file=$1 ending=$2 folder i
    shift 2
    for folder in "$@"; do
        mkdir -p "$folder"
        for i in 00000 00009 00016 00091; do cp "$file" "$folder/$i.$ending"; done
    done
}

# --- the data that the page describes ---
picture=$source/golden/image/png_rgb8.png
for set in '' -test; do
    fill "$picture" png mine/pictures$set/{bag,sneaker,trouser} mine/shoes$set/{"ankle boot",sandal}
    fill "$source/golden/video/h264.mp4" mp4 mine/clips$set/{growing,"moving down","moving left","moving right","moving up"}
    printf 'image\ttext\nemoji/00000.jpg\tred apple\nemoji/00009.jpg\tgreen apple\n' >mine/captions$set.tsv
    printf 'a small boat\nmake a cat-like sound\n' >mine/notes$set.txt
done
fill "$source/golden/image/jpeg_444.jpg" jpg mine/emoji mine/emoji/test

# --- its configurations: a fenced block behind the line that names the file ---
awk '/^`mine\/.*\.yaml`:$/ {file = $0; gsub(/[`:]/, "", file)}
     /^```$/ {inside = 0}
     inside {print > file}
     /^```yaml$/ {inside = 1}' "$page"
files=(mine/*.yaml)
count "${#files[@]} configurations, 5 at least" test "${#files[@]}" -ge 5
for file in "${files[@]}"; do
    count "$file has at most ten lines" test "$(wc -l <"$file")" -le 10
done

# --- its commands, each with the error line below it, if there is one ---
mkdir build
ln -s "$up" build/uniperceiver
sed -e ':join' -e '/\\$/{N;s/ *\\\n */ /;b join' -e '}' "$page" |
    awk '/^    \$ build\/uniperceiver / {if (command) print command "\t"; command = substr($0, 7); next}
         command {print command "\t" (/^    uniperceiver: / ? substr($0, 5) : ""); command = ""}' >commands
count 'commands, 12 at least' test "$(wc -l <commands)" -ge 12
while IFS=$'\t' read -r command error; do
    case $command in
    *" train "*) command+=' --steps 4 --quiet' ;;
    *" eval "*) command+=' --quiet' ;;
    esac
    bash -c "$command" >output 2>errors </dev/null
    code=$?
    count "$command: '$(cat errors)', wanted '$error'" test "$(cat errors)" = "$error"
    if [ -n "$error" ]; then
        count "$command: exit $code" test $code -ne 0
    else
        count "$command: exit $code" test $code -eq 0
        case $command in *" train "*) ;; *) count "$command: no answer" test -s output ;; esac
    fi
done <commands

finish
