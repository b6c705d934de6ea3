# Screenshots of the page of a run and of a sweep are not blank: in a window as of a laptop, as of a phone, and
# dark; no table is cut at 400 pixels; printed on A4 they are a few pages. Read by tests/long/run.sh.
find_chromium() {
    for chromium in chromium chromium-browser google-chrome headless_shell; do
        command -v $chromium && return 0
    done
    return 1
}
# colours PNG: how many different colours are in it, and the share of the most frequent one
colours() {
    python3 - "$1" <<'END'
import collections, struct, sys, zlib
raw = open(sys.argv[1], "rb").read()
at, idat = 8, b""
while at < len(raw):
    n, kind = struct.unpack(">I4s", raw[at:at + 8])
    if kind == b"IHDR":
        width, height, depth, colour = struct.unpack(">IIBB", raw[at + 8:at + 18])
    if kind == b"IDAT":
        idat += raw[at + 8:at + 8 + n]
    at += n + 12
size = {2: 3, 6: 4}[colour]
assert depth == 8
data, line, before, seen = zlib.decompress(idat), width * size, bytearray(width * size), collections.Counter()
for y in range(height):
    kind, row = data[y * (line + 1)], bytearray(data[y * (line + 1) + 1:(y + 1) * (line + 1)])
    for x in range(line):
        a, b, c = row[x - size] if x >= size else 0, before[x], before[x - size] if x >= size else 0
        p = a + b - c
        near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        row[x] = row[x] + (0, a, b, (a + b) // 2, near)[kind] & 255
    before = row
    seen.update(bytes(row[x:x + 3]) for x in range(0, line, size))
print(len(seen), 100 * seen.most_common(1)[0][1] // (width * height))
END
}
# overhang PAGE: by how many pixels its widest table is cut in a window of 400
overhang() {
    cp "$1" inner.html
    cat >frame.html <<'END'
<iframe src="inner.html" style="width:400px;height:1600px;border:0" onload="const d = this.contentDocument;
document.body.dataset.over = Math.max(...[...d.querySelectorAll('main, .wide')].map(e => e.scrollWidth - e.clientWidth))"></iframe>
END
    timeout 120 "$chromium" --headless --no-sandbox --disable-gpu --allow-file-access-from-files --user-data-dir="$out/chromium" \
        --dump-dom "file://$out/frame.html" 2>chromium.log | sed -n 's/.*data-over="\([0-9]*\)".*/\1/p'
}
page_all() {
    chromium=$(find_chromium) || {
        skip_part "screenshots of the page, there is no Chromium"
        return 0
    }
    small="--data synth:300 --preset quick --teacher-epochs 2 --mask-epochs 1 --finetune-epochs 2 --teacher-min-steps 1
        --finetune-min-steps 1 --mask-min-steps 1 --attack-steps 1 --eval-attack-images 10 --eval-corrupt-images 10"
    # shellcheck disable=SC2086
    expect_exit 0 "$LINNET" sweep "$SRC/tests/demo/resnet8.onnx" $small --relus 30%,10% -o page -q
    for name in page page/relus-10p; do
        for window in 1280,1600 400,1600; do
            for mode in "" --force-dark-mode; do
                rm -f shot.png
                # shellcheck disable=SC2086
                timeout 120 "$chromium" --headless --no-sandbox --disable-gpu --hide-scrollbars $mode --window-size=$window \
                    --user-data-dir="$out/chromium" --screenshot="$out/shot.png" "file://$out/$name/report.html" >chromium.log 2>&1 || :
                [ -s shot.png ] || { missed "no screenshot of $name: $(tail -n 2 chromium.log)"; continue; }
                # shellcheck disable=SC2046
                set -- $(colours shot.png)
                if [ "$1" -gt 50 ] && [ "$2" -lt 98 ]; then
                    echo "  $name at $window $mode: $1 colours, $2 % of one"
                else
                    missed "$name at $window $mode is blank: $1 colours, $2 % of one"
                fi
            done
        done
        over=$(overhang "$name/report.html")
        if [ "$over" = 0 ]; then
            echo "  $name at 400: no table is cut"
        else
            missed "$name at 400: a table is cut by '$over' pixels"
        fi
        rm -f a4.pdf
        timeout 120 "$chromium" --headless --no-sandbox --disable-gpu --user-data-dir="$out/chromium" --no-pdf-header-footer \
            --print-to-pdf="$out/a4.pdf" "file://$out/$name/report.html" >chromium.log 2>&1 || :
        [ -s a4.pdf ] || { missed "$name is not printed: $(tail -n 2 chromium.log)"; continue; }
        pages=$(grep -ac '/Type /Page$' a4.pdf)
        if [ "$pages" -ge 2 ] && [ "$pages" -le 12 ]; then # a chart a page would be more
            echo "  $name on A4: $pages pages"
        else
            missed "$name on A4: $pages pages"
        fi
    done
}
