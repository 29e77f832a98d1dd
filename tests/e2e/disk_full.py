"""
A disk that fills up under a worker: nothing that was acknowledged is lost, and the job goes on when space returns. The
file system is a small tmpfs in a mount namespace of its own.
"""
import os
import subprocess
import sys
import time

from harness import Log, Worker, check, effects, fail, wait_until

SIZE = "100m" # enough for all that is written, were there no ballast


def unshared():
    """Starts this test again where it may mount; 77 when nobody may."""
    for way in (["unshare", "-m"], ["unshare", "-r", "-m"]):
        try:
            if subprocess.run(way + ["mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0:
                environment = dict(os.environ, PERDURE_UNSHARED="1")
                sys.exit(subprocess.run(way + [sys.executable] + sys.argv, env=environment).returncode)
        except FileNotFoundError:
            pass
    print("skipped: this system lets us mount nothing")
    sys.exit(77)


def fill(folder):
    """Takes all that is left; returns the file that holds it."""
    path = os.path.join(folder, "ballast")
    with open(path, "wb", buffering=0) as file:
        size = 65536
        while size >= 1:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2
    return path


def long_steps(ledger):
    return [effect for effect in effects(ledger) if effect.job == "long"]


def full(log, round, acknowledged, ledger):
    """Signals of 100 kB until one is refused; what the file had in reserve is used up then."""
    for number in range(200):
        name = "s-%d-%d" % (round, number)
        with open(os.path.join(log.folder, "signal"), "w") as file:
            file.write('"%s"' % name.ljust(100000, "-"))
        done = log.run("signal", "signals", "item", "--input", "@" + file.name)
        if done.returncode == 0:
            acknowledged.append(name)
            continue
        check(done.returncode == 5, "a refused signal exits with %d: %s" % (done.returncode, done.stderr))
        print("full after %d signals and %d steps: %s" % (number, len(long_steps(ledger)), done.stderr.strip()), flush=True)
        return
    fail("a full disk took everything")


def main():
    if not os.environ.get("PERDURE_UNSHARED"):
        unshared()
    log = Log("sqlite")
    small = os.path.join(log.folder, "small")
    os.mkdir(small)
    check(subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + SIZE, "none", small]).returncode == 0, "mount")
    log.uri = "sqlite:" + os.path.join(small, "perdure.db")
    ledger = os.path.join(log.folder, "ledger")
    environment = {"PERDURE_EFFECT_LEDGER": ledger, "PERDURE_STEP_DELAY_MS": "20"}
    worker = Worker(log, "chores", environment=environment)
    worker.wait_for("is ours")
    log.start("chain", "long", "400")
    log.start("doze", "signals", "3600000")
    wait_until("progress", lambda: len(long_steps(ledger)) > 20)
    acknowledged = []
    for round in range(2 if os.environ.get("PERDURE_SOAK") else 1):
        ballast = fill(small)
        full(log, round, acknowledged, ledger)
        stood = len(long_steps(ledger))
        time.sleep(1.5)
        check(len(long_steps(ledger)) <= stood + 1, "steps go on though nothing can be recorded")
        os.unlink(ballast)
        if worker.process.poll() is not None: # it may give up, saying why; then it is started again
            print("the worker ended with %d: %s" % (worker.process.returncode, worker.text().strip().splitlines()[-1]))
            check("full" in worker.text() or "space" in worker.text(), "it did not say why:\n" + worker.text())
            worker = Worker(log, "chores", environment=environment)
        wait_until("the job goes on when space returns:\n" + worker.text(),
                   lambda: len(long_steps(ledger)) >= stood + 10, seconds=60)

    check(log.result("long") == "400 steps", "wrong result")
    check(len({effect.key for effect in long_steps(ledger)}) == 400, "effects are missing")
    received = [event["payload"][:20].strip("-") for event in log.lines("history", "signals")
                if event["type"] == "signal_received"]
    check(len(received) == len(set(received)), "a signal came twice: %s" % received)
    missing = set(acknowledged) - set(received)
    check(not missing, "acknowledged signals are lost: %s" % missing)
    print("%d signals acknowledged, %d recorded" % (len(acknowledged), len(received)))
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    subprocess.run(["umount", small])
    log.remove()


main()
