"""
A job whose code was changed under it: it is put aside, unharmed, with a report that tells what is recorded, what the new
code attempted, both sites and both builds. Back on its old build it goes on.
"""
import sys

from harness import Log, Worker, check, module, wait_until


def main(kind):
    log = Log(kind, partitions=2)
    worker = Worker(log, "route_a")
    worker.wait_for("is ours")
    log.start("route", "r", "parcel")
    wait_until("it waits for `go`", lambda: (log.json("describe", "r") or {}).get("waiting"))
    old_build = log.json("describe", "r")["build"]
    before = log.lines("history", "r")
    check(worker.stop() == 0, "the worker failed: " + worker.text())

    worker = Worker(log, "route_b")
    worker.wait_for("is ours")
    check(log.run("signal", "r", "go", "--input", '"now"').returncode == 0, "signal")
    wait_until("it is diverged", lambda: log.state("r") == "diverged", seconds=60)
    status = log.json("describe", "r")
    report = status["report"]
    print(report)
    for word in ("recorded", "attempted", "route/paint", "route/polish", "route.c:22", old_build[:12]):
        check(word in report, "%r is not in the report:\n%s" % (word, report))
    check(report.count("route.c:") >= 2, "not both sites are in the report:\n" + report)
    builds = {word.strip("().,;`'") for word in report.split() if len(word) >= 40 and
              all(letter in "0123456789abcdef" for letter in word.strip("().,;`'"))}
    check(len(builds) == 2, "the report names builds %s:\n%s" % (builds, report))
    check("diverged" in log.run("describe", "r").stdout, "describe does not say it")
    check([job["id"] for job in log.lines("list", "--state", "diverged")] == ["r"], "list --state diverged")
    check(log.run("result", "r", "--wait", "500ms").returncode == 4, "a diverged job has not ended")

    # Other jobs of the new build run; nothing was written to the one put aside but the signal.
    log.start("route", "other", "parcel")
    check(log.run("signal", "other", "go", "--input", '"now"').returncode == 0, "signal")
    check(log.result("other") == "parcel prepared polished delivered", "wrong result")
    now = log.lines("history", "r")
    check(now[:len(before)] == before and [event["type"] for event in now[len(before):]] == ["signal_received"],
          "the diverged job was changed: %s" % now[len(before):])
    check(worker.stop() == 0, "the worker failed: " + worker.text())

    # What the worker met, `replay` shows too.
    check(log.run("replay", "--module", module("route_b"), "r").returncode == 1, "replay on the new build")
    check(log.run("replay", "--module", module("route_a"), "r").returncode == 0, "replay on the old build")

    worker = Worker(log, "route_a")
    check(log.result("r") == "parcel prepared painted delivered", "wrong result")
    check("report" not in log.json("describe", "r"), "the report stays")
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main(sys.argv[1])
