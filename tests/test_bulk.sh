#!/bin/bash
# test_bulk.sh - many inputs from outside: folders, lists and standard input, broken files, work that is killed and goes
# on, an index that is made, added to and searched. UP_BINARY and UP_SOURCE_DIR name the program and the source tree.
set -u
export LC_ALL=C
up=${UP_BINARY:?} image=${UP_SOURCE_DIR:?}/golden/image
work=$(mktemp -d) && cd "$work" || exit 1
trap 'rm -rf "$work"' EXIT
. "$UP_SOURCE_DIR/tests/checks.sh"

run() { # run CODE ARGS...: stdout goes to $out, stderr to the file errors
    local wanted=$1 got
    shift
    out=$("$up" "$@" 2>errors)
    got=$?
    is "$*: exit ($(head -3 errors))" $got "$wanted"
}
said() { # said PATTERN: a line of stderr
    is "stderr has '$1' ($(cat errors))" "$(grep -c -- "$1" errors)" 1
}
row() { # row FILE N: checksum of row N (from 0) of a [n, 128] array
    tail -c +129 "$1" | tail -c +$((512 * $2 + 1)) | head -c 512 | cksum
}

"$up" init --preset tiny --seed 1 --out tiny.safetensors
m=(--model tiny.safetensors --backend ref)

# --- folders, lists, standard input: the same rows in the same order ---
mkdir -p pictures/deep/er .hidden pictures/.hidden
cp "$image/jpeg_420.jpg" pictures/b.jpg
cp "$image/source.png" pictures/a.PNG
cp "$image/jpeg_444.jpg" pictures/deep/er/c.jpeg
cp "$image/jpeg_444.jpg" pictures/.hidden/d.jpg
echo note >pictures/readme.txt
run 0 encode "${m[@]}" pictures --out folder.npy
is names "$(cat folder.names)" $'pictures/a.PNG\npictures/b.jpg\npictures/deep/er/c.jpeg'
is rows "$(stat -c %s folder.npy)" $((128 + 3 * 512))
run 0 encode "${m[@]}" --image pictures/ --out image.npy
is '--image FOLDER' "$(cksum <image.npy)" "$(cksum <folder.npy)"
printf ' pictures/a.PNG \r\npictures/b.jpg\n\npictures/deep/er/c.jpeg' >list
run 0 encode "${m[@]}" --list list --out list.npy
is --list "$(cksum <list.npy)" "$(cksum <folder.npy)"
"$up" encode "${m[@]}" - --out stdin.npy <list
is 'names from standard input' "$(cksum <stdin.npy)" "$(cksum <folder.npy)"
"$up" encode "${m[@]}" --image - --out one.npy <pictures/b.jpg
is 'a picture from standard input' "$(row one.npy 0)" "$(row folder.npy 1)"
printf 'text\tfile\nx\ta.PNG\n\tb.jpg\ny z\tdeep/er/c.jpeg\n' >pictures/rows.tsv
run 0 encode "${m[@]}" --list pictures/rows.tsv:file --out column.npy
is 'a column of files' "$(cksum <column.npy)" "$(cksum <folder.npy)"
run 0 encode "${m[@]}" --texts pictures/rows.tsv:text --out texts.tsv
is 'a column of texts' "$(cut -f 1 texts.tsv)" $'x\n\ny z'
run 0 encode "${m[@]}" --text 'y z' --out - --format tsv
is 'standard output' "$out" "$(tail -1 texts.tsv)"
run 0 encode "${m[@]}" --text 'q"\' --out -
is 'JSON lines' "$(python3 -c 'import json, sys; row = json.loads(sys.argv[1]); print(row["input"], len(row["feature"]))' "$out")" 'q"\ 128'
run 1 encode "${m[@]}" --list pictures/rows.tsv:fly --out x.npy && said 'no column "fly"'
run 1 encode "${m[@]}" --video pictures --out x.npy && said 'no video in this folder'
run 1 encode "${m[@]}" --list - --text - --out x.npy && said 'standard input can be read once'
run 1 encode "${m[@]}" --text hi --out - --format npy && said 'needs a file'
long=$(printf 'word %.0s' {1..400})
run 0 encode "${m[@]}" --text hi --text "$long" --text "$long" --out x.npy
said '2 texts are longer than the model.s limit'
run 0 classify "${m[@]}" pictures --labels 'cat, dog'
is 'classify a folder' "$(wc -l <<<"$out")" 6
run 0 retrieve "${m[@]}" --query-image pictures/b.jpg --among pictures --top 1
is 'retrieve in a folder' "$(cut -f 1 <<<"$out")" pictures/b.jpg

