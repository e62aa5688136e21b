#!/bin/bash
# check_style.sh [BUILD_FOLDER] - one dialect in the whole tree: every C file is as .clang-format would write it, and, given
# a build folder with compile_commands.json and where clang-query is installed, no comma chains two statements.
set -eu
cd "$(dirname "$0")/.."
mapfile -t files < <(find . \( -path '*/.*' -o -path './build*' -o -path ./runs \) -prune -o -regex '.*\.\(c\|h\|cu\|cuh\)' -print | sort)
failed=0
version=$(clang-format --version 2>/dev/null | sed -n 's/.*version \([0-9]*\)\..*/\1/p')
if [ "$version" != 14 ]; then
    echo "style: skipped: other versions write other files; clang-format 14 wanted, found ${version:-none}"
    exit 77
fi
clang-format --dry-run -Werror "${files[@]}" || failed=1

if [ $# -gt 0 ] && type -P clang-query >/dev/null; then
    mapfile -t sources < <(printf '%s\n' "${files[@]}" | grep -E '^\./(ref|backend_cpu|src|tests|bench)/.*\.c$' | grep -v /kernels/)
    commas='match binaryOperator(hasOperatorName(","), anyOf(hasParent(compoundStmt()), hasParent(ifStmt()), hasParent(returnStmt()), hasParent(whileStmt()))).bind("comma")'
    found=$(clang-query -p "$1" -c 'set output diag' -c "$commas" "${sources[@]}" 2>/dev/null |
        sed -n 's/note: "comma" binds here/a comma chains statements/p' | sort -u || true)
    if [ -n "$found" ]; then
        echo "$found"
        failed=1
    fi
fi
[ $failed = 0 ] && echo "style: ${#files[@]} files as they should be"
exit $failed
