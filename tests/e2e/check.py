"""`perdure check` on an embedded log: what is right, who holds it, what is damaged; and what it makes of a data directory."""
import json
import os

from harness import Log, Worker, check


def look(log, code, *arguments):
    done = log.run("check", "--json", *arguments)
    check(done.returncode == code, "check: exit %d, not %d: %s%s" % (done.returncode, code, done.stdout, done.stderr))
    page = json.loads(done.stdout)
    check(page["right"] == (code == 0) and page["loss"] == sum(one["level"] == "loss" for one in page["findings"]), done.stdout)
    return {(one["level"], one["subject"]): one["text"] + " " + one["repair"] for one in page["findings"]}


def main():
    log = Log("sqlite")
    path = log.uri[len("sqlite:"):]
    log.refused(3, ["there is no log", path], "check")
    worker = Worker(log, "chores")
    worker.wait_for("is ours")
    log.start("chain", "one", "2")
    check(log.result("one") == "2 steps", "wrong result")
    found = look(log, 0)
    check(str(worker.process.pid) in found["right", "lock"] or "worker" in found["right", "lock"], found)
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    found = look(log, 0)
    check("whole" in found["right", "content"] and "free" in found["right", "disk"], found)
    check(log.result("one") == "2 steps" and "sound" in log.verify(), "check changed something")
    os.chmod(path, 0o606)
    check("everybody" in look(log, 1)["loss", "content"], "a file that everybody can write")
    os.chmod(path, 0o600)
    text = log.run("check", "--quiet").stdout
    check("LOSS" not in text and "right " not in text and "Nothing would lose data" in text, text)
    found = look(log, 1, "--data", "/no/such/folder")
    check("/no/such/folder" in found["loss", "data"], found)
    store = os.path.join(log.folder, "store.db")
    with open(store, "wb") as file:
        file.write(b"SQLite format 3\0" + b"x" * 5000)
    check("delete it" in look(log, 1, "--data", log.folder)["loss", "data"], "a damaged store")
    os.unlink(store)
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"x" * 200)
    check("damaged" in look(log, 1)["loss", "content"], "a damaged log")
    log.remove()


main()