# --- 0.5% of the files are broken: named, left out, counted ---
mkdir many
for i in $(seq -w 0 1 599); do ln "pictures/b.jpg" "many/$i.jpg"; done
for i in 100 300 599; do
    rm "many/$i.jpg"
    head -c 300 pictures/b.jpg >"many/$i.jpg"
done
f=(--model tiny.safetensors)
run 1 encode "${f[@]}" many --out many.npy
said '3 of 600 inputs could not be read'
for i in 100 300 599; do said "many/$i.jpg: .*left out"; done
is 'rows without them' "$(stat -c %s many.npy)" $((128 + 597 * 512))
is 'names without them' "$(wc -l <many.names) $(grep -c -e /100 -e /300 -e /599 many.names)" '597 0'
is 'no journal is left' "$(compgen -G 'many.npy.*')" ''
run 1 encode "${f[@]}" many --strict --out strict.npy && said 'many/100.jpg'
is 'strict writes nothing' "$(ls strict.npy 2>/dev/null)" ''

# --- killed, and run again: it goes on, and the file is the same ---
for n in 1 2 3; do
    "$up" encode "${f[@]}" --threads 1 many many many many many many many many --out killed.npy 2>errors &
    worker=$!
    while kill -0 $worker 2>/dev/null && [ "$(cat killed.npy.journal 2>/dev/null | wc -l)" -lt $((2 * n)) ]; do sleep 0.01; done
    kill -9 $worker 2>/dev/null
    wait $worker 2>/dev/null
done
is 'nothing half-done under the name' "$(ls killed.npy 2>/dev/null)" ''
eight=(many many many many many many many many)
run 1 encode "${f[@]}" --threads 1 "${eight[@]}" --out killed.npy
said 'goes on behind [1-9]'
said '24 of 4800 inputs'
run 1 encode "${f[@]}" --threads 1 "${eight[@]}" --out whole.npy
is 'as if it had not been killed' "$(cksum <killed.npy)" "$(cksum <whole.npy)"
is 'nor its names' "$(cksum <killed.names)" "$(cksum <whole.names)"

# --- an index ---
run 0 index "${m[@]}" pictures --out index && is index "$out" '3 rows, 3 of them encoded now'
before=$(cksum <index)
run 0 index "${m[@]}" pictures --out index && is 'nothing new' "$out" '3 rows, 0 of them encoded now'
is 'the same file' "$(cksum <index)" "$before"
cp "$image/jpeg_gray.jpg" pictures/z.jpg 2>/dev/null || cp "$image/jpeg_420.jpg" pictures/z.jpg
touch pictures/a.PNG
run 0 index "${m[@]}" pictures --out index && is 'one new, one changed' "$out" '4 rows, 2 of them encoded now'
run 0 search index "${m[@]}" --image pictures/a.PNG --top 2 && is 'a picture finds itself' "$(head -1 <<<"$out")" $'pictures/a.PNG\t1.000000'
is 'top 2' "$(wc -l <<<"$out")" 2
run 0 retrieve "${m[@]}" --query-image pictures/b.jpg --among index --top 3
indexed=$out
run 0 retrieve "${m[@]}" --query-image pictures/b.jpg --among pictures --top 3
is 'retrieve among an index, as among its files' "$indexed" "$out"
run 0 search index "${m[@]}" 'a cat' --image pictures/a.PNG --json
is 'two queries' "$(grep -c '"query"' <<<"$out")" 2
run 0 search index "${m[@]}" --text 'a cat' --image pictures/a.PNG --join && is 'one query of both' "$(wc -l <<<"$out")" 4
"$up" init --preset tiny --seed 2 --out other.safetensors
run 1 search index --model other.safetensors hi && said 'made by another model'
run 1 search list "${m[@]}" hi && said 'is not an index'
run 2 search "${m[@]}" && said 'no INDEX'
run 1 index "${m[@]}" pictures pictures/a.PNG --out twice && said 'pictures/a.PNG: is given twice'
run 1 retrieve --model other.safetensors --query-text hi --among index && said 'made by another model'
run 0 info index && is 'info' "$(head -2 <<<"$out")" $'kind: index\nrows: 4'

