# Devices at TLS 1.0, for as long as a file is not there:  load.py sessions|newcomers PORT LOGIN PASSWORD COUNT STOP
# Sessions log in once, say NOOP again and again, and log out; newcomers connect anew each time. Prints what went wrong.
import os, socket, ssl, sys, threading, time

kind, port, login, password, count, stop = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), sys.argv[6]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_ciphers("AES128-SHA:@SECLEVEL=0")
context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
done, faults, ready, lock = [0], [], [0], threading.Lock()


class Device:
    def __init__(self):
        self.file = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 60)).makefile("rwb")
        self.expect(b"* OK")

    def expect(self, words):
        line = self.file.readline()
        while not line.startswith(words):
            if not line or (line[:2] == words[:2] and words != b"* OK"):
                raise OSError(f"{line!r} in place of {words!r}")
            line = self.file.readline()

    def say(self, command):
        self.file.write(b"a " + command + b"\r\n")
        self.file.flush()
        self.expect(b"a OK")


def session():
    device = Device()
    device.say(f'LOGIN "{login}" "{password}"'.encode())
    with lock:
        ready[0] += 1
    while not os.path.exists(stop):
        device.say(b"NOOP")
        with lock:
            done[0] += 1
        time.sleep(0.02)
    device.say(b"LOGOUT")


def newcomer():
    while not os.path.exists(stop):
        Device()
        with lock:
            done[0] += 1
            ready[0] = count
        time.sleep(0.01)


def run():
    try:
        session() if kind == "sessions" else newcomer()
    except Exception as error:
        with lock:
            faults.append(repr(error))


threads = [threading.Thread(target=run) for _ in range(count)]
for thread in threads:
    thread.start()
while ready[0] < count and not faults:
    time.sleep(0.05)
open(stop + ".ready", "w").close()
for thread in threads:
    thread.join()
print(f"done={done[0]} faults={len(faults)} {faults[:3]}")
