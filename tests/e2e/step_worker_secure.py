"""The Python step worker over TLS and SASL, as a user with the rights that docs/remote-steps.md names, and with fewer."""
import os
import types

from harness import Cluster, Log, check
from step_workers import Owner, StepWorker


class Secure(Cluster):
    def run(self, verb, *arguments):
        return super().run(verb, *arguments, *(["--secure"] if verb == "start" else []))


cluster = Secure()
with open(os.path.join(cluster.folder, "listeners")) as file:
    sasl = dict(line.strip().split("=") for line in file)["sasl"]


def grant(*arguments):
    cluster.run("tool", "org.apache.kafka.tools.AclCommand", "--bootstrap-server", cluster.brokers, "--add",
                "--allow-principal", "User:step", *arguments)


def config(name, **settings):
    settings = {"security.protocol": "SASL_SSL", "ssl.ca.location": os.path.join(cluster.folder, "ssl", "ca.pem"),
                "sasl.mechanism": "PLAIN", "sasl.username": "step", **settings}
    path = os.path.join(cluster.folder, name)
    with open(path, "w") as file:
        file.write("".join("kafka.%s=%s\n" % setting for setting in settings.items()))
    return path


def main():
    log = Log("kafka", partitions=1, brokers=cluster.brokers)
    name = log.uri.rsplit("/", 1)[1]
    check(log.run("namespace", "queue", "create", "q").returncode == 0, "queue create")
    outside = types.SimpleNamespace(uri="kafka://%s/%s" % (sasl, name), folder=log.folder, workers=log.workers)

    def worker(path, environment=None, **more):
        return StepWorker(outside, "q", "--kafka-config", path, environment=environment, **more)

    # No rights yet: said, and nothing hangs.
    right = config("right", **{"sasl.password": "step-password"})
    refused = worker(right, wait=False)
    check(refused.process.wait(90) != 0 and "uthorization failed" in refused.text(), refused.text())
    topics = {"tasks.q": "Read", "inbox": "Write", "replies": "Read"}
    for topic, right_there in topics.items():
        grant("--topic", "%s.%s" % (name, topic), "--operation", right_there, "--operation", "Describe")
    grant("--group", name + ".tasks.q", "--operation", "Read")

    served = worker(right)
    by_environment = worker(config("half"), {"PERDURE_KAFKA_SASL_PASSWORD": "step-password"})
    owner = Owner(log, "q")
    key = owner.put("slow", "60", heartbeat_ms=600)
    owner.wait(key, "beat/2")
    owner.stop(owner.of(key, "started")[0])
    owner.stopped(key)
    keys = [owner.put("upper", "abc", lane=lane) for lane in range(8)]
    for key in keys:
        check(owner.wait(key, "end").completed.data == b"ABC", "the result")
    names = {owner.wait(key, "end").worker for key in keys}
    for one in (served, by_environment):
        one.stop()
        check("-password" not in one.text(), "it prints a password")
    print("TLS and SASL: %d workers served" % len(names))

    plain = StepWorker(types.SimpleNamespace(uri="kafka://192.0.2.1:9092/shop", folder=log.folder, workers=log.workers), "q",
                       wait=False)
    plain.process.wait(60)
    check(plain.process.returncode != 0 and "security.protocol" in plain.text(), plain.text())
    wrong = worker(config("wrong", **{"sasl.password": "no-such-password"}), wait=False)
    wrong.process.wait(90)
    check(wrong.process.returncode != 0 and "uthentication" in wrong.text().splitlines()[-1], wrong.text())
    check("no-such-password" not in wrong.text(), "it prints a password")
    print("wrong password: " + wrong.text().strip().splitlines()[-1][:200])
    log.remove()


main()