# --- vqa: of several pictures each ---
run 0 vqa "${m[@]}" --image pictures/b.jpg --question 'what is it' --answers cat,dog
one=$out
run 0 vqa "${m[@]}" --image pictures/a.PNG --image pictures/b.jpg --question 'what is it' --answers cat,dog
is 'vqa of two' "$(grep -P '^pictures/b.jpg\t' <<<"$out" | cut -f 2-)" "$one"
run 0 vqa "${m[@]}" --image pictures/a.PNG --image pictures/b.jpg --question 'what is it' --answers cat,dog --json
is 'vqa of two as JSON' "$(grep -c '"input": "pictures' <<<"$out")" 2

# --- names that are no UTF-8 survive --json ---
mkdir odd
odd=odd/$(printf 'caf\351 \357\267\220.jpg')
cp pictures/b.jpg "$odd"
cp pictures/a.PNG odd/plain.png
run 0 index "${m[@]}" odd --out odd.index
as_bytes() { # as_bytes EXPRESSION: a name in the JSON on standard input, as the bytes that Python takes it for
    python3 -c "import json, os, sys; a = json.load(sys.stdin); sys.stdout.buffer.write(os.fsencode($1))"
}
for what in "search odd.index ${m[*]} --image pictures/b.jpg --json:a[0]['results'][0]['name']" \
    "retrieve ${m[*]} --query-image pictures/b.jpg --among odd --json:a['answers'][0]['candidate']" \
    "retrieve ${m[*]} --query-image pictures/b.jpg --among odd.index --json:a['answers'][0]['candidate']" \
    "classify ${m[*]} odd --labels cat,dog --json:a[0]['input']" \
    "encode ${m[*]} odd --out -:a['input']"; do
    read -ra words <<<"${what%:*}"
    run 0 "${words[@]}"
    is "${words[0]}: the name's bytes" "$(grep -v '^$' <<<"$out" | if [ "${words[0]}" = encode ]; then head -1; else cat; fi | as_bytes "${what##*:}" | od -c)" \
        "$(printf %s "$odd" | od -c)"
done
run 0 info "$odd" odd/plain.png tiny.safetensors --json
is 'info --json' "$(as_bytes "repr(a[1]['size']) + ' ' + a[2]['preset'] + ' ' + a[0]['file']" <<<"$out" | od -c)" "$(printf %s "[61, 47] tiny $odd" | od -c)"

# --- GIF, BMP and TIFF, by content ---
if [ "$("$up" info "$image/gif_plain.gif" 2>/dev/null | head -1)" = 'kind: video' ]; then
    mkdir forms
    for name in bmp_rgb.bmp tiff_lzw.tif gif_plain.gif; do cp "$image/$name" forms; done
    cp "$image/tiff_raw.tif" forms/named.png
    cp "$image/jpeg_cmyk.jpg" forms/cmyk.png
    run 0 encode "${m[@]}" --image forms/bmp_rgb.bmp --image forms/tiff_lzw.tif --image forms/gif_plain.gif --image forms/named.png \
        --image forms/cmyk.png --out forms.npy
    is 'BMP and TIFF of the same pixels' "$(row forms.npy 0)" "$(row forms.npy 1)"
    is 'TIFF under another name' "$(row forms.npy 3)" "$(row forms.npy 1)"
    run 0 encode "${m[@]}" forms --out folder.npy
    is 'a folder of them' "$(cat folder.names)" $'forms/bmp_rgb.bmp\nforms/cmyk.png\nforms/gif_plain.gif\nforms/named.png\nforms/tiff_lzw.tif'
fi

finish
