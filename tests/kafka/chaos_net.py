"""A network namespace that a worker runs in, with a link to the brokers that can be cut."""
import atexit
import os
import subprocess


def ip(*arguments, check=True):
    return subprocess.run(["ip", *arguments], check=check, text=True, capture_output=True, stdin=subprocess.DEVNULL)


class Net:
    """The machine's end has `address`, where brokers listen; taking the other end down cuts the namespace off."""

    def __init__(self):
        pid = os.getpid()
        self.name = "pdr-chaos-%d" % pid
        self.outside, self.inside = "pdrc%d" % (pid % 10**7), "pdri%d" % (pid % 10**7)
        subnet = "10.213.%d.%d" % (pid // 64 % 256, pid % 64 * 4)
        base, last = subnet.rsplit(".", 1)
        self.address = "%s.%d" % (base, int(last) + 1)
        atexit.register(self.remove)
        ip("netns", "add", self.name)
        ip("link", "add", self.outside, "type", "veth", "peer", "name", self.inside, "netns", self.name)
        ip("addr", "add", self.address + "/30", "dev", self.outside)
        ip("link", "set", self.outside, "up")
        ip("-n", self.name, "addr", "add", "%s.%d/30" % (base, int(last) + 2), "dev", self.inside)
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "set", self.inside, "up")

    def command(self):
        """What a program is started with to run in it, as the same process."""
        return ["ip", "netns", "exec", self.name]

    def cut(self):
        ip("-n", self.name, "link", "set", self.inside, "down")

    def heal(self):
        ip("-n", self.name, "link", "set", self.inside, "up")

    def remove(self):
        ip("link", "del", self.outside, check=False)
        ip("netns", "del", self.name, check=False)


def make():
    """None where it is not allowed, with the reason."""
    try:
        return Net(), ""
    except FileNotFoundError:
        return None, "no `ip` (Debian: iproute2)"
    except subprocess.CalledProcessError as error:
        return None, error.stderr.strip()
