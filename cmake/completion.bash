# bash completion of uniperceiver: commands and flags from the program's own help, files elsewhere.
_uniperceiver() {
    local word=${COMP_WORDS[COMP_CWORD]} list=
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        list="--help --version $("${COMP_WORDS[0]}" --help 2>/dev/null | sed -n 's/^  \([a-z]\+\)  .*/\1/p')"
    elif [[ $word == -* ]]; then
        list="--help $("${COMP_WORDS[0]}" "${COMP_WORDS[1]}" --help 2>/dev/null | sed -n 's/^  \(--[a-z-]\+\).*/\1/p')"
    fi
    if [ -n "$list" ]; then mapfile -t COMPREPLY < <(compgen -W "$list" -- "$word"); fi
}
complete -o default -F _uniperceiver uniperceiver
