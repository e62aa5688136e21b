#compdef uniperceiver
# zsh completion of uniperceiver: commands and flags from the program's own help, files elsewhere.
local -a list
if ((CURRENT == 2)); then
    list=(--help --version ${(f)"$($words[1] --help 2>/dev/null | sed -n 's/^  \([a-z]\+\)  *\(.*\)/\1:\2/p')"})
    _describe command list
elif [[ $words[CURRENT] == -* ]]; then
    list=(--help ${(f)"$($words[1] $words[2] --help 2>/dev/null | sed -n 's/^  \(--[a-z-]\+\).*/\1/p')"})
    compadd -a list
else
    _files
fi
