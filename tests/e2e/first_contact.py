"""
The first minutes with the command: worker before and after the start, a start that waits for its worker, reading with no
worker alive; and every field and exit code that scripts rely on.
"""
import json
import os
import sys
import time

from harness import Log, Worker, check, wait_until

ORDER = {"id": "o1", "article": "lamp", "cents": 1250, "address": "Elm Street 1"}
STATES = {"running", "waiting", "completed", "failed", "cancelled", "terminated", "diverged", "quarantined", "queued"}


def is_time(value):
    return isinstance(value, int) and abs(value / 1000 - time.time()) < 600


def check_site(site, where):
    check(set(site) == {"file", "line", "function"} and isinstance(site["line"], int) and site["line"] > 0 and
          isinstance(site["file"], str) and isinstance(site["function"], str), "%s: site is %s" % (where, site))


def check_describe(status, job, kind, state):
    wanted = {"id", "type", "state", "created", "updated", "events", "worker", "build", "input", "waiting"}
    check(wanted <= set(status), "describe lacks %s" % (wanted - set(status)))
    check(status["id"] == job and status["type"] == kind and status["state"] == state, "describe says %s" % status)
    check(is_time(status["created"]) and is_time(status["updated"]), "times of %s" % status)
    check(isinstance(status["events"], int) and status["events"] > 0, "events of %s" % status)
    check(isinstance(status["worker"], str) and status["worker"], "worker of %s" % status)
    check(len(status["build"]) >= 16 and int(status["build"], 16), "build of %s" % status)
    check(status["input"] == ORDER, "input of %s" % status)
    check(isinstance(status["waiting"], list), "waiting of %s" % status)


def check_waiting(waiting):
    wanted = {"kind", "name", "since", "until", "attempt", "last_error", "site"}
    check(wanted <= set(waiting), "waiting lacks %s" % (wanted - set(waiting)))
    check(waiting["kind"] == "signal" and waiting["name"] == "approved", "waiting is %s" % waiting)
    check(is_time(waiting["since"]), "since is %s" % waiting["since"])
    check(waiting["until"] - waiting["since"] == 3 * 86400 * 1000, "until is %s" % waiting)
    check(isinstance(waiting["attempt"], int) and waiting["last_error"] is None, "attempt of %s" % waiting)
    check_site(waiting["site"], "waiting")
    check(waiting["site"]["file"].endswith("checkout.c") and waiting["site"]["function"] == "checkout",
          "site is %s" % waiting["site"])


def check_history(events):
    for number, event in enumerate(events, 1):
        check({"seq", "time", "type", "name", "site"} <= set(event), "event is %s" % event)
        check(event["seq"] == number and is_time(event["time"]), "event is %s" % event)
        if event["site"] is not None:
            check_site(event["site"], "event %d" % number)
    check([event["type"] for event in events] ==
          ["started", "step_completed", "step_completed", "timer_started", "signal_received", "step_completed",
           "completed"], "events are %s" % [event["type"] for event in events])
    check([event["name"] for event in events if event["type"] == "step_completed"] ==
          ["shop/reserve", "shop/charge", "shop/ship"], "steps are %s" % events)
    check(events[4]["payload"] == {"by": "Ann", "ok": True}, "the signal is %s" % events[4])


def call(log, code, *arguments):
    """One JSON object, or none."""
    done = log.run(*arguments)
    check(done.returncode == code, "%s: exit %d, not %d: %s%s" % (arguments, done.returncode, code, done.stdout, done.stderr))
    if "--json" not in arguments or not done.stdout.strip():
        return None
    check(done.stdout.count("\n") == 1, "%s prints more than a line" % (arguments,))
    return json.loads(done.stdout)


def queued(log):
    """Started with no worker: it is in the log, and so it says."""
    begin = time.time()
    answer = call(log, 0, "start", "checkout", "--id", "early", "--input", json.dumps(ORDER), "--json")
    check(answer["id"] == "early" and answer["state"] == "queued" and answer["existed"] is False, "answer %s" % answer)
    check(time.time() - begin < 20, "it took %.0f s to be told so" % (time.time() - begin))
    status = call(log, 0, "describe", "early", "--json")
    check(status["id"] == "early" and status["state"] == "queued", "describe says %s" % status)
    check(call(log, 4, "result", "early", "--json")["state"] == "queued", "result of a queued job")
    call(log, 2, "start", "checkout", "--id", "broken", "--input", '{"id":')
    # Nobody knows the type yet: the worker judges it.
    answer = call(log, 0, "start", "checkout", "--id", "wrong", "--input", '{"id":17}', "--json")
    check(answer["state"] == "queued" and log.state("wrong") == "queued", "answer %s" % answer)


def refused(log, worker):
    """A queued start that the worker has refused is queued no more; the worker's log says why."""
    worker.wait_for('the start of job "wrong" was refused, BadInput: id: expected a string')
    wait_until("the refusal stands", lambda: log.run("describe", "wrong").returncode == 3)
    log.refused(3, ['no job "wrong"', "its start was refused", "the log of the worker"], "describe", "wrong")
    log.refused(3, 'no job "wrong"', "result", "wrong")


