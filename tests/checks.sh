# checks.sh - what the tests of the program from outside count and how they end. Sourced; $out is the last output.
checks=0 failures=0 out=

count() { # count WHAT CONDITION...: one check
    local what=$1
    shift
    checks=$((checks + 1))
    "$@" && return
    failures=$((failures + 1))
    echo "FAILED: $what"
}
is() { # is WHAT GOT WANTED
    count "$1: got '$2', wanted '$3'" test "$2" = "$3"
}
has() { # has PATTERN: the last output has a line that matches
    count "no '$1' in: ${out:0:2000}" grep -q -- "$1" <<<"$out"
}
let_signals_kill() { # in a build with sanitizers, too, which would turn a death by a signal into an exit
    export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}handle_segv=0:handle_abort=0"
}
finish() { # the last line of a test and its exit code; a test without checks has failed
    echo "$checks checks, $failures failed"
    test $checks -gt 0 -a $failures -eq 0
}
