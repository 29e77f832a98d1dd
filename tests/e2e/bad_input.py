"""Whatever a user may do wrong is refused, names what is wrong, and leaves log, worker and other jobs as they were."""
import json
import os
import sys

from harness import Log, Worker, check, wait_until

ORDER = {"id": "o1", "article": "lamp", "cents": 1250, "address": "Elm Street 1"}
LIMIT = 934464 # bytes of a payload


def file_with(log, name, text):
    path = os.path.join(log.folder, name)
    with open(path, "w") as file:
        file.write(text)
    return "@" + path


def start(log, code, words, kind, value, job="wrong", **more):
    log.refused(code, words, "start", kind, "--id", job, "--input", value, **more)


def inputs(log):
    """Starts that must not become jobs."""
    start(log, 2, ["nosuch", "shop/checkout", "chores/chain"], "nosuch", "1")
    start(log, 2, ["shop/nosuch", "shop/checkout"], "shop/nosuch", "1")
    start(log, 2, ["line 2", "column 20"], "checkout", '{"id":"1",\n "article": "x" oops}')
    start(log, 2, ["line 1"], "checkout", '{"id":')
    start(log, 2, ["cents", "whole number", "many"], "checkout", '{"id":"1","cents":"many"}')
    start(log, 2, ["nofield", "shop.Order", "article"], "checkout", '{"id":"1","nofield":1}')
    start(log, 2, ["id", "string"], "checkout", '{"id":5}')
    start(log, 2, ["line 1", "too big"], "checkout", '{"cents":99999999999999999999}')
    start(log, 2, ["id"], "checkout", '{"id":"1","id":"2"}')
    start(log, 2, ["expected"], "checkout", "[1]")
    start(log, 2, ["expected"], "chain", "3")
    start(log, 2, ["no-such-file"], "chain", "@/no-such-file")
    start(log, 2, ["255"], "chain", '"1"', job="x" * 256)
    start(log, 2, ["empty"], "chain", '"1"', job="")
    start(log, 2, ["control"], "chain", '"1"', job="a\tb")
    start(log, 2, ["UTF-8"], "chain", '"1"', job=b"\xff\xfe")
    start(log, 2, ["line 1", "not UTF-8"], "chain", b'"\xff"')
    start(log, 2, ["line 1", "\\u0000 is not allowed: "], "chain", '"a\\u0000b"')
    log.refused(2, "--id", "start", "chain", "--input", '"1"')
    log.refused(3, "wrong", "describe", "wrong")


def sizes(log):
    """Up to the limit a payload passes; above, it is refused, as input, signal, result of a step and of a job."""
    fits = json.dumps("x" * LIMIT)
    start(log, 2, ["990000", str(LIMIT)], "chain", file_with(log, "big", json.dumps("x" * 990000)))
    start(log, 2, [str(LIMIT + 1), str(LIMIT)], "chain", file_with(log, "over", json.dumps("x" * (LIMIT + 1))))
    start(log, 2, ["too large"], "chain", file_with(log, "huge", json.dumps("x" * 20000000)))
    log.start("collect", "sized", "1")
    log.refused(2, [str(LIMIT)], "signal", "sized", "item", "--input", file_with(log, "big", json.dumps("x" * 990000)))
    # A signal may be as long as an input; the text that the job makes of it too.
    check(log.run("signal", "sized", "item", "--input", file_with(log, "fits", fits)).returncode in (0, 2), "signal")
    for size, state in ((LIMIT, "completed"), (LIMIT + 1, "failed"), (5000000, "failed")):
        job = "grow-%d" % size
        log.start("grow", job, str(size))
        done = log.run("result", job, "--wait", "30s", "--json")
        result = json.loads(done.stdout)
        check(result["state"] == state, "%s: %s" % (job, done.stdout[:300]))
        if state == "completed":
            check(len(result["result"]) == size, "%d bytes came back" % len(result["result"]))
        else:
            check(result["error"]["type"] == "TooLarge" and str(LIMIT) in result["error"]["message"], done.stdout)


