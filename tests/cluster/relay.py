"""A wire that takes its time: hands Ethernet frames from one device to another and back, each later
by as long as chance has it, so that some overtake others. For kernels without netem.

    relay.py DEVICE OTHER DELAY_MS JITTER_MS

ends with standard input, and tells {"frames": how many, "overtaken": how many came too late}.
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import sys
import time

ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR, PACKET_OUTGOING = 263, 15, 4
LARGEST = 1 << 17  # bytes of a frame that is yet to be cut, and of what says how


def device(name: str) -> socket.socket:
    """Frames come with what the kernel has yet to do to them, sums and cuts, and go with it."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    wire.bind((name, ETH_P_ALL))
    wire.setblocking(False)
    return wire


class Relay:
    def __init__(self, wires: list[socket.socket], delay: float, jitter: float) -> None:
        self._wires = wires
        self._delay, self._jitter = delay, jitter
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._latest = [0, 0]
        self.frames = self.overtaken = 0

    def take(self, index: int) -> None:
        try:
            frame, address = self._wires[index].recvfrom(LARGEST)
        except BlockingIOError:
            return
        if address[2] == PACKET_OUTGOING:
            return
        self.frames += 1
        due = time.monotonic() + self._delay + random.uniform(0, self._jitter)
        heapq.heappush(self._waiting, (due, self.frames, 1 - index, frame))

    def send_due(self) -> float | None:
        """Seconds until the next one is due."""
        while self._waiting:
            due, number, index, frame = self._waiting[0]
            if (rest := due - time.monotonic()) > 0:
                return rest
            heapq.heappop(self._waiting)
            if number < self._latest[index]:
                self.overtaken += 1
            self._latest[index] = max(self._latest[index], number)
            try:
                self._wires[index].send(frame)
            except OSError:
                pass  # a frame is lost, as on any wire
        return None


def main() -> None:
    wires = [device(name) for name in sys.argv[1:3]]
    delay, jitter = (float(word) / 1000 for word in sys.argv[3:5])
    relay = Relay(wires, delay, jitter)
    print("relays", flush=True)
    while True:
        ready, _, _ = select.select([*wires, sys.stdin], [], [], relay.send_due())
        if sys.stdin in ready:
            break
        for index, wire in enumerate(wires):
            if wire in ready:
                relay.take(index)
    print(json.dumps({"frames": relay.frames, "overtaken": relay.overtaken}))


if __name__ == "__main__":
    main()
