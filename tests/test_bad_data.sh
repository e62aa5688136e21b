#!/bin/bash
# test_bad_data.sh - training over a folder of pictures, clips and a list of which a part is broken: truncated, empty, of
# the wrong type, ended early, missing. UP_BINARY and UP_SOURCE_DIR name the program and the source tree; UP_MPIRUN, if
# set, starts two ranks;
# UP_CRASH_MODULE, if set, is a module of videos that crashes as a clip says.
set -u
export LC_ALL=C OMP_NUM_THREADS=1
up=${UP_BINARY:?} golden=${UP_SOURCE_DIR:?}/golden
work=$(mktemp -d) && cd "$work" || exit 1
trap 'rm -rf "$work"' EXIT
. "$UP_SOURCE_DIR/tests/checks.sh"
let_signals_kill

# --- 600 pictures in two classes, of which `broken` are junk of three kinds ---
make_pictures() { # make_pictures FOLDER BROKEN
    local i class
    for class in boat cat; do
        mkdir -p "$1/$class"
        for i in $(seq -w 300); do ln "$golden/image/jpeg_444.jpg" "$1/$class/$i.jpg" 2>/dev/null ||
            cp "$golden/image/jpeg_444.jpg" "$1/$class/$i.jpg"; done
    done
    for i in $(seq "$2"); do
        printf -v file '%s/boat/%03d.jpg' "$1" "$i"
        rm "$file" # a link: what it leads to stays
        case $((i % 3)) in
        0) : >"$file" ;;
        1) head -c 900 "$golden/image/jpeg_444.jpg" >"$file" ;;
        2) echo 'GIF, no: a text' >"$file" ;;
        esac
    done
}
config() { # config NAME DATA STEPS: a tiny model that trains on pictures, batches of 60, two a step
    cat >"$1.yaml" <<END
name: bad
run: $1
steps: $3
accumulate: 2
log_every: 5
checkpoint_every: 1000
check_ranks_every: 0
model: {preset: tiny, layers: 1, width: 16, heads: 2, ffn: 32, image_size: 16, image_resize: 16, patch: 8}
tasks:
  - {kind: image_classification, data: $2, batch: 60, text_limit: 8, flip: true}
END
}
train() { # train CONFIG ARGUMENT...: its errors and exit code in $out and $code
    out=$("$up" train "$@" 2>&1)
    code=$?
}
number() { # number RUN: bad samples in the last metrics line
    sed -n '$s/.*"bad_samples":\([0-9]*\).*/\1/p' "$1/metrics.jsonl"
}
weights() {
    cksum <"$1/model.safetensors"
}

# --- 0.5% broken: to the end, with the right counts. Five epochs, so that each of the three is drawn five times, and
# perhaps once more in the place of another; each is listed once ---
make_pictures pictures 3
config few pictures 25
train few.yaml
is 'few: exit' "$code" 0
bad=$(number few)
count "few: $bad bad samples, wanted 15 or one or two more" test "$bad" -ge 15 -a "$bad" -le 17
is 'few: listed' "$(wc -l <few/bad-samples.jsonl)" 3
for i in 001 002 003; do count "few: $i.jpg is not listed" grep -q "boat/$i.jpg: " few/bad-samples.jsonl; done
has "a sample cannot be read, another takes its place: .*003.jpg: is empty"
has "$bad samples could not be read and were replaced: few/bad-samples.jsonl lists them"
is 'few: samples' "$(sed -n 's/^ *image_classification *\([0-9]*\).*/\1/p' <<<"$out")" 3000

# --- any number of workers, and a stop in the middle: the same weights, counts and list ---
config three pictures 25
train three.yaml workers=3
is '3 workers: weights' "$(weights three)" "$(weights few)"
is '3 workers: list' "$(cat three/bad-samples.jsonl)" "$(cat few/bad-samples.jsonl)"
config halves pictures 25
"$up" train halves.yaml checkpoint_every=7 >/dev/null 2>&1 &
while [ ! -e halves/checkpoint-00000007/state.json ]; do sleep 0.02; done
kill -9 $! 2>/dev/null
wait $! 2>/dev/null
train halves.yaml --resume
is 'resumed: weights' "$(weights halves)" "$(weights few)"
is 'resumed: count' "$(number halves)" "$bad"
is 'resumed: list' "$(cat halves/bad-samples.jsonl)" "$(cat few/bad-samples.jsonl)"

# --- decoded in this process: the same weights, counts and list ---
config inside pictures 25
train inside.yaml isolate=off
is 'not isolated: weights' "$(weights inside)" "$(weights few)"
is 'not isolated: list' "$(cat inside/bad-samples.jsonl)" "$(cat few/bad-samples.jsonl)"

# --- 2% broken: it stops with a checkpoint and says what to do; a higher limit goes on from there ---
make_pictures junk 12
config many junk 25
train many.yaml
is 'many: exit' "$code" 1
has "image_classification: [0-9]* of [0-9]* samples cannot be read, bad_samples allows 1%: stopped after step"
has "many/bad-samples.jsonl lists them, \"uniperceiver check\""
step=$(sed -n 's/.*stopped after step \([0-9]*\) of 25.*/\1/p' <<<"$out")
count "many: no checkpoint of step $step" test -e "many/checkpoint-$(printf %08d "$step")/state.json"
train many.yaml --resume bad_samples=0.05
is 'many, resumed: exit' "$code" 0
is 'many: listed' "$(wc -l <many/bad-samples.jsonl)" 12
config whole junk 25
train whole.yaml bad_samples=0.05
is 'many, resumed: weights' "$(weights many)" "$(weights whole)"
is 'many, resumed: count' "$(number many)" "$(number whole)"
train whole.yaml bad_samples=0 run=none
is 'none allowed: exit' "$code" 1

