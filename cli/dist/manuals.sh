#!/bin/sh
# Man pages and shell completion out of the programs' own --help, so that they say what the option tables say:
# cli/dist/manuals.sh BUILD writes BUILD/manuals/{man1,bash,zsh,fish}.
set -eu
cd "$(dirname "$0")/../.."
build=$1
out=$build/manuals
rm -rf "$out"
mkdir -p "$out/man1" "$out/bash" "$out/zsh" "$out/fish"
version=$(sed -n 's/^#define LINNET_VERSION "\(.*\)"/\1/p' core/base/version.h)
export ARGP_HELP_FMT=rmargin=250,opt-doc-col=60,no-dup-args-note

commands_of() { "$build/$1" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'; }

# The help of a command as roff: usage, paragraphs, options, the example.
command_page() { # PROGRAM COMMAND
    "$build/$1" "$2" --help | awk -v program="$1" -v name="$2" -v version="$version" '
        function text(s) { gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); sub(/^\./, "\\\\\\&.", s); return s }
        BEGIN {
            printf ".TH %s\\-%s 1 \"\" \"linnet %s\" \"linnet\"\n", toupper(program), toupper(name), version
        }
        NR == 1 { sub(/^Usage: /, ""); usage = $0; next }
        NR == 2 { split($0, first, /[.:;]/); printf ".SH NAME\n%s\\-%s \\- %s\n.SH SYNOPSIS\n.B %s\n.SH DESCRIPTION\n", program, name, text(first[1]), text(usage) }
        /^Example:/ { print ".SH EXAMPLE\n.EX"; example = 1; next }
        example { print text($0); next }
        /^ +-/ {
            if (!options++) print ".SH OPTIONS"
            line = $0; sub(/^ +/, "", line)
            if (match(line, /  +/)) printf ".TP\n.B %s\n%s\n", text(substr(line, 1, RSTART - 1)), text(substr(line, RSTART + RLENGTH))
            else printf ".TP\n.B %s\n", text(line)
            next
        }
        /^ / && options { sub(/^ +/, ""); print text($0); next }
        NF { print text($0) }
        END { if (example) print ".EE"; printf ".SH SEE ALSO\n.BR %s (1)\n", program }'
}

program_page() { # PROGRAM
    "$build/$1" --help | awk -v program="$1" -v version="$version" '
        function text(s) { gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); return s }
        NR == 1 { sub(/^Usage: /, ""); usage = $0; next }
        NR == 2 { printf ".TH %s 1 \"\" \"linnet %s\" \"linnet\"\n.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.B %s\n.SH DESCRIPTION\n%s\n", toupper(program), version, program, text($0), text(usage), text($0); next }
        /^Commands:/ { print ".SH COMMANDS"; commands = 1; next }
        commands && /^  / { name = $1; sub(/^ +[a-z]+ +/, ""); printf ".TP\n.BR %s\\-%s (1)\n%s\n", program, name, text($0); next }
        NF { commands = 0; print ".PP"; print text($0) }
        END {
            print ".SH EXIT STATUS"
            print "0 done, 1 run\\-time failure, 2 usage, 3 model refused, 4 data refused, 5 outside tolerance, 6 goal missed,"
            print "7 numerical failure, 8 network or peer, 75 interrupted with its state saved."
        }'
}

# "name value" per long option of a command; value - where it takes none.
options_of() {
    "$build/$1" "$2" --help | grep -oE -e '--[a-z0-9-]+(=[^ ]+)?' | sort -u | sed 's/=/ /; t; s/$/ -/'
}

for program in linnet linnet-pi; do
    program_page $program >"$out/man1/$program.1"
    commands=$(commands_of $program)
    under=$(echo $program | tr - _)
    {
        echo "# bash completion of $program"
        echo "_$under() {"
        echo "    local words"
        echo "    if [ \"\$COMP_CWORD\" -eq 1 ]; then"
        echo "        COMPREPLY=(\$(compgen -W \"$(echo $commands)\" -- \"\${COMP_WORDS[1]}\"))"
        echo "        return"
        echo "    fi"
        echo "    case \${COMP_WORDS[1]} in"
        for c in $commands; do
            echo "    $c) words=\"$(options_of $program "$c" | cut -d' ' -f1 | tr '\n' ' ')\" ;;"
        done
        echo "    esac"
        echo "    case \$2 in"
        echo "    -*) COMPREPLY=(\$(compgen -W \"\$words\" -- \"\$2\")) ;;"
        echo "    *) COMPREPLY=(\$(compgen -f -- \"\$2\")) ;;"
        echo "    esac"
        echo "}"
        echo "complete -o filenames -F _$under $program"
    } >"$out/bash/$program"
    {
        echo "#compdef $program"
        echo "local -a words"
        echo "if (( CURRENT == 2 )); then compadd $(echo $commands); return; fi"
        echo "case \$words[2] in"
        for c in $commands; do
            echo "$c) options=($(options_of $program "$c" | cut -d' ' -f1 | tr '\n' ' ')) ;;"
        done
        echo "esac"
        echo "if [[ \$PREFIX == -* ]]; then compadd -- \$options; else _files; fi"
    } >"$out/zsh/_$program"
    for c in $commands; do
        command_page $program "$c" >"$out/man1/$program-$c.1"
        echo "complete -c $program -n __fish_use_subcommand -a $c"
        options_of $program "$c" | while read -r option value; do
            echo "complete -c $program -n '__fish_seen_subcommand_from $c' -l ${option#--}$([ "$value" = - ] || echo ' -r')"
        done
    done >"$out/fish/$program.fish"
done
