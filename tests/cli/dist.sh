# The Dockerfile, as far as it shows without a container: every package has its name in Debian and all that a
# build needs is among them; sources of COPY, targets of make and stages exist.
file=$SRC/cli/dist/Dockerfile
sed -e ':a' -e '/\\$/N; s/\\\n//; ta' "$file" | grep -v '^#' >lines # one instruction a line

installed() { sed -n 's/.*apt-get install \([^&]*\).*/\1/p' lines | tr -s ' ' '\n' | grep -v -e '^-' -e '^$' -e '^/'; }
installed >packages
[ -s packages ] || die "no package in $(cat lines)"
sed -n '/^packages="/,/"$/p' "$SRC/.ci/deps.sh" | tr -d '"$*' | sed 's/^packages=//' | tr -s ' ' '\n' | grep . >needed
[ "$(wc -l <needed)" -gt 5 ] || die "packages of .ci/deps.sh: $(cat needed)"
while read -r package; do
    grep -qx "$package" packages || die "a build needs $package, the Dockerfile has none"
done <needed
apt-cache pkgnames 2>/dev/null >names || :
if grep -qx gcc names; then
    while read -r package; do
        grep -qx "$package" names || die "Debian has no package $package"
    done <packages
else
    skip_part "names of packages, there is no index of Debian's"
fi

sed -n 's/^FROM [^ ]* AS \([a-z]*\)$/\1/p' lines >stages
grep '^COPY' lines | while read -r _ from to rest; do
    case $from in
    --from=*)
        grep -qx "${from#--from=}" stages || die "COPY $from: no such stage"
        # made by the stage before
        grep -q "mv [^ ]* $to\$" lines || die "COPY $from $to: nothing makes it"
        ;;
    *) [ -z "$rest" ] && [ -e "$SRC/$from" ] || die "COPY $from: no such file" ;;
    esac
done
for target in $(sed -n 's/^RUN make \([^&]*\).*/\1/p' lines | tr ' ' '\n' | grep -v -e '^-' -e '=' -e '^$'); do
    grep -q "^$target:" "$SRC/Makefile" || die "make has no target $target"
done
grep -qx build "$SRC/.dockerignore" || die "build/ goes into the image's context"
program=$(sed -n 's/^ENTRYPOINT \["\(.*\)"\]$/\1/p' lines)
grep -q "\$BUILD/$program\|\$build/$program\|$program " "$SRC/cli/dist/install.sh" || die "install.sh installs no '$program'"
say "Dockerfile: $(wc -l <packages) packages, $(grep -c '^COPY' lines) copies"
