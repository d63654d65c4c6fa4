#!/usr/bin/env bash
# In a guest: has its end of the wire unplugged or plugged in again by the host (vm.py), and waits
# until the network interface has noticed.
#   cable.sh off|on
set -eu
[[ $1 == on ]] && carrier=1 || carrier=0
echo "$1" >"$OUT/.cable.$NODE"
mv "$OUT/.cable.$NODE" "$OUT/cable.$NODE"
until [[ $(</sys/class/net/wire0/carrier) == "$carrier" ]]; do sleep 0.02; done
