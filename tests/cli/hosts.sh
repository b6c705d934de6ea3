# Two hosts: client and server in containers of their own (network, processes, files), joined by one cable, over
# TLS with a pinned key. Images one by one and in a batch; a slow link that loses packets; small packets; the cable
# pulled during a query. Where the machine permits no namespaces the case is skipped.
#
# A container holds the system's programs, linnet-pi and one folder, /home. The server's is read-only and holds no
# file of the client; the client's holds model.pi and no other file of the server.
for need in ip tc unshare nsenter openssl python3; do
    command -v $need >/dev/null 2>&1 || skip "there is no program $need"
done
if [ "$(id -u)" -ne 0 ] && [ -z "${LINNET_HOSTS_USER:-}" ]; then # root of a user namespace, if that is allowed
    unshare --user --map-root-user --net true 2>refused ||
        skip "needs root, or user namespaces: $(tail -n 1 refused)"
    export LINNET_HOSTS_USER=1
    exec unshare --user --map-root-user --net sh -euc '. "$SRC/tests/cli/lib.sh"; . "$SRC/tests/cli/hosts.sh"'
fi
umask 022 # files of the case may be listed inside; secrets are made 600 below
mkdir probe
unshare --net --mount --pid --fork sh -ec '
    ip link add eth0 type veth peer name eth1
    mount -t tmpfs none probe
    mkdir probe/usr probe/proc
    mount --rbind /usr probe/usr
    mount -o remount,bind,ro probe/usr
    mount -t proc none probe/proc' 2>refused || skip "namespaces are not permitted: $(tail -n 1 refused)"

# ---- what each host holds -----------------------------------------------------------------------------------
data=synth:3000
mkdir server client
expect_exit 0 "$LINNET" export "$SRC/tests/demo/resnet8.onnx" -o model.onnx --pi server --data $data --calib 100 -q
cp server/model.pi client
fixed() { "$LINNET_PI" eval server/model.pi --weights server/model.pi.weights --mode fixed --input "client/$1.npy" "$2" "$3"; }
for images in 1 3; do
    expect_exit 0 "$LINNET" data $data --limit $images -o client/$images.npy
    expect_exit 0 fixed $images --output fixed$images.npy
done
identity() { # FOLDER NAME
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$2" \
        -keyout "$1/$2.key" -out "$1/$2.pem" 2>/dev/null
    chmod 600 "$1/$2.key"
}
identity server server
identity client client
identity client other
cp client/client.pem server/clients.pem

# ---- containers ---------------------------------------------------------------------------------------------
# host NAME ro|rw COMMAND...: process 1 of its own world; writes NAME.pid when that stands, begins at NAME.go
cat >host <<'HOST'
name=$1 access=$2 root=$PWD/$1.root
shift 2
read -r self _ </proc/self/stat # this process, in the numbers of the system outside
mount -t tmpfs none "$root"
for dir in bin sbin lib lib64; do
    [ ! -L /$dir ] || ln -s "$(readlink /$dir)" "$root/$dir"
done
for dir in usr bin sbin lib lib64 etc dev home; do
    from=/$dir
    [ $dir != home ] || from=$PWD/$name
    [ ! -e "$root/$dir" ] && [ -d "$from" ] || continue
    mkdir "$root/$dir"
    mount --rbind "$from" "$root/$dir"
    [ $dir = dev ] || [ $dir/$access = home/rw ] || mount -o remount,bind,ro "$root/$dir"
