#!/usr/bin/env bash
# The page of `report`, opened by a browser without a network: light, dark and at the width of a phone, with names that
# try to become markup. UP_BINARY: the program. Skipped (77) where there is no chromium.
set -euo pipefail
browser=$(command -v chromium || command -v chromium-browser || true)
if [ -z "$browser" ]; then
    echo "skipped: no chromium (Debian package chromium)"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "FAILED: $*"
    exit 1
}

# A run: one task trained, evaluated, with a class whose name is markup.
evil='</script><img src=x onerror=document.title=1>'
printf 'text\tword\nwhat remains of a fire\t%s\none who bakes bread\tbaker\nnot wet\tdry\n' "$evil" >"$work/texts.tsv"
cat >"$work/run.yaml" <<END
run: $work/run
steps: 6
log_every: 2
model: {preset: tiny, layers: 1, width: 16, heads: 2, ffn: 32, text_positions: 32, image_size: 16, patch: 8, frames: 2}
tasks:
  - {kind: text_classification, data: $work/texts.tsv, text: text, target: word, batch: 3, text_limit: 32}
evaluations:
  - {kind: text_classification, data: $work/texts.tsv, text: text, target: word, text_limit: 32}
END
"$UP_BINARY" train "$work/run.yaml" --quiet
"$UP_BINARY" eval "$work/run.yaml" --quiet >/dev/null
grep -q '"confusion"' "$work/run/predictions.jsonl" || fail "eval kept no confusion matrix"
"$UP_BINARY" report "$work/run" || fail "no page"
page=$work/run/report.html
[ "$(grep -c '</script>' "$page")" = 2 ] || fail "a name ends a script"
if grep -E 'https?://' "$page" | grep -v w3.org; then fail "the page names the network"; fi

# A probe behind the page's own script writes into the document what a test can read.
probe='<script>document.body.dataset.probe = [document.documentElement.scrollWidth <= innerWidth, matchMedia("(prefers-color-scheme: dark)").matches, document.documentElement.dataset.theme, document.querySelectorAll("svg polyline").length, document.querySelectorAll("main img[src=x]").length, innerWidth].join()</script>'
sed "s#</body>#$(printf '%s' "$probe" | sed 's/[&#\\]/\\&/g')</body>#" "$page" >"$work/probe.html"
open() { # open FLAGS...: what the probe saw; a line of the console that is an error fails
    "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$work/profile" --enable-logging=stderr "$@" \
        --dump-dom "file://$work/probe.html" 2>"$work/console" >"$work/dom" || fail "the browser ended with $?"
    if grep -E 'CONSOLE.*(Error|Refused|Uncaught)' "$work/console"; then fail "errors on the console"; fi
    grep -o 'data-probe="[^"]*"' "$work/dom" || fail "no probe: the page's script did not end"
}
wide=$(open --window-size=1100,900)
dark=$(open --window-size=1100,900 --blink-settings=preferredColorScheme=0)
# a headless window is never narrower than 500 pixels: a frame is
cat >"$work/phone.html" <<END
<iframe src="probe.html" width=390 height=800 style="border: 0"
    onload="document.body.dataset.phone = this.contentDocument.body.dataset.probe"></iframe>
END
[[ $wide == 'data-probe="true,false,light,4,0,'* ]] || fail "light: $wide"
[[ $dark == 'data-probe="true,true,dark,4,0,'* ]] || fail "dark: $dark"
grep -q '<pre>' "$work/dom" || fail "no settings"
grep -q 'true: ' "$work/dom" || fail "no single rows"
"$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$work/profile" --allow-file-access-from-files \
    --window-size=600,900 --dump-dom "file://$work/phone.html" >"$work/dom" 2>/dev/null || fail "no phone"
phone=$(grep -o 'data-phone="[^"]*"' "$work/dom")
[[ $phone == 'data-phone="true,false,light,4,0,390"' ]] || fail "390 pixels: $phone"
echo "the page of a run: light, dark, at 390 pixels; names stay text"
