"""An embedded log from a time when this machine's clock was two hours ahead: it goes on, and says so."""
import os
import sqlite3

from harness import Log, Worker, check


def main():
    log = Log("sqlite")
    worker = Worker(log, "sleepers")
    worker.wait_for("is ours")
    log.start("sleepers/gatherer", "sum", "2")
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    with sqlite3.connect(os.path.join(log.folder, "perdure.db")) as file:
        changed = sum(file.execute("UPDATE %s SET append_ms = append_ms + 7200000" % table).rowcount
                      for table in ("journal", "inbox"))
        check(changed >= 2, "nothing was changed")
    file.close()
    worker = Worker(log, "sleepers")
    worker.wait_for("is ours")
    worker.wait_for("clock was ahead")
    for number in (1, 10):
        done = log.run("signal", "sum", "drop", "--input", '"%d"' % number)
        check(done.returncode == 0, "signal: exit %d %s" % (done.returncode, done.stderr))
    check(log.result("sum") == "11", "wrong result")
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