done
: >"$root/linnet-pi"
mount --bind "$LINNET_PI" "$root/linnet-pi"
mkdir "$root/proc"
mount -t proc none "$root/proc"
mount -o remount,bind,ro "$root"
echo $self >"$name.made"
mv "$name.made" "$name.pid"
until [ -e "$name.go" ]; do sleep 0.1; done
exec chroot "$root" "$@"
HOST
holders=
host() { # NAME ro|rw COMMAND...: sets $NAME to the outer id of the container's process 1
    mkdir "$1.root"
    unshare --net --mount --pid --fork --kill-child sh -eu host "$@" >"$1.out" 2>"$1.err" </dev/null &
    holders="$holders $!"
    wait_left=200
    until [ -e "$1.pid" ]; do
        wait_left=$((wait_left - 1))
        [ $wait_left -gt 0 ] && kill -0 $! 2>/dev/null || { cat "$1.err"; die "no container $1"; }
        sleep 0.1
    done
    eval "$1=$(cat "$1.pid") ${1}_holder=$!"
}
trap 'for holder in $holders; do kill -KILL $holder 2>/dev/null || true; done' EXIT
trap 'exit 130' INT TERM
net() { # HOST COMMAND...: a program of this system on that host's network
    eval "nsenter_at=\$$1"
    shift
    nsenter --target $nsenter_at --net "$@"
}
inside() { # HOST COMMAND...: within that container altogether
    eval "nsenter_at=\$$1"
    shift
    nsenter --target $nsenter_at --net --mount --pid --root --wd "$@"
}
count() { # up|down|packets: what the client's end of the cable has carried, packets on their way down
    net client awk -v what="$1" '/eth0:/ { print what == "up" ? $10 : what == "down" ? $2 : $3 }' /proc/net/dev
}

port=7000
host server ro /linnet-pi serve /home/model.pi --weights /home/model.pi.weights --listen 10.77.0.1:$port --relu ot \
    --tls-cert /home/server.pem --tls-key /home/server.key --client-ca /home/clients.pem
host client rw /bin/sleep 900
ip link add eth0 netns $server type veth peer name eth0 netns $client
net server ip address add 10.77.0.1/24 dev eth0
net client ip address add 10.77.0.2/24 dev eth0
for name in server client; do
    net $name ip link set lo up
    net $name ip link set eth0 up
done
: >client.go
: >server.go
wait_for server.out '^key for --pin: '
pin=$(sed -n 's/^key for --pin: //p' server.out)
at=10.77.0.1:$port
query() { # IMAGES NAME OPTIONS...: the answers go to client/NAME.npy
    query_images=$1 query_name=$2
    shift 2
    inside client /linnet-pi query /home/model.pi --connect $at --pin "$pin" --tls-cert /home/client.pem \
        --tls-key /home/client.key -i /home/$query_images.npy -o /home/$query_name.npy "$@"
}
refused() { # PATTERN QUERY...: the query ends as a network failure does
    refused_pattern=$1
    shift
    expect_exit 8 "$@"
    expect_text err "$refused_pattern"
}
answered() { # IMAGES NAME OPTIONS...: a query whose answers are those of fixed point
    expect_exit 0 query "$@"
    python3 "$SRC/tests/cli/labels.py" "fixed$1.npy" "client/$2.npy" || die "$2: other labels than fixed point"
    expect_exit 0 "$LINNET_PI" eval server/model.pi --weights server/model.pi.weights --mode fixed --input "client/$1.npy" \
        --expect "client/$2.npy" --atol 0.1
}

# ---- apart --------------------------------------------------------------------------------------------------
[ "$(inside server /bin/cat /proc/1/comm)" = linnet-pi ] || die "the server is not process 1 of its container"
[ "$(inside server /bin/ls /home | tr '\n' ' ')" = "clients.pem model.pi model.pi.weights server.key server.pem " ] ||
    die "the server sees $(inside server /bin/ls /home)"
for place in / /home /usr/lib /etc; do
    ! inside server /bin/touch $place/written 2>/dev/null || die "the server may write to $place"
done
! inside client /bin/ls /home | grep -E 'weights|server' || die "the client sees the server's files"
refused 'refused' inside client /linnet-pi query /home/model.pi --connect 127.0.0.1:$port --retry 0 -i /home/1.npy
at=10.77.0.3:$port
refused "connect to '10.77.0.3:$port'" query 1 none --retry 0 --timeout 2
at=10.77.0.1:$port
right=$pin pin=$(printf %064d 0)
refused 'not the pinned one' query 1 none --retry 0
pin=$right
refused "refuses this side's certificate: no authority that it trusts has signed it" inside client /linnet-pi query /home/model.pi --connect $at --pin "$pin" \
    --tls-cert /home/other.pem --tls-key /home/other.key -i /home/1.npy --retry 0

