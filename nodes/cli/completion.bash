# Completion of kelp for bash. What can be typed is asked from kelp itself, so it is never out of date.

_kelp_commands() { # of `kelp` or of one of its commands: the words of its help
    "${words[0]}" "$@" --help 2>/dev/null |
        sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\)\( .*\)\?$/\1/p'
}

_kelp_flags() { # of a command: its flags, and with a second word those that take a value
    "${words[0]}" "$@" --help 2>/dev/null | sed -n 's/^  \(-[a-z], \)\? *\(--[a-z-]*\).*/\2/p'
}

_kelp_values() { # the words that a flag takes
    case $1 in
    -o | --output)
        if [[ ${words[1]} == cluster ]]; then echo table json; else echo table wide json jsonl raw hex help; fi
        ;;
    --kind | --not-kind)
        "${words[0]}" log cat -o help 2>/dev/null |
            sed -n '/^Kinds:/,/^  kind_N/p' | sed '1d;$d'
        ;;
    --op)
        "${words[0]}" log cat -o help 2>/dev/null |
            sed -n '/^Ops:/,$s/^  \([a-z ]*[a-z]\)   .*/\1/p'
        ;;
    --from | --to | --until) echo start end -10 -10m now today yesterday ;;
    *) return 1 ;;
    esac
}

_kelp() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} found
    local words=("${COMP_WORDS[@]}")
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "$(_kelp_commands)" -- "$current")
        return
    fi
    if ((COMP_CWORD == 2)) && [[ $current != -* ]]; then
        found=$(_kelp_commands "${words[1]}")
        if [[ -n $found ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$found" -- "$current")
            return
        fi
    fi
    if found=$(_kelp_values "$previous"); then
        mapfile -t COMPREPLY < <(compgen -W "$found" -- "$current")
        return
    fi
    if [[ $current == -* ]]; then
        found=$(_kelp_flags "${words[1]}" "${words[2]}")
        mapfile -t COMPREPLY < <(compgen -W "${found:-$(_kelp_flags "${words[1]}")}" -- "$current")
        return
    fi
    mapfile -t COMPREPLY < <(compgen -d -- "$current")
}

complete -o filenames -F _kelp kelp