def waits(log):
    """In the checkout, before its approval: with a worker and with none."""
    worker = Worker(log, "checkout")
    worker.wait_for("is ours")
    for attempt in range(100):
        status = call(log, 0, "describe", "early", "--json")
        if status["state"] == "waiting" and status["waiting"]:
            break
        time.sleep(0.1)
    check_describe(status, "early", "shop/checkout", "waiting")
    check_waiting(status["waiting"][0])
    refused(log, worker)

    # The same start again is the same job, also in the spelling of the full type; anything else is refused.
    for kind in ("checkout", "shop/checkout"):
        again = call(log, 0, "start", kind, "--id", "early", "--input", json.dumps(ORDER), "--json")
        check(again == {"id": "early", "type": "shop/checkout", "state": again["state"], "existed": True},
              "the same start is told %s" % again)
    log.refused(2, "early", "start", "checkout", "--id", "early", "--input", json.dumps(dict(ORDER, cents=1)))
    check(call(log, 4, "result", "early", "--json") == {"id": "early", "type": "shop/checkout", "state": "waiting"},
          "result of a waiting job")
    check(call(log, 4, "result", "early", "--wait", "300ms", "--json")["state"] == "waiting", "result with --wait")
    check(worker.stop() == 0, "the worker failed: " + worker.text())

    log.refused(3, "its start was refused", "describe", "wrong")
    status = call(log, 0, "describe", "early", "--json")
    check_describe(status, "early", "shop/checkout", "waiting")
    check_waiting(status["waiting"][0])
    text = log.run("describe", "early").stdout
    check("checkout.c:" in text and "approved" in text, "describe prints\n" + text)
    check([line["id"] for line in log.lines("list", "--state", "waiting")] == ["early"], "list --state waiting")
    check(log.lines("list", "--state", "failed") == [], "list --state failed")
    check(call(log, 0, "signal", "early", "approved", "--input", '{"by":"Ann","ok":true}', "--json") ==
          {"id": "early", "answer": "queued"}, "signal with no worker")


def ends(log):
    """Completed, failed and terminated jobs, as result, describe, list and history tell them."""
    worker = Worker(log, "checkout", "hello")
    result = call(log, 0, "result", "early", "--wait", "30s", "--json")
    check(set(result) == {"id", "type", "state", "result"} and result["state"] == "completed" and
          set(result["result"]) == {"tracking"}, "result is %s" % result)
    check_history(log.lines("history", "early"))
    check(call(log, 0, "start", "hello", "--id", "h", "--input", '"Ann"', "--wait", "30s", "--json") ==
          {"id": "h", "type": "hello/hello", "state": "completed",
           "result": "Hello, Ann! Bonjour! Yours, h."}, "start --wait")

    failing = json.dumps(dict(ORDER, cents=0))
    failed = call(log, 1, "start", "checkout", "--id", "poor", "--input", failing, "--wait", "30s", "--json")
    check(set(failed) == {"id", "type", "state", "error"} and failed["state"] == "failed", "result is %s" % failed)
    check(failed["error"]["type"] == "BadAmount" and failed["error"]["message"] == "0 cents", "error %s" % failed["error"])
    check_site(failed["error"]["site"], "error")
    check(call(log, 1, "result", "poor", "--json") == failed, "result differs from start --wait")

    call(log, 0, "start", "checkout", "--id", "doomed", "--input", json.dumps(ORDER), "--json")
    check(call(log, 0, "terminate", "doomed", "--reason", "enough", "--json") == {"id": "doomed", "answer": "accepted"},
          "terminate")
    ended = call(log, 1, "result", "doomed", "--wait", "10s", "--json")
    check(ended["state"] == "terminated" and "error" in ended, "result is %s" % ended)
    call(log, 2, "signal", "doomed", "approved", "--input", '{"by":"Ann","ok":true}')
    call(log, 2, "cancel", "doomed")

    listed = {line["id"]: line["state"] for line in log.lines("list")}
    check(listed == {"early": "completed", "h": "completed", "poor": "failed", "doomed": "terminated"}, "list: %s" % listed)
    check({line["id"] for line in log.lines("list", "--type", "hello/hello")} == {"h"}, "list --type")
    check(all(line["state"] in STATES for line in log.lines("list")), "states")
    for verb in ("describe", "result", "history", "cancel", "terminate"):
        log.refused(3, "nobody", verb, "nobody")
    log.refused(3, "nobody", "signal", "nobody", "approved", "--input", "{}")
    log.refused(3, "nobody", "export", "nobody", "-o", os.path.join(log.folder, "history"))
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    check(call(log, 1, "result", "poor", "--json") == failed, "result with no worker")


def replays(log):
    """Export and replay, as scripts use them."""
    file = os.path.join(log.folder, "history")
    exported = call(log, 0, "export", "early", "-o", file, "--json")
    check(exported["id"] == "early" and exported["events"] == 7, "export says %s" % exported)
    module = os.path.join(os.environ["PERDURE_BUILD"], "samples", "checkout.so")
    for name in ("early", file):
        done = log.run("replay", "--module", module, name, "--json")
        verdict = json.loads(done.stdout.splitlines()[-1])
        check(done.returncode == 0 and verdict["verdict"] == "same" and verdict["agreed"] == 7, "replay: %s" % done.stdout)


def main(kind):
    log = Log(kind)
    if kind == "sqlite": # a client does not make the file: that would hide a wrong path
        log.refused(3, "no log", "start", "checkout", "--id", "early", "--input", json.dumps(ORDER))
        check(log.run("namespace", "create").returncode == 0, "namespace create")
    queued(log)
    waits(log)
    ends(log)
    replays(log)
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main(sys.argv[1])
