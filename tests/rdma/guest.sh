# The second half of the guest's start, as root in the host's own files: network, Soft-RoCE devices,
# then the command. NODE, NODES, OUT and FOLDER come from the kernel's command line.
#   one machine:  rxe0 on wire0 (10.9.0.1) and rxe1 on wire1 (10.9.0.2), the ends of a veth pair
#   two machines: rxe0 on wire0 in each, 10.9.0.1 and 10.9.0.2, on a wire between them
# The command finds NODE (0 or 1), OWN_IP, PEER_IP, OUT, MEMBRAIN_TEST_RDMA, `barrier NAME`, which
# waits until both machines have come to it, and (of two machines) $CABLE, a program: off, on.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
export NODE NODES OUT OWN_IP=10.9.0.$((NODE + 1)) PEER_IP=10.9.0.$((2 - NODE))
exec </dev/null
ulimit -l unlimited
ulimit -c 0

# Soft-RoCE's work is done by ksoftirqd: programs that poll must not starve it.
for process in $(pgrep ksoftirqd); do chrt -f -p 1 "$process"; done
hostname "vm$NODE"
ip link set lo up
sysctl -qw net.ipv4.conf.{all,default}.{accept_local=1,rp_filter=0} \
  net.ipv6.conf.{all,default}.accept_dad=0
if [[ $NODES == 2 ]]; then
  interface=$(basename "$(ls -d /sys/bus/virtio/devices/*/net/*)")
  ip link set "$interface" name wire0
  export MEMBRAIN_TEST_RDMA=rxe0:1
else
  ip link add wire0 type veth peer name wire1
  export MEMBRAIN_TEST_RDMA='rxe0:1 rxe1:1'
fi
for wire in /sys/class/net/wire*; do
  number=${wire##*wire}
  ip link set "wire$number" mtu 4200 up # the largest packets of RoCE, and their headers
  ip addr add "10.9.0.$((NODE + number + 1))/24" dev "wire$number"
  rdma link add "rxe$number" type rxe netdev "wire$number"
done

barrier() {
  local node
  : >"$OUT/barrier.$1.$NODE"
  for ((node = 0; node < NODES; node++)); do
    until [[ -e $OUT/barrier.$1.$node ]]; do sleep 0.1; done
  done
}
export -f barrier
CABLE=$(dirname "$GUEST")/cable.sh
export CABLE

echo "guest $NODE: up after $(cut -d' ' -f1 /proc/uptime) s, $(uname -r)" >/dev/console
barrier boot
cd "$FOLDER" || exit
bash "$OUT/command" >"$OUT/log.$NODE" 2>&1
echo $? >"$OUT/status.$NODE"
dmesg >"$OUT/dmesg.$NODE"
sync
echo o >/proc/sysrq-trigger # power off at once
sleep 60
