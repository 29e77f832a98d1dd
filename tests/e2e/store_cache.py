"""
The store is a cache (rule 22): deleted, cut short, damaged, old, another's, not to be written or taken away, it costs time
only. Jobs that wait since the first round take a signal in each; their histories must come from somewhere.
"""
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time

from harness import Log, Worker, check, effects, wait_until

KIND = sys.argv[1]
JOBS = 3
CHANCE = random.Random(7)


def may_mount():
    """Starts this test again where it may mount, if anywhere."""
    if os.environ.get("PERDURE_UNSHARED") or KIND == "sqlite":
        return
    for way in (["unshare", "-m"], ["unshare", "-r", "-m"]):
        try:
            if subprocess.run(way + ["mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0:
                environment = dict(os.environ, PERDURE_UNSHARED="1")
                sys.exit(subprocess.run(way + [sys.executable] + sys.argv, env=environment).returncode)
        except FileNotFoundError:
            pass
    print("this system lets us mount nothing: no full and no read-only file system is tried")


class Scene:
    def __init__(self):
        self.log = Log(KIND, partitions=2)
        self.partitions = 2 if KIND == "kafka" else 1
        self.ledger = os.path.join(self.log.folder, "ledger")
        self.data = os.path.join(self.log.folder, "data")
        self.store = os.path.join(self.data, "store.db") if KIND == "kafka" else self.log.uri[len("sqlite:"):]
        self.jobs = ["job-%d" % i for i in range(JOBS)]
        self.sent = 0
        self.kills = 0
        self.worker = None

    def begin(self):
        arguments = ("--session-timeout", "6s") if KIND == "kafka" else ()
        self.worker = Worker(self.log, "chores", data=self.data, arguments=arguments,
                             environment={"PERDURE_EFFECT_LEDGER": self.ledger})
        self.is_ours()

    def is_ours(self):
        wait_until("it owns all", lambda: self.worker.text().count("is ours") >= self.partitions
                   or self.worker.process.poll() is not None)
        check(self.worker.process.poll() is None, "the worker ended: " + self.worker.text())

    def end(self, kill=True):
        if kill:
            self.worker.kill()
            self.kills += 1
        else:
            check(self.worker.stop() == 0, "the worker failed: " + self.worker.text())

    def go_on(self, what):
        """Each job takes a signal, and passes it through a step."""
        for job in self.jobs:
            done = self.log.run("signal", job, "item", "--input", '"%d"' % self.sent)
            check(done.returncode == 0, "%s: signal: %s" % (what, done.stderr))
        self.sent += 1
        def all_have_it():
            return all({str(i) for i in range(self.sent)} <= {e.text for e in effects(self.ledger) if e.job == job}
                       for job in self.jobs)
        until = time.time() + 60
        while not all_have_it():
            check(time.time() < until and self.worker.process.poll() is None, "%s: jobs stand still: %s\n%s" %
                  (what, {job: self.log.state(job) for job in self.jobs}, self.worker.text()))
            time.sleep(0.02)
        read = [line.split("; read ")[1].split(",")[0] for line in self.worker.text().splitlines() if "taken over" in line]
        print("%-42s read %s" % (what, ", ".join(read)), flush=True)

    def around(self, what, damage, kill=True):
        """The worker ends, its store is damaged, it comes back."""
        self.end(kill)
        damage(self.store)
        self.begin()
        self.go_on(what)


# ---- ways to damage a store ------------------------------------------------------------------------------------------

def delete(store):
    if os.path.isdir(store):
        os.rmdir(store)
    for suffix in ("", "-wal"):
        if os.path.exists(store + suffix):
            os.unlink(store + suffix)


def cut(part):
    def damage(store):
        os.truncate(store, int(os.path.getsize(store) * part))
    return damage


def flip(*places):
    """Offsets; from the end if negative."""
    def damage(store):
        with open(store, "r+b") as file:
            size = os.path.getsize(store)
            for place in places:
                file.seek(place % size)
                byte = file.read(1)[0]
                file.seek(place % size)
                file.write(bytes([byte ^ 0x41]))
    return damage


def flip_in_each_page(store):
    size = os.path.getsize(store)
    flip(*[page + CHANCE.randrange(100, 4096) for page in range(0, size - 4095, 4096)])(store)


def settled(store):
    """Everything in the one file."""
    database = sqlite3.connect(store)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def sql(*statements):
    def damage(store):
        database = sqlite3.connect(store)
        database.create_function("flipped", 1, lambda blob: blob[:-1] + bytes([blob[-1] ^ 1]))
        for statement in statements:
            database.execute(statement)
        database.commit()
        database.close()
    return damage


def make_directory(store):
    delete(store)
    os.mkdir(store)


def garbage(store):
    delete(store)
    with open(store, "wb") as file:
        file.write(os.urandom(50000))


def both_kinds(scene):
    scene.around("rows of partitions damaged", sql("UPDATE store_partition SET row = flipped(row)"))
    scene.around("rows of runs damaged", sql("UPDATE store_run SET row = flipped(row)"))
    scene.around("a row of a run is missing", sql("DELETE FROM store_run WHERE job = 'job-1'"))
    scene.around("positions are missing", sql("DELETE FROM store_partition"))
    scene.around("all rows are missing", sql("DELETE FROM store_partition", "DELETE FROM store_run", "DELETE FROM store_output"))


def own_file(scene):
    old = os.path.join(scene.log.folder, "old.db")
    scene.end(kill=False)
    settled(scene.store)
    shutil.copy(scene.store, old)
    scene.begin()
    scene.go_on("nothing is wrong")
    scene.around("deleted", delete)
    for part in (0, 0.02, 0.3, 0.5, 0.9, 0.999):
        scene.around("cut to %g" % part, cut(part), kill=part != 0.5)
    scene.around("header damaged", flip(*range(0, 100, 7)))
    scene.around("log id damaged", sql("UPDATE anchor SET log_id = log_id + 1"))
    for _ in range(5): # each time others: what of it is found, and when, differs
        scene.around("a byte in each page", lambda store: (settled(store), flip_in_each_page(store)))
    scene.around("an older copy", lambda store: (delete(store), shutil.copy(old, store)))
    scene.around("runs of an older copy", lambda store: sql("ATTACH '%s' AS old" % old, "REPLACE INTO store_run SELECT * FROM old.store_run")(store))
    scene.around("partitions exchanged", sql("UPDATE store_partition SET partition = 7 - partition"))
    scene.around("each has the other's position", sql("UPDATE store_partition SET partition = 1 - partition + 2",
                                                       "UPDATE store_partition SET partition = partition - 2"))
    scene.around("of another namespace", lambda store: (delete(store), shutil.copy(foreign_store(), store)))
    scene.around("a directory", make_directory)
    scene.around("no database", garbage)


def histories(scene):
    """What a job has lived through is found wrong when it is wanted: its partition is read again (rule 3)."""
    scene.around("records damaged", sql("UPDATE store_record SET record = flipped(record)"))
    scene.around("records are missing", sql("DELETE FROM store_record WHERE seq % 2 = 0"))
    scene.go_on("once more")
    check("quarantined" not in {scene.log.state(job) for job in scene.jobs}, "a job was put aside")


def foreign_store():
    other = Log(KIND, partitions=2)
    worker = Worker(other, "chores")
    wait_until("it owns all", lambda: worker.text().count("is ours") == 2)
    worker.stop()
    settled(os.path.join(worker.data, "store.db"))
    return os.path.join(worker.data, "store.db")


# ---- while the worker runs -------------------------------------------------------------------------------------------

def told_once(scene, text, seconds=30):
    scene.worker.wait_for(text, seconds)
    check(scene.worker.text().count(text) == 1, "told more than once: " + scene.worker.text())


def taken_away(scene):
    scene.end(kill=False)
    scene.begin()
    scene.go_on("before the directory goes")
    shutil.rmtree(scene.data)
    scene.go_on("the directory is gone")
    told_once(scene, "a copy was put back")
    name = open(os.path.join(scene.data, "worker-id")).read()
    scene.around("it was put back", lambda store: None)
    check("it was ours before" in scene.worker.text(), "another name: %s\n%s" % (name, scene.worker.text()))
    shutil.move(scene.store, scene.store + ".elsewhere")
    scene.go_on("the store was moved")
    told_once(scene, "a copy was put back")


def damaged_in_use(scene):
    with open(scene.store, "r+b") as file:
        size = os.path.getsize(scene.store)
        file.write(os.urandom(size))
    scene.go_on("overwritten in use")
    scene.around("overwritten in use, then killed", lambda store: None)


def fill(folder):
    path = os.path.join(folder, "ballast")
    with open(path, "wb", buffering=0) as file:
        size = 65536
        while size >= 1:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2
    return path


def full(scene):
    """A file system of its own for the directory: full, then not."""
    scene.end(kill=False)
    kept = {name: open(os.path.join(scene.data, name), "rb").read() for name in ("worker-id", "store.db")}
    check(subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", scene.data]).returncode == 0, "mount")
    for name, content in kept.items():
        with open(os.path.join(scene.data, name), "wb") as file:
            file.write(content)
    scene.begin()
    scene.go_on("before it is full")
    ballast = fill(scene.data)
    scene.go_on("full")
    told_once(scene, "cannot be written: database or disk is full")
    scene.go_on("full for long")
    os.unlink(ballast)
    told_once(scene, "is written again")
    scene.go_on("not full any more")
    scene.around("after it was full", lambda store: None)
    scene.around("full from the beginning", lambda store: fill(scene.data))
    scene.around("full, and no store", lambda store: (delete(store), fill(scene.data)))
    told_once(scene, "cannot be ")
    os.unlink(ballast)
    told_once(scene, "is written again")
    scene.around("stored again", lambda store: None)
    check("cannot be" not in scene.worker.text(), scene.worker.text())
    scene.end(kill=False)
    subprocess.run(["umount", scene.data], check=True)
    scene.begin()
    scene.go_on("an old directory is back")


def read_only(scene):
    def bind(store):
        settled(store)
        subprocess.run(["mount", "--bind", store, store], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", store], check=True)
    scene.around("read-only", bind, kill=False)
    told_once(scene, "cannot be opened")
    subprocess.run(["umount", scene.store], check=True)
    told_once(scene, "is written again")
    scene.around("not read-only any more", lambda store: None)


def main():
    may_mount()
    scene = Scene()
    scene.begin()
    rounds = 60
    scene.log.start_all("collect", {job: str(rounds) for job in scene.jobs})
    scene.go_on("at first")
    if KIND == "sqlite":
        both_kinds(scene)
    else:
        parts = [both_kinds, histories, own_file, taken_away, damaged_in_use]
        if os.environ.get("PERDURE_UNSHARED"):
            parts += [full, read_only]
        for part in parts if len(sys.argv) < 3 else [globals()[name] for name in sys.argv[2:]]:
            print("----", part.__name__, flush=True)
            part(scene)
    for number in range(scene.sent, rounds):
        for job in scene.jobs:
            scene.log.run("signal", job, "item", "--input", '"%d"' % number)
    scene.sent = rounds
    finish(scene)


def finish(scene):
    """All that was sent arrived once and in order; each effect stands in the log."""
    want = " ".join(str(i) for i in range(scene.sent))
    for job, result in scene.log.results(scene.jobs):
        check(result == want, "wrong result of %s: %s" % (job, result))
    ledger = effects(scene.ledger)
    keys = {effect.key for effect in ledger}
    check(len(keys) == JOBS * scene.sent, "%d effects, not %d" % (len(keys), JOBS * scene.sent))
    check(len(ledger) <= JOBS * (scene.sent + scene.kills), "%d effects of %d" % (len(ledger), len(keys)))
    scene.end(kill=False)
    print(scene.log.verify().strip().splitlines()[-1])
    scene.log.remove()


main()
