"""
Topics whose settings would lose data: a worker does not start on them, and says which setting, of which topic, what it is
and what it must be. So it is with a topic that was made anew, or has got more partitions, under our feet.
"""

import json

from harness import Cluster, Log, Worker, check

# Those of the journal, so that its being new is all that is wrong with it.
SETTINGS = [word for setting in ("cleanup.policy=delete", "retention.ms=-1", "retention.bytes=-1", "segment.bytes=67108864",
                                 "max.message.bytes=1048588", "message.timestamp.type=LogAppendTime",
                                 "min.insync.replicas=1", "unclean.leader.election.enable=false")
            for word in ("--config", setting)]


class Tools:
    """Kafka's own tools, on a cluster of our own: other people's are not ours to change."""

    def __init__(self, cluster):
        self.cluster = cluster

    def config(self, topic, setting, value):
        change = ["--add-config", "%s=%s" % (setting, value)] if value is not None else ["--delete-config", setting]
        self.cluster.run("tool", "kafka.admin.ConfigCommand", "--bootstrap-server", self.cluster.brokers, "--entity-type",
                         "topics", "--entity-name", topic, "--alter", *change)

    def topic(self, *arguments):
        return self.cluster.run("tool", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server",
                                self.cluster.brokers, *arguments)


def refused(log, *words):
    worker = Worker(log, "chores")
    worker.wait_ended(2, words[0], seconds=60)
    for word in words:
        check(word in worker.text(), "%r is not in what the worker said:\n%s" % (word, worker.text()))
    print(worker.text().strip().splitlines()[-1][:300], flush=True)
    done = log.run("namespace", "check", "--dev")
    check(done.returncode == 2 and words[0] in done.stderr, "namespace check: exit %d %s" % (done.returncode, done.stderr))
    done = log.run("check", "--dev", "--json", "--write")
    found = [one for one in json.loads(done.stdout)["findings"] if one["level"] == "loss" and words[0] in one["text"]]
    check(done.returncode == 1 and found and words[1] == found[0]["subject"] and all(
        word in found[0]["subject"] + found[0]["text"] for word in words), "check: exit %d %s" % (done.returncode, done.stdout))


def main():
    cluster = Cluster(1)
    tools = Tools(cluster)
    log = Log("kafka", partitions=2, brokers=cluster.brokers)
    name = log.uri.rsplit("/", 1)[1]
    worker = Worker(log, "chores")
    worker.wait_for("is ours")
    log.start("chain", "one", "2")
    check(log.result("one") == "2 steps", "wrong result")
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    check(log.run("namespace", "check", "--dev").returncode == 0, "a good namespace is called bad")
    done = log.run("check", "--dev", "--write", "--data", worker.data)
    check(done.returncode == 0 and all(word in done.stdout for word in ("all 2 partitions begin with log", "ms", "whole",
                                                                       "librdkafka", name + ".journal")), done.stdout)

    # What one broker alone keeps is lost with it: only --dev says that this is meant.
    log.refused(2, [".inbox: replication factor is 1, must be at least 2", "--dev"], "namespace", "check")
    done = log.run("check", "--quiet")
    check(done.returncode == 1 and name + ".inbox" in done.stdout and "replication factor is 1" in done.stdout and
          "Nothing would lose data" not in done.stdout, "check: exit %d %s" % (done.returncode, done.stdout))

    for topic, setting, value in (("journal", "retention.ms", "604800000"), ("inbox", "cleanup.policy", "compact"),
                                  ("journal", "max.message.bytes", "1000")):
        tools.config(name + "." + topic, setting, value)
        refused(log, setting, name + "." + topic, value)
        tools.config(name + "." + topic, setting, None if setting == "max.message.bytes" else
                     {"retention.ms": "-1", "cleanup.policy": "delete"}[setting])
        # What was the setting before is what `namespace create` restores, and only it.
        check(log.run("namespace", "create", "--partitions", "2", "--dev").returncode in (0, 2), "namespace create")

    tools.topic("--alter", "--topic", name + ".inbox", "--partitions", "4")
    refused(log, "partitions", name + ".inbox")

    # A journal made anew: nothing of what was promised is in it.
    log = Log("kafka", partitions=2, brokers=cluster.brokers)
    name = log.uri.rsplit("/", 1)[1]
    worker = Worker(log, "chores")
    worker.wait_for("is ours")
    log.start("chain", "one", "2")
    check(log.result("one") == "2 steps", "wrong result")
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    tools.topic("--delete", "--topic", name + ".journal")
    worker = Worker(log, "chores")
    worker.wait_ended(worker.process.wait(60), name + ".journal", seconds=60)
    check(worker.process.returncode in (2, 3), "exit %d" % worker.process.returncode)
    tools.topic("--create", "--topic", name + ".journal", "--partitions", "2", *SETTINGS)
    worker = Worker(log, "chores")
    worker.wait_ended(worker.process.wait(60), name, seconds=60)
    check(worker.process.returncode in (2, 3, 5), "exit %d" % worker.process.returncode)
    print(worker.text().strip().splitlines()[-1][:400], flush=True)
    log.remove()


main()
