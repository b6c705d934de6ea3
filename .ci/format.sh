#!/bin/sh
# Every tracked C file is what clang-format makes of it. Prints offending places; exit 1 if any.
cd "$(dirname "$0")/.." || exit 2
format=$(command -v clang-format || command -v clang-format-14) || {
    echo "format: skipped, no clang-format"
    exit 0
}
git ls-files -- '*.c' '*.h' | while read -r f; do
    if [ -f "$f" ]; then echo "$f"; fi
done | xargs "$format" --dry-run -Werror || exit 1
echo "format: ok"
