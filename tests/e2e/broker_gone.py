"""A Kafka that is not there, a namespace that is not there: exit codes, bounded times, messages that name host and port."""
import socket
import time

from harness import Cluster, Log, Worker, check


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


VERBS = (("start", "chain", "--id", "x", "--input", '"1"'), ("signal", "x", "item", "--input", '"1"'), ("describe", "x"),
         ("result", "x"), ("list",), ("history", "x"))


def all_fail(log, code, words, calls, seconds=60):
    """Calls side by side: each ends within the time, with the code, saying the words."""
    begin = time.time()
    for call, client in [(call, log.begin(*call)) for call in calls]:
        out, err = client.communicate(timeout=90)
        took = time.time() - begin
        check(client.returncode == code, "%s: exit %d, not %d: %s" % (call, client.returncode, code, err))
        check(took < seconds, "%s took %.1f s" % (call, took))
        check(all(word in err for word in words), "%s: %r is not in what it said: %s" % (call, words, err))
    print("exit %d after at most %.1f s" % (code, took), flush=True)


def main():
    # Nobody listens.
    log = Log("kafka", partitions=2)
    good = log.uri
    address = "127.0.0.1:%d" % free_port()
    log.uri = "kafka://%s/shop" % address
    all_fail(log, 5, [address], VERBS + (("namespace", "create", "--dev"),))
    worker = Worker(log, "chores")
    worker.wait_ended(5, address, seconds=60)

    # Somebody listens who is no Kafka, and never says a word.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(5)
        address = "127.0.0.1:%d" % silent.getsockname()[1]
        log.uri = "kafka://%s/shop" % address
        all_fail(log, 5, [address], VERBS[-2:])

    # A Kafka without the namespace.
    log.uri = good.rsplit("/", 1)[0] + "/nothere"
    all_fail(log, 3, ["nothere", "namespace create"], VERBS)
    worker = Worker(log, "chores")
    worker.wait_ended(3, "namespace create", seconds=60)
    for uri in ("kafka://", "kafka://host", "kafka:///x", "kafka://127.0.0.1:1/", "kafka://127.0.0.1:1/a/b", "kafka://127.0.0.1:99999/x"):
        log.refused(2, "", "list", "--log", uri)

    # One that goes away: its worker waits, a client says so, and all goes on when it is back.
    cluster = Cluster(1)
    log = Log("kafka", partitions=2, brokers=cluster.brokers)
    worker = Worker(log, "chores")
    worker.wait_for("is ours")
    log.start("doze", "sleeper", "3000")
    cluster.run("kill", "1")
    all_fail(log, 5, [cluster.brokers], VERBS)
    worker.wait_for(cluster.brokers, seconds=60)
    check(worker.process.poll() is None, "the worker ended:\n" + worker.text())
    cluster.run("restart", "1")
    log.result("sleeper", "90s")
    log.start("chain", "z", "2")
    check(log.result("z") == "2 steps", "wrong result")
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