# ---- one by one, in a batch, all of it over the cable ---------------------------------------------------------
sent=$(count up) received=$(count down)
answered 3 single --json /home/single.json
sent=$(($(count up) - sent)) received=$(($(count down) - received))
answered 3 batch --batch 3
# figures of one image; the set-up is made once
stated() { # FILE SIDE: bytes of the three images
    python3 -c "
import json, sys
q = json.load(open(sys.argv[1]))
print(q['setup']['bytes_sent_' + sys.argv[2]] + sum(q['n'] * p['bytes_sent_' + sys.argv[2]] for p in q['phases']))" "$@"
}
up=$(stated client/single.json client) down=$(stated client/single.json server)
say "three images: $up bytes up and $down down, on the cable $sent and $received"
expect_number "$sent > $up && $sent < 1.2 * $up + 20000" "bytes up, stated and on the cable"
expect_number "$received > $down && $received < 1.2 * $down + 20000" "bytes down, stated and on the cable"

# ---- a slow link with loss ------------------------------------------------------------------------------------
slow() { # HOST: 40 Mbit/s and a queue so short that it overflows; plus delay and loss where the kernel has them
    net $1 tc qdisc replace dev eth0 root tbf rate 40mbit burst 8kb limit 12kb
}
slow server
slow client
answered 1 slow
dropped=$(net server tc -s qdisc show dev eth0 | sed -n 's/.*(dropped \([0-9]*\),.*/\1/p')
say "slow link: $dropped packets of the server lost"
expect_number "$dropped > 0" "a queue of 12 kB loses packets"
for name in server client; do net $name tc qdisc del dev eth0 root; done
if net client tc qdisc add dev eth0 root netem delay 10ms loss 1% 2>refused; then
    net server tc qdisc add dev eth0 root netem delay 10ms loss 1%
    answered 3 loss --batch 3
    for name in server client; do net $name tc qdisc del dev eth0 root; done
else
    skip_part "delay and random loss, the kernel has no sch_netem"
fi

# ---- packets of 576 bytes: no offload, which would hide them ----------------------------------------------------
for name in server client; do net $name ip link set eth0 mtu 576 gso_max_segs 1; done
received=$(count down) packets=$(count packets)
answered 1 small
received=$(($(count down) - received)) packets=$(($(count packets) - packets))
say "MTU 576: $packets packets of $((received / packets)) bytes on average"
expect_number "$received / $packets <= 590 && $packets > 1000" "packets of 576 bytes and a head of 14"
for name in server client; do net $name ip link set eth0 mtu 1500 gso_max_segs 65535; done

# ---- the cable pulled within a query -----------------------------------------------------------------------------
slow server
slow client
received=$(count down)
query 3 pulled --timeout 5 --retry 0 >pulled.out 2>pulled.err &
pulled=$!
left=600
until [ $(($(count down) - received)) -gt 1000000 ]; do
    left=$((left - 1))
    [ $left -gt 0 ] || die "no query to pull the cable from"
    sleep 0.05
done
kill -0 $pulled 2>/dev/null || die "the query was over before the cable was pulled"
net server ip link set eth0 down
start=$(date +%s%N)
status=0
wait $pulled || status=$?
took=$(awk "BEGIN { print ($(date +%s%N) - $start) / 1e9 }")
cat pulled.err
[ $status -eq 8 ] || die "without a cable the client ended with $status"
expect_text pulled.err 'no (answer|reader) within the time-out of 5 s'
[ ! -e client/pulled.npy ] || die "an answer without a server"
say "cable pulled: the client ends with exit 8 after $took s"
# --timeout and a second for each 64 KiB of the message that was due, here less than 512 KiB
expect_number "$took <= 5 + 8 + 4" "seconds until the client gives up"
kill -0 $server 2>/dev/null || die "the server is gone"
net server ip link set eth0 up
for name in server client; do net $name tc qdisc del dev eth0 root; done
answered 1 after

# ---- the end: process 1 stops as any server does ------------------------------------------------------------------
kill -TERM $server
status=0
wait $server_holder || status=$?
[ $status -eq 0 ] || { cat server.err; die "the server ended with $status"; }
