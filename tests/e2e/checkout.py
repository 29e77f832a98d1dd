"""The sample checkout: approved, rejected, not answered in time, cancelled in the middle, terminated; what was taken is
given back in reverse order, also when the worker is killed in between."""
import json
import sys

from harness import Log, Worker, check, wait_until

ORDER = {"id": "o1", "article": "lamp", "cents": 1250, "address": "Elm Street 1"}


def steps(log, job):
    return [event["name"].split("/")[1] for event in log.lines("history", job) if event["type"] == "step_completed"]


def ended(log, job, state, done):
    code = 0 if state == "completed" else 1
    call = log.run("result", job, "--wait", "30s", "--json")
    result = json.loads(call.stdout)
    check(call.returncode == code and result["state"] == state, "%s: exit %d %s" % (job, call.returncode, call.stdout))
    check(steps(log, job) == done, "%s: its steps are %s" % (job, steps(log, job)))
    return result


def waiting(log, job, **order):
    log.start("checkout", job, dict(ORDER, **order))
    wait_until("%s waits for its approval" % job, lambda: (log.json("describe", job) or {}).get("waiting"))


def accepted(log, *arguments):
    check(log.run(*arguments).returncode == 0, "%s is not accepted" % (arguments,))


def main(kind):
    log = Log(kind, partitions=4)
    worker = Worker(log, "checkout")
    worker.wait_for("is ours")
    jobs = ["approved", "rejected", "cancelled", "killed", "terminated"]
    log.start_all("checkout", {job: ORDER for job in jobs})
    for job in jobs:
        wait_until("%s waits" % job, lambda: (log.json("describe", job) or {}).get("waiting"))

    accepted(log, "signal", "approved", "approved", "--input", '{"by":"Ann","ok":true}')
    result = ended(log, "approved", "completed", ["reserve", "charge", "ship"])
    check(result["result"]["tracking"].startswith("track-"), "result is %s" % result)

    accepted(log, "signal", "rejected", "approved", "--input", '{"by":"Bob","ok":false}')
    result = ended(log, "rejected", "failed", ["reserve", "charge", "refund", "release"])
    check(result["error"]["type"] == "Rejected" and result["error"]["message"] == "Bob said no", "error is %s" % result)

    accepted(log, "cancel", "cancelled", "--reason", "changed my mind")
    ended(log, "cancelled", "cancelled", ["reserve", "charge", "refund", "release"])
    history = log.lines("history", "cancelled")
    asked = [event for event in history if event["type"] == "cancel_requested"]
    check(len(asked) == 1 and asked[0]["reason"] == "changed my mind", "the cancel is recorded as %s" % asked)

    # Killed while it waits, cancelled while nobody is there, compensated by the next worker.
    worker.kill()
    accepted(log, "cancel", "killed")
    worker = Worker(log, "checkout")
    ended(log, "killed", "cancelled", ["reserve", "charge", "refund", "release"])

    accepted(log, "terminate", "terminated", "--reason", "enough")
    ended(log, "terminated", "terminated", ["reserve", "charge"])

    # Steps that fail for good: what was taken before them is given back.
    log.start("checkout", "soldout", dict(ORDER, article="unicorn"))
    check(ended(log, "soldout", "failed", [])["error"]["type"] == "SoldOut", "error")
    log.start("checkout", "poor", dict(ORDER, cents=0))
    check(ended(log, "poor", "failed", ["reserve", "release"])["error"]["type"] == "BadAmount", "error")
    log.start("checkout", "nowhere", dict(ORDER, address=""))
    accepted(log, "signal", "nowhere", "approved", "--input", '{"by":"Ann","ok":true}')
    check(ended(log, "nowhere", "failed", ["reserve", "charge", "refund", "release"])["error"]["type"] == "NoAddress", "error")

    # The signal first, then the job that waits for it: refused, since there is no such job yet.
    log.refused(3, "toosoon", "signal", "toosoon", "approved", "--input", '{"by":"Ann","ok":true}')
    check(worker.stop() == 0, "the worker failed: " + worker.text())

    timeout(log)
    print(log.verify().strip().splitlines()[-1])
    log.remove()


def timeout(log):
    """The three days are two seconds in the build of the tests."""
    worker = Worker(log, "checkout_hurried")
    log.start("checkout", "unanswered", ORDER)
    result = ended(log, "unanswered", "failed", ["reserve", "charge", "refund", "release"])
    check(result["error"]["type"] == "TimedOut", "error is %s" % result)
    fired = [event["type"] for event in log.lines("history", "unanswered")].count("timer_fired")
    check(fired == 1, "%d timers fired" % fired)
    check(worker.stop() == 0, "the worker failed: " + worker.text())


main(sys.argv[1])
