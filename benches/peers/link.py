"""A link between two network namespaces that takes its time: TUN devices, and every packet held for so many milliseconds.

link.py NEAR FAR MILLISECONDS. The near side is 192.0.2.1, the far side 192.0.2.2 (RFC 5737). It says "up" when it is, and ends
when its standard input does. netem would do the same, where the kernel has it.
"""

import collections
import ctypes
import fcntl
import os
import selectors
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


def end(namespace, own, peer):
    """The device of one side; its file stays with us."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/run/netns/" + namespace) as place:
        if libc.setns(place.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", b"slow0", IFF_TUN | IFF_NO_PI))
    for command in (
        ["addr", "add", own, "peer", peer, "dev", "slow0"],
        ["link", "set", "slow0", "up"],
        ["link", "set", "lo", "up"],
    ):
        subprocess.run(["ip", *command], check=True)
    return tun


near, far, delay = sys.argv[1], sys.argv[2], float(sys.argv[3]) / 1000
ends = [end(near, "192.0.2.1", "192.0.2.2"), end(far, "192.0.2.2", "192.0.2.1")]
selector = selectors.DefaultSelector()
for tun in ends:
    selector.register(tun, selectors.EVENT_READ)
selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
print("up", flush=True)
held = collections.deque()
while True:
    wait = max(0.0, held[0][0] - time.monotonic()) if held else None
    for key, _ in selector.select(wait):
        if key.fd == sys.stdin.fileno():
            sys.exit(0)
        try:
            packet = os.read(key.fd, 65536)
        except BlockingIOError:
            continue
        held.append((time.monotonic() + delay, ends[1 - ends.index(key.fd)], packet))
    while held and held[0][0] <= time.monotonic():
        _, tun, packet = held.popleft()
        os.write(tun, packet)