# --- two ranks: the same counts and list as one with the same global batch ---
if [ -n "${UP_MPIRUN:-}" ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
    config ranks pictures 25
    "$UP_MPIRUN" -n 2 "$up" train ranks.yaml accumulate=1 >out 2>&1
    is '2 ranks: exit' $? 0
    is '2 ranks: count' "$(number ranks)" "$bad"
    is '2 ranks: list' "$(cat ranks/bad-samples.jsonl)" "$(cat few/bad-samples.jsonl)"
    config limited junk 25
    "$UP_MPIRUN" -n 2 "$up" train limited.yaml accumulate=1 >out 2>&1
    count '2 ranks: no error' test $? -ne 0
    out=$(cat out)
    has "cannot be read, bad_samples allows 1%: stopped after step $step of 25"
    count '2 ranks: no checkpoint' test -e "limited/checkpoint-$(printf %08d "$step")/state.json"
fi

# --- lines of a list: with too few cells, without a text that can be read, with a picture that is not there ---
for i in $(seq 200); do printf 'pictures/cat/%03d.jpg\ta cat\n' $((i + 50)); done >lines
{ printf 'image\tlabel\n' && head -n 100 lines && printf 'pictures/cat/001.jpg\n' && printf 'pictures/cat/absent.jpg\ta cat\n' &&
    printf 'pictures/cat/002.jpg\ta \0 boat\n' && sed 's/cat\t/cat\t/; s/a cat/a boat/' lines; } >list.tsv
config list list.tsv 6
train list.yaml
is "list: $out: exit" "$code" 0
is 'list: listed' "$(wc -l <list/bad-samples.jsonl)" 3
for line in 102 103 104; do count "line $line is not listed" grep -q "\"line\":$line}" list/bad-samples.jsonl; done

# --- clips, one of which ends early and one is empty, where there is FFmpeg ---
if "$up" info "$golden/video/h264.mp4" >/dev/null 2>&1; then
    mkdir -p films/up films/down
    for i in $(seq 100); do ln -s "$golden/video/h264.mp4" films/up/$i.mp4 && ln -s "$golden/video/h264.mp4" films/down/$i.mp4; done
    rm films/up/7.mp4 films/down/8.mp4
    head -c 1500 "$golden/video/h264.mp4" >films/up/7.mp4
    : >films/down/8.mp4
    config films films 2
    sed -i 's/image_classification/video_classification/; s/model: {/&frames: 2, video_stride: 2, /; s/batch: 60/batch: 50/' films.yaml
    train films.yaml workers=2
    is "films: $out: exit" "$code" 0
    count "films: $(number films) bad samples, wanted 2 or one or two more" test "$(number films)" -ge 2 -a "$(number films)" -le 4
    is 'films: listed' "$(wc -l <films/bad-samples.jsonl)" 2
    count 'films: the one that ends early' grep -q 'films/up/7.mp4: ' films/bad-samples.jsonl
    count 'films: the empty one' grep -q 'films/down/8.mp4: is empty' films/bad-samples.jsonl
fi

# --- a decoder that crashes, aborts, never ends, takes all memory or leaves: a module of tests stands for FFmpeg's ---
if [ -n "${UP_CRASH_MODULE:-}" ]; then
    mkdir -p clips/up clips/down
    for i in $(seq 60); do echo fine >clips/up/$i.mp4 && echo fine >clips/down/$i.mp4; done
    i=0
    for how in segv abort loop memory exit; do echo $how >clips/up/$((i += 7)).mp4; done
    config crash clips 4
    sed -i 's/image_classification/video_classification/; s/model: {/&frames: 2, /; s/, flip: true//' crash.yaml
    export UP_VIDEO_MODULE=$UP_CRASH_MODULE
    train crash.yaml bad_samples=1 decode_seconds=0.5 workers=2 max_pixels=1000000
    is "crash: $out: exit" "$code" 0
    is 'crash: listed' "$(wc -l <crash/bad-samples.jsonl)" 5
    for reason in 7.mp4:.*died.of.SIGSEGV 14.mp4:.*died.of.SIGABRT 21.mp4:.*more.than.0.5.s 28.mp4:.*lacks.memory \
        35.mp4:.*ended.with.code.3; do
        count "crash: $reason is not listed" grep -q "clips/up/$reason" crash/bad-samples.jsonl
    done
    train crash.yaml run=inside-crash isolate=off
    count "crash in the process itself: $code" test "$code" -gt 2
    unset UP_VIDEO_MODULE
    UP_DECODER=/nowhere train crash.yaml run=no-decoder isolate=on
    has 'decoders: the program uniperceiver_decoder is not there'
fi

# --- all of them: no endless search ---
mkdir -p none/boat none/cat
for i in 1 2 3; do : >none/boat/$i.jpg && : >none/cat/$i.jpg; done
config nothing none 5
train nothing.yaml
is 'nothing: exit' "$code" 1
has "100 samples drawn one after the other cannot be read, the last: .*jpg: is empty"
is 'nothing: listed' "$(wc -l <nothing/bad-samples.jsonl)" 6

finish
