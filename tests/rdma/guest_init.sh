#!/bin/busybox sh
# The guest's first process, from its initramfs: loads modules, makes the host's own / the guest's
# (read from the host, written to memory), and goes on with guest.sh there. $OUT is shared for
# writing, at the host's path. Variables in capitals come from the kernel's command line.
b=/bin/busybox
for module in /modules/*; do $b insmod $module; done
$b mount -t devtmpfs dev /dev
options=trans=virtio,version=9p2000.L,msize=512000
$b mount -t 9p -o $options,ro,cache=loose host /host
$b mount -t tmpfs memory /memory
$b mkdir /memory/upper /memory/work
$b mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /system
$b mount -t proc proc /system/proc
$b mount -t sysfs sys /system/sys
$b mount -t devtmpfs dev /system/dev
$b mount -t tmpfs run /system/run
$b mkdir -p /system/dev/shm /system/dev/pts "/system$OUT"
$b mount -t tmpfs shm /system/dev/shm
$b mount -t devpts pts /system/dev/pts
$b mount -t 9p -o $options,cache=none out "/system$OUT"
exec $b switch_root /system /bin/bash "$GUEST"
