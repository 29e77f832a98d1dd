"""
A namespace grows from 2 to 8 partitions under load, while one of two workers is killed with SIGKILL: every job ends with
the right result, no signal is lost or doubled, histories are whole, and the checker finds nothing wrong.
"""
import json
import sys
import threading
import time

from harness import Log, Worker, check, wait_until

COLLECTORS = 24
CHAINS = 12
STEPS = 40


def signal_all(log, item, problems):
    def send(jobs):
        for job in jobs:
            while True:
                done = log.run("signal", "collect-%d" % job, "item", "--input", '"%s"' % item, "--request",
                               "%s-%d" % (item, job), timeout=150)
                if done.returncode == 0:
                    break
                if done.returncode not in (4, 5):
                    problems.append("signal %s to %d: exit %d %s" % (item, job, done.returncode, done.stderr))
                    return
    threads = [threading.Thread(target=send, args=(range(i, COLLECTORS, 4),)) for i in range(4)]
    for thread in threads:
        thread.start()
    return threads


def grow(log, partitions):
    done = log.run("namespace", "grow", "--partitions", str(partitions), "--dev", "--timeout", "200s", timeout=300)
    check(done.returncode == 0, "grow: exit %d %s%s" % (done.returncode, done.stdout, done.stderr))
    check("all jobs are where they belong" in done.stdout, "grow said: " + done.stdout)
    return done


def judge(log):
    """The whole log, both sides of each move, with every effect that was made and every signal that was accepted."""
    with open(log.folder + "/acked", "w") as file:
        for item in ("one", "two", "three"):
            file.writelines("signal %s-%d collect-%d\n" % (item, job, job) for job in range(COLLECTORS))
    verdict = json.loads(log.verify("--ledger", log.folder + "/ledger", "--acked", log.folder + "/acked", "--json"))
    growths = [(growth["partitions"], growth["settled"], growth["moves_in"]) for growth in verdict["growths"]]
    check(verdict["ok"] and growths == [(8, True, 6)], "verify: %s, %s" % (growths, verdict["violations"]))
    check(verdict["growths"][0]["open_moved"] > 0, "no open run moved: %s" % verdict["growths"])
    check(verdict["unchecked_count"] == 0, "not checked: %s" % verdict["unchecked"])
    print("%(records)d records, %(events)d events," % verdict["journal"], verdict["growths"][0], verdict["ledger"], flush=True)


def main():
    log = Log(sys.argv[1], partitions=2)
    log.refused(2, "grow: name the new number", "namespace", "grow")
    log.refused(2, "no power of two", "namespace", "create", "--partitions", "3")
    workers = [Worker(log, "chores", data="%s/data-%d" % (log.folder, i), arguments=("--standby", "2"),
                      environment={"PERDURE_EFFECT_LEDGER": log.folder + "/ledger"})
               for i in range(2)]
    for worker in workers:
        worker.wait_for("is ours")
    log.start_all("chores/collect", {"collect-%d" % i: "3" for i in range(COLLECTORS)})
    log.start_all("chores/chain", {"chain-%d" % i: str(STEPS) for i in range(CHAINS)})
    problems = []
    for thread in signal_all(log, "one", problems):
        thread.join()
    growing = log.begin("namespace", "grow", "--partitions", "8", "--dev", "--timeout", "200s")
    threads = signal_all(log, "two", problems)
    time.sleep(0.5)
    workers[0].kill()
    workers[0] = Worker(log, "chores", data=log.folder + "/data-0", environment={"PERDURE_EFFECT_LEDGER": log.folder + "/ledger"})
    out, err = growing.communicate(timeout=300)
    check(growing.returncode == 0, "grow: exit %d %s%s\n%s" % (growing.returncode, out, err,
                                                             "\n".join(worker.text() for worker in workers)))
    for thread in threads + signal_all(log, "three", problems):
        thread.join()
    check(not problems, "\n".join(problems))
    log.start_all("chores/chain", {"late-%d" % i: "3" for i in range(8)})
    for job, result in log.results("chain-%d" % i for i in range(CHAINS)):
        check(result == "%d steps" % STEPS, "%s: %s" % (job, result))
    for job, result in log.results("collect-%d" % i for i in range(COLLECTORS)):
        check(sorted(result.split()) == ["one", "three", "two"], "%s: %s" % (job, result))
    for job, result in log.results("late-%d" % i for i in range(8)):
        check(result == "3 steps", "%s: %s" % (job, result))
    for i in range(COLLECTORS):
        events = log.lines("history", "collect-%d" % i)
        kinds = [event.get("type") for event in events]
        check(kinds.count("signal_received") == 3, "collect-%d: %s" % (i, kinds))
    grow(log, 8) # again: nothing is left to do
    log.refused(2, "only grows", "namespace", "grow", "--partitions", "4", "--dev")
    # What a deployment does at each start, and an operator at any time: a grown namespace is right as it is.
    done = log.run("namespace", "create", "--dev")
    check(done.returncode == 0 and "8 partitions" in done.stdout, "create: " + done.stdout + done.stderr)
    log.refused(2, "namespace grow", "namespace", "create", "--partitions", "16", "--dev")
    done = log.run("check", "--dev", "--quiet")
    check(done.returncode == 0, "check of a grown namespace: " + done.stdout + done.stderr)
    for worker in workers:
        check(worker.stop() == 0, "a worker did not stop well:\n" + worker.text())
    judge(log)
    log.remove()


main()
