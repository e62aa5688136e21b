#!/bin/bash
# test_check.sh - the command check: samples that are broken, by dataset and sample, whatever the threads. UP_BINARY and
# UP_SOURCE_DIR name the program and the source tree; UP_CRASH_MODULE, if set, is a module of videos that crashes as a
# clip says.
set -u
export LC_ALL=C OMP_NUM_THREADS=1
up=${UP_BINARY:?} golden=${UP_SOURCE_DIR:?}/golden
work=$(mktemp -d) && cd "$work" || exit 1
trap 'rm -rf "$work"' EXIT
. "$UP_SOURCE_DIR/tests/checks.sh"
let_signals_kill

check() { # check ARGUMENT...: its report, errors and exit code in $out and $code
    out=$("$up" check "$@" 2>&1)
    code=$?
}
config() { # config NAME ENTRY...: a tiny model with these tasks
    cat >"$1.yaml" <<END
name: check
run: run
steps: 1
model: {preset: tiny, layers: 1, width: 16, heads: 2, ffn: 32, image_size: 16, image_resize: 16, patch: 8, frames: 2}
tasks:
$(printf -- '  - %s\n' "${@:2}")
END
}

# --- a folder of pictures: an empty one, one that is cut off, one of the wrong type ---
for class in boat cat; do
    mkdir -p pictures/$class
    for i in 1 2 3 4 5 6; do cp "$golden/image/jpeg_444.jpg" pictures/$class/$i.jpg; done
done
config whole '{kind: image_classification, data: pictures, text_limit: 8}'
check whole.yaml
is "whole: $out: exit" "$code" 0
has '^[^ ]*pictures: 12 samples, 12 read, 0 broken, 0 texts over text_limit, 0 labels not in classes'
: >pictures/boat/2.jpg
head -c 900 "$golden/image/jpeg_444.jpg" >pictures/cat/1.jpg
echo 'GIF, no: a text' >pictures/cat/5.jpg
printf 'boat\ndog\n' >classes

# --- a list with a line of too few cells, a picture that is not there, and a long text ---
{ printf 'image\ttext\n' && printf 'pictures/boat/1.jpg\ta boat\n' && printf 'pictures/boat/1.jpg\n' &&
    printf 'absent.jpg\ta cat\n' && printf 'pictures/boat/3.jpg\tone two three four five six seven eight nine\n'; } >list.tsv
config broken '{kind: image_classification, data: pictures, text_limit: 8}' \
    '{kind: image_text_retrieval, data: list.tsv, target: text, text_limit: 8}' \
    '{kind: mlm, data: list.tsv, text: text, text_limit: 16}' '{kind: mlm, data: nowhere.tsv}'
for threads in 1 2; do
    check broken.yaml --threads $threads --out all-$threads.jsonl
    is "broken: $out: exit" "$code" 1
    printf '%s\n' "$out" >report-$threads
done
has 'pictures: 12 samples, 12 read, 3 broken'
has 'sample 2: .*boat/2.jpg: is empty'
has 'cat/1.jpg: '
has 'cat/5.jpg: begins with "GIF'
has 'list.tsv: 4 samples, 4 read, 2 broken, 1 texts over text_limit'
has 'list.tsv: line 3: '
has 'absent.jpg'
has 'nowhere.tsv: 0 samples, 0 read, 1 broken'
is 'threads: report' "$(grep -v ' of ' report-2)" "$(grep -v ' of ' report-1)"
is 'threads: list' "$(cat all-2.jsonl)" "$(cat all-1.jsonl)"
is 'list: lines' "$(wc -l <all-1.jsonl)" 6
count 'list: no line 3' grep -q '"sample":2,"line":3,"reason":' all-1.jsonl
check broken.yaml --json --quiet
has '^{"samples":16,"read":16,"broken":6,"long_texts":1,"unknown_labels":0,"datasets":\[{"samples":12,'

# --- labels that the list of classes lacks: all cats that can be read ---
config lacks '{kind: image_classification, data: pictures, classes: classes, text_limit: 8}'
check lacks.yaml
is 'lacks: exit' "$code" 1
has '7 broken, 0 texts over text_limit, 4 labels not in classes'

printf 'image\tlabel\npictures/boat/1.jpg\tboat\npictures/boat/3.jpg\tcat\npictures/boat/4.jpg\tcow\n' >labels.tsv
config labels '{kind: image_classification, data: labels.tsv, classes: classes, text_limit: 8}'
check labels.yaml
has '^[^ ]*labels.tsv: 3 samples, 3 read, 2 broken, 0 texts over text_limit, 2 labels not in classes'
has 'labels.tsv: line 4: is of class "cow"'

# --- more than ten; a list that cannot be written ---
for i in $(seq 20 40); do : >pictures/cat/$i.jpg; done
check whole.yaml
is 'many: told' "$(grep -c '^  sample' <<<"$out")" 10
has '  and 14 more: --out FILE lists all'
check whole.yaml --out /nowhere/list
is 'no list: exit' "$code" 1
has '/nowhere/list: cannot write'
check
is 'no CONFIG: exit' "$code" 2

# --- a decoder that crashes, never ends or leaves costs one sample each ---
if [ -n "${UP_CRASH_MODULE:-}" ]; then
    mkdir -p clips/up clips/down
    for i in 1 2 3 4 5; do echo fine >clips/up/$i.mp4 && echo fine >clips/down/$i.mp4; done
    echo segv >clips/up/1.mp4
    echo loop >clips/up/2.mp4
    echo exit >clips/down/3.mp4
    config crash '{kind: video_classification, data: clips, text_limit: 8}'
    UP_VIDEO_MODULE=$UP_CRASH_MODULE check crash.yaml --threads 2 decode_seconds=0.5 max_pixels=1000000
    is "crash: $out: exit" "$code" 1
    has 'clips: 10 samples, 10 read, 3 broken'
    has 'up/1.mp4: .*died of SIGSEGV'
    has 'up/2.mp4: .*more than 0.5 s'
    has 'down/3.mp4: .*ended with code 3'

    # --- stopped: what was found so far ---
    for i in $(seq 10 60); do echo loop >clips/up/$i.mp4; done
    UP_VIDEO_MODULE=$UP_CRASH_MODULE "$up" check crash.yaml --threads 1 decode_seconds=0.5 max_pixels=1000000 >stopped 2>&1 &
    sleep 2
    kill -TERM $!
    wait $!
    is 'stopped: exit' $? 1
    out=$(cat stopped)
    has 'clips: 61 samples, [0-9]* read, [0-9]* broken'
    has 'stopped after [0-9]* of 61 samples'
fi

finish
