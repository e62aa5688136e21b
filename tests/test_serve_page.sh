#!/bin/bash
# test_serve_page.sh - the page of the command serve, clicked through in a headless Chromium (serve_page.py).
# UP_BINARY and UP_SOURCE_DIR name the program and the source tree. Exit 77: something that it needs is not there.
set -u
up=${UP_BINARY:?} source=${UP_SOURCE_DIR:?}
browser=$(type -P chromium chromium-browser google-chrome | head -1)
[ -n "$browser" ] || { echo "test_serve_page: skipped: no Chromium"; exit 77; }
type -P python3 >/dev/null || { echo "test_serve_page: skipped: no python3"; exit 77; }
work=$(mktemp -d) server=
trap '[ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
"$up" init --preset tiny --seed 1 --out "$work/tiny.safetensors" || exit 1
mkdir "$work/pictures"
for name in jpeg_420.jpg jpeg_444.jpg source.png; do cp "$source/golden/image/$name" "$work/pictures"; done
"$up" index --model "$work/tiny.safetensors" "$work/pictures" --text 'a cat' --out "$work/files.index" >/dev/null || exit 1
"$up" serve "$work/tiny.safetensors" --port 0 --index "$work/files.index" >"$work/listening" 2>"$work/errors" &
server=$!
for _ in $(seq 400); do
    url=$(sed -n 's/^listening on //p' "$work/listening")
    [ -n "$url" ] && break
    if grep -q 'built without' "$work/errors"; then
        echo "test_serve_page: skipped: the program was built without libmicrohttpd"
        exit 77
    fi
    sleep 0.05
done
[ -n "$url" ] || { echo "FAILED: the server does not start: $(cat "$work/errors")"; exit 1; }
python3 "$source/tests/serve_page.py" "$browser" "$url" "$source/golden/image/jpeg_420.jpg" "$source/golden/video/full.mkv" || exit 1
kill "$server"
wait "$server"
code=$?
server=
[ $code = 0 ] || { echo "FAILED: the server ends with $code"; exit 1; }