def large_status(log):
    """Input and result are each within the limit, and together above that of a record: the end is shown all the same."""
    fits = json.dumps("x" * (LIMIT - 100))
    done = log.run("start", "wink", "--id", "echo", "--input", file_with(log, "echo", fits), "--wait", "30s", "--json")
    check(done.returncode == 0 and json.loads(done.stdout)["result"] == json.loads(fits), "echo: " + done.stderr[:300])
    wait_until("its end is shown", lambda: "echo" in [job["id"] for job in log.lines("list", "--json", "--state", "completed")])
    status = log.json("describe", "echo")
    check(status["input_left_out"] and len(status["result"]) == LIMIT - 100, "describe: %s" % str(status)[:300])
    check("perdure history" in log.run("describe", "echo").stdout, "describe does not say where the input is")


def commands(log):
    """Commands to jobs."""
    log.start("collect", "open", "1")
    log.refused(2, ["open", "another input"], "start", "collect", "--id", "open", "--input", '"2"')
    log.refused(2, ["open", "chores/collect"], "start", "chain", "--id", "open", "--input", '"1"')
    log.refused(2, "line 1", "signal", "open", "item", "--input", "{bad")
    for name in ("", "a\nb", b"\xff", "n" * 256):
        log.refused(2, "signal", "signal", "open", name)
    log.refused(2, "UTF-8", "signal", b"\xff\xfe", "item")
    for verb in ("cancel", "terminate", "resume"):
        log.refused(2, "reason is not UTF-8", verb, "open", "--reason", b"\xff")
    log.refused(2, "request id is not UTF-8", "signal", "open", "item", "--input", '"1"', "--request", b"\xff")
    log.refused(3, "nobody", "signal", "nobody", "item", "--input", '"1"')
    log.refused(3, "nobody", "cancel", "nobody")
    log.refused(3, "nobody", "terminate", "nobody")
    wait_until("the open job waits", lambda: log.state("open") == "waiting", seconds=10)
    # A signal of a wrong type is JSON all the same: the receive fails, and says why.
    check(log.run("signal", "open", "item", "--input", "5").returncode == 0, "signal")
    done = log.run("result", "open", "--wait", "20s", "--json")
    error = json.loads(done.stdout)["error"]
    check(done.returncode == 1 and error["type"] == "BadPayload" and "string" in error["message"] and
          error["site"]["file"].endswith("chores.c"), "the receive said %s" % done.stdout)
    log.refused(2, "ended", "signal", "open", "item", "--input", '"1"')


def usage(log):
    """Verbs and their options."""
    for verb in ("dev", "worker", "start", "signal", "cancel", "terminate", "result", "describe", "list", "history",
                 "export", "replay", "namespace", "check", "verify", "version"):
        done = log.run(verb, "--help")
        check(done.returncode == 0 and "usage" in done.stdout.lower() and len(done.stdout) > 40,
              "%s --help: exit %d\n%s%s" % (verb, done.returncode, done.stdout, done.stderr))
    for verb in ("query", "update", "debug", "fork", "reset", "schedule", "top"):
        log.refused(2, "not in this version", verb)
        log.refused(2, "not in this version", verb, "something", "--json")
    log.refused(2, "frobnicate", "frobnicate")
    log.refused(2, "--frob", "list", "--frob")
    log.refused(2, "ID", "describe")
    log.refused(2, "", "result", "x", "--wait", "soon")
    log.refused(2, "", "list", "--log", "nonsense:here")
    log.refused(2, "", "list", "--state", "unheard-of")
    check(log.run().returncode == 2, "no verb")
    version = log.json("version")
    check(set(version) == {"version", "library"}, "version says %s" % version)


def main(kind):
    log = Log(kind, partitions=4)
    worker = Worker(log, "checkout", "chores", "sleepers")
    worker.wait_for("is ours")
    inputs(log)
    sizes(log)
    large_status(log)
    commands(log)
    if kind == "sqlite": # the same program
        usage(log)
    check(log.start("chain", "fine", "2")["existed"] is False and log.result("fine") == "2 steps", "a good job")
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main(sys.argv[1])
