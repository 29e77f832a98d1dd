"""Steps completed from outside, by their token: on an embedded log, where queues have no workers; also across kills."""
import json
import os

from harness import Log, Worker, check, wait_until


def waiting(log, job):
    status = log.json("describe", job)
    return status["waiting"][0] if status and status["waiting"] else None


def token_of(log, job):
    return wait_until(job + " waits for a token", lambda: (waiting(log, job) or {}).get("token"))


def main():
    log = Log("sqlite")
    worker = Worker(log, "errands")
    worker.wait_for("is ours")

    log.start("nearby", "near", "hello")
    check(log.result("near") == "hello, nearby", "a function that is here runs here")

    log.start("shout", "a", "hello")
    token = token_of(log, "a")
    entry = waiting(log, "a")
    check((entry["kind"], entry["queue"], entry["phase"]) == ("step", "errands", "outside"), "waiting: %s" % entry)
    done = log.run("describe", "a")
    check("token " + token in done.stdout and "queue errands" in done.stdout, "describe: " + done.stdout)

    # What is wrong with it is said, and harms nothing.
    log.refused(2, "no token of an attempt", "complete", "nonsense")
    log.refused(2, "another namespace", "complete", "00000001" + token[8:])
    log.refused(2, "exclude", "complete", token, "--result", "1", "--error", "x")
    log.refused(2, "belong to --error", "complete", token, "--final")
    log.refused(2, "expected", "complete", token, "--result", '{"a":1}')
    log.refused(2, "--result", "complete", token, "--result", "{")
    log.refused(3, "no job", "complete", token + "-other", "--result", '"x"')
    log.refused(2, "does not wait for attempt 7", "complete", token.replace("-1-1-", "-1-7-"), "--result", '"x"')

    # Whoever is killed meanwhile: it waits on, under the same token.
    worker.kill()
    done = log.run("complete", token, "--error", "not now", "--type", "Later")
    check(done.returncode == 0 and "no" in done.stdout, "without a worker: %s%s" % (done.stdout, done.stderr))
    worker = Worker(log, "errands")
    second = wait_until("attempt 2", lambda: (waiting(log, "a") or {}).get("attempt") == 2 and token_of(log, "a"))
    check(second != token, "attempts have tokens of their own")
    done = log.run("complete", second, "--result", '"by hand"', "--json")
    check(done.returncode == 0 and json.loads(done.stdout) == {"id": "a", "answer": "accepted"}, "complete: %s" % done)
    check(log.result("a") == "by hand", "wrong result")
    log.refused(2, "ended", "complete", second, "--result", '"twice"')
    kinds = [event["type"] for event in log.lines("history", "a")]
    check(kinds.count("step_completed") == 1 and "step_scheduled" in kinds, "history: %s" % kinds)

    # PDR_LATER: the step's function runs once, whatever happens to its worker.
    path = os.path.join(log.folder, "tokens")
    log.start("asking", "b", path)
    wait_until("the token is written", lambda: os.path.exists(path) and open(path).read().endswith("\n"))
    wait_until("it is in the history", lambda: any(e["type"] == "step_dispatched" for e in log.lines("history", "b")))
    worker.kill()
    worker = Worker(log, "errands")
    worker.wait_for("going on at")
    lines = open(path).read().split()
    check(len(lines) == 1, "asked %d times" % len(lines))
    log.start("asking", "c", path + "-c")
    check(token_of(log, "b") == lines[0], "describe and pdr_attempt_token() differ")
    done = log.run("complete", lines[0], "--result", '"yes"')
    check(done.returncode == 0 and log.result("b") == "yes", "complete: %s" % done)
    done = log.run("complete", token_of(log, "c"), "--error", "refused", "--final")
    check(done.returncode == 0 and log.run("result", "c", "--wait", "30s").returncode == 1, "a final error: %s" % done)

    # Its history replays, also from a file.
    done = log.run("replay", "--module", os.path.join(os.environ["PERDURE_BUILD"], "test-modules/errands.so"), "a", "b", "c")
    check(done.returncode == 0 and done.stdout.count("same") >= 3, "replay: %s%s" % (done.stdout, done.stderr))
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
