#!/bin/sh
# Documents that sources, scripts or documents name must be in the tree, and tables be those of their figures. Prints what is
# not; exit 1 if anything.
# MANIFEST.md lies beside the models that some tests use, not here.
cd "$(dirname "$0")/.." || exit 2
missing=$(git grep -hoE '\b[A-Za-z_/]+\.md\b' -- '*.c' '*.h' '*.inc' '*.sh' '*.py' '*.md' '*.proto' Makefile .ci |
    sort -u | grep -v 'MANIFEST\.md$' | while read -r name; do
        git ls-files | grep -qE "(^|/)$name\$" || echo "$name"
    done)
python3 trainer/results.py --check || exit 1
[ -z "$missing" ] && { echo "documents: ok"; exit 0; }
for name in $missing; do
    git grep -nE "\b$name\b" -- '*.c' '*.h' '*.inc' '*.sh' '*.py' '*.md' '*.proto' Makefile .ci
done
exit 1
