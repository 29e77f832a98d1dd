"""
A broker with TLS, SASL and an authorizer: each role can do its work with the rights that docs/security.md gives it, and
nothing more; what is refused is told within seconds, by name, and no password is ever printed.
"""
import ctypes
import os
import re
import subprocess
import sys
import time

import acls
import harness
from harness import Cluster, Log, Worker, check

USERS = ("admin", "maker", "worker", "client", "step", "viewer", "stranger")
SOURCE = os.environ["PERDURE_SOURCE"]
SECONDS = 30 # a refusal must not take longer, however slow the machine; it takes two or three


class Secure(Cluster):
    def __init__(self):
        super().__init__(arguments=("--secure",))
        with open(os.path.join(self.folder, "listeners")) as file:
            self.listeners = dict(line.strip().split("=") for line in file)
        self.ssl = os.path.join(self.folder, "ssl")
        for user in USERS:
            self.config(user, **self.password_of(user))

    def password_of(self, user, mechanism="PLAIN"):
        return {"security.protocol": "SASL_SSL", "ssl.ca.location": os.path.join(self.ssl, "ca.pem"),
                "sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": user + "-password"}

    def certificate_of(self, user):
        return {"security.protocol": "SSL", "ssl.ca.location": os.path.join(self.ssl, "ca.pem"),
                "ssl.certificate.location": os.path.join(self.ssl, user + ".crt"),
                "ssl.key.location": os.path.join(self.ssl, user + ".key")}

    def config(self, name, **settings):
        path = os.path.join(self.folder, name + ".properties")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            for key, value in settings.items():
                file.write("kafka.%s=%s\n" % (key, value))
        return path

    def grant(self, wanted=lambda line: True, user=None):
        """The rights as they stand in the documentation; those of a worker to another user."""
        with open(os.path.join(SOURCE, "docs", "security.md")) as file:
            lines = re.findall(r"^kafka-acls.sh (.*)$", file.read(), re.M)
        check(len(lines) >= 12, "docs/security.md has %d lines of rights" % len(lines))
        acls.grant(self.brokers, [line.replace("User:worker", "User:" + user) if user else line for line in lines if wanted(line)])


class SecureLog(Log):
    """A namespace `shop`, used as one of the users; everything that is printed is looked through for passwords."""

    def __init__(self, cluster, user, listener="sasl", config=None):
        self.kind, self.workers = "kafka", []
        self.folder = cluster.folder
        self.uri = "kafka://%s/shop" % cluster.listeners[listener]
        self.settings = config or os.path.join(cluster.folder, user + ".properties")

    def run(self, *arguments, timeout=120, **more):
        environment = dict(os.environ, PERDURE_LOG=self.uri, PERDURE_KAFKA_CONFIG=self.settings)
        done = subprocess.run([harness.PERDURE, *arguments], env=environment, text=True, capture_output=True,
                              timeout=timeout, **more)
        check("-password" not in done.stdout + done.stderr, "it prints a password: %s" % (done.stdout + done.stderr))
        return done

    def refused(self, code, words, *arguments, **more):
        begin = time.monotonic()
        done = super().refused(code, words, *arguments, **more)
        check(time.monotonic() - begin < SECONDS, "%s took %d s" % (arguments, time.monotonic() - begin))
        print("%4.1f s  %s" % (time.monotonic() - begin, done.stderr.strip().split("\n")[0][:230]), flush=True)
        return done

    def worker(self, *modules, data, arguments=()):
        return Worker(self, *modules, data=os.path.join(self.folder, data), arguments=arguments,
                      environment={"PERDURE_KAFKA_CONFIG": self.settings})

    def ends(self, worker, words):
        """A worker that must be refused."""
        code = worker.process.wait(60)
        check(code == 2 and all(word in worker.text() for word in words) and "-password" not in worker.text(),
              "the worker ended with %d: %s" % (code, worker.text()))
        print("        " + worker.text().strip().split("\n")[-1][:230], flush=True)


def connections(cluster):
    """TLS and SASL that work, and each way in which they do not."""
    ca = os.path.join(cluster.ssl, "ca.pem")

    def refused(words, listener="sasl", code=2, **settings):
        log = SecureLog(cluster, None, listener, cluster.config("wrong", **settings))
        return log.refused(code, words, "list")

    right = cluster.password_of("admin")
    refused("sasl.password is wrong", **{**right, "sasl.password": "no-such-password"})
    refused("not signed by an authority", **{**right, "ssl.ca.location": os.path.join(cluster.ssl, "other-ca.pem")})
    refused("does not offer this sasl.mechanism", **{**right, "sasl.mechanism": "SCRAM-SHA-256"})
    refused("ssl.ca.location", **{**right, "ssl.ca.location": "/no/such/file"})
    refused(["has expired", "clock"], "expired", **{"security.protocol": "SSL", "ssl.ca.location": ca})
    refused("certificate", "mtls", **{"security.protocol": "SSL", "ssl.ca.location": ca})
    refused("wants TLS or SASL", code=5, **{"client.id": "plain"})
    refused(["192.0.2.7", "--allow-plaintext"], "away", **{"client.id": "plain"})
    for listener, settings in (("mtls", cluster.certificate_of("admin")),
                               ("sasl", {**right, "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.config": "principal=admin",
                                         "enable.sasl.oauthbearer.unsecure.jwt": "true"})):
        log = SecureLog(cluster, None, listener, cluster.config("right", **settings))
        done = log.run("namespace", "check", "--dev")
        check(done.returncode == 0, "%s: %s" % (listener, done.stderr))
        check(log.run("verify").returncode == 0, "verify over " + listener)
    # librdkafka cannot do SCRAM with Kafka 4 before 2.6.1: then it must be said.
    scram = SecureLog(cluster, None, "sasl", cluster.config("scram", **cluster.password_of("admin", "SCRAM-SHA-512")))
    if ctypes.CDLL("librdkafka.so.1").rd_kafka_version() >= 0x02060100:
        check(scram.run("namespace", "check", "--dev").returncode == 0, "SCRAM")
    else:
        scram.refused(2, ["SCRAM", "4895"], "list")
    # The checker has settings and eyes of its own.
    for listener, config, words in (("sasl", "wrong", None), ("away", "plain", "another machine")):
        path = cluster.config(config, **({**right, "sasl.password": "no-such-password"} if config == "wrong" else {}))
        done = SecureLog(cluster, None, listener, path).run("verify")
        check(done.returncode == 5 and (words or "uthentication") in done.stderr, "verify: %s" % done.stderr)
    # A secret on the command line is refused there, whatever the verb.
    log = SecureLog(cluster, "admin")
    for address in (log.uri + "?sasl.password=Zx9-", log.uri.replace("//", "//admin:Zx9-@")):
        for verb in (["list"], ["worker", "--module", "x"], ["dev", "--module", "x"], ["namespace", "check"], ["verify"]):
            done = log.run(*verb, "--log", address)
            check(done.returncode in (2, 5) and "Zx9-" not in done.stdout + done.stderr, "%s: %s" % (verb, done.stderr))
    os.chmod(log.settings, 0o644)
    check("chmod 600" in log.run("list").stderr, "a file that everybody can read")
    os.chmod(log.settings, 0o600)


def work(cluster):
    """Each role does its work."""
    worker = SecureLog(cluster, "worker").worker("chores", "errands", data="w1")
    worker.wait_for("is ours", 120)
    client = SecureLog(cluster, "client")
    client.start("chain", "one", "2")
    check(client.result("one") == "2 steps", "a job of the client")
    client.start("collect", "open", "1")
    check(client.run("signal", "open", "item", "--input", '"x"').returncode == 0, "a signal of the client")
    client.result("open")
    client.refused(3, "nobody", "describe", "nobody")
    viewer = SecureLog(cluster, "viewer")
    check(viewer.state("one") == "completed" and len(viewer.lines("history", "one")) > 2 and len(viewer.lines("list")) == 2,
          "what the viewer sees")
    check(viewer.run("verify").returncode == 0, "verify by the viewer")
    check(all(line["owned"] for line in viewer.lines("workers")), "the owners, for the viewer")
    check([line["queue"] for line in viewer.lines("queues")] == ["mail", "post"], "the queues, for the viewer")
    done = viewer.run("check")
    check(done.returncode == 1 and "not authorised to read the settings (DescribeConfigs) of shop.inbox as User:viewer" in
          done.stdout, done.stdout)
    return worker


def step_worker(cluster):
    """A step worker gets the lanes of its queue, and of no other."""
    log = SecureLog(cluster, "step")
    step = log.worker("errands", data="s1", arguments=("--queue", "mail"))
    step.wait_for("serves queue mail", 120)
    check(step.stop() == 0, "the step worker failed: " + step.text())
    log.ends(log.worker("errands", data="s2", arguments=("--queue", "post")), ["not authorised", "shop.tasks.post"])


def limits(cluster):
    """And nothing more."""
    viewer, client, step = (SecureLog(cluster, user) for user in ("viewer", "client", "step"))
    viewer.refused(2, ["not authorised", "shop.", "User:viewer"], "signal", "one", "item", "--input", '"1"')
    viewer.refused(2, ["not authorised", "shop.", "User:viewer"], "start", "chain", "--id", "two", "--input", '"1"')
    step.refused(2, ["not authorised", "shop.", "User:step"], "list")
    for user in ("client", "viewer", "step"):
        log = SecureLog(cluster, user)
        log.ends(log.worker("chores", data=user), ["not authorised", "shop.", "User:" + user])
        # Not with other programs either.
        java = os.path.join(cluster.folder, user + ".java")
        with open(java, "w") as file:
            file.write("security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nssl.truststore.type=PEM\nssl.truststore.location="
                       "%s/ca.pem\nsasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required "
                       "username=\"%s\" password=\"%s-password\";\n" % (cluster.ssl, user, user))
        for topic in ("shop.journal",) if user == "client" else ("shop.jobs",) if user == "step" else ():
            done = subprocess.run([os.path.join(SOURCE, "tests", "kafka", "cluster"), "tool", cluster.folder,
                                   "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server",
                                   cluster.listeners["sasl"], "--topic", topic, "--producer.config", java, "--sync"],
                                  input="forged\n", text=True, capture_output=True, timeout=120)
            check("TopicAuthorization" in done.stdout + done.stderr or "Not authorized" in done.stdout + done.stderr,
                  "%s writes %s: %s%s" % (user, topic, done.stdout, done.stderr))


def writing(cluster):
    """A right that is missing shows only when something is written: at once all the same."""
    acls.grant(cluster.brokers, ["--add --allow-principal User:viewer --operation Read --topic shop.replies"])
    viewer = SecureLog(cluster, "viewer")
    for verb in (["signal", "one", "item", "--input", '"1"'], ["start", "chain", "--id", "two", "--input", '"1"'],
                 ["cancel", "one"], ["terminate", "one"]):
        viewer.refused(2, ["not authorised to write shop.inbox as User:viewer"], *verb)


def strangers(cluster):
    """Who may do nothing learns that, and nothing else."""
    log = SecureLog(cluster, "stranger")
    for verb in (["list"], ["describe", "one"], ["start", "chain", "--id", "x", "--input", '"1"'], ["namespace", "check"],
                 ["namespace", "create", "--dev"]):
        log.refused(2, ["not authorised", "shop.", "User:stranger"], *verb)
    log.ends(log.worker("chores", data="stranger"), ["not authorised", "shop.", "User:stranger"])
    check(log.run("verify").returncode == 5, "verify by a stranger")
    log.uri = log.uri.replace("/shop", "/bank") # which is not there: that is not told
    log.refused(2, ["not authorised", "bank.", "User:stranger"], "list")


def without_delete(cluster):
    """A worker that may do all but delete works, and says that nothing is ever cut off."""
    cluster.grant(lambda line: "User:worker" in line and "--operation Delete" not in line, "stranger")
    log = SecureLog(cluster, "stranger")
    worker = log.worker("chores", data="keeps", arguments=("--life", "15s", "--keep", "16s", "--retention-age", "8s"))
    check(SecureLog(cluster, "client").run("start", "chain", "--id", "kept", "--input", '"3"', "--wait", "60s").returncode == 0,
          "it does not work: " + worker.text())
    worker.wait_for("not authorised to delete old records of (Delete) shop.", 120)
    worker.wait_for("the namespace grows without end")
    check(worker.stop() == 0, worker.text())


def main():
    cluster = Secure()
    cluster.grant()
    maker = SecureLog(cluster, "maker")
    for verb in (["create", "--dev", "--partitions", "2"], ["queue", "create", "mail"], ["queue", "create", "post"],
                 ["check", "--dev"]):
        done = maker.run("namespace", *verb)
        check(done.returncode == 0, "namespace %s: %s" % (verb, done.stderr))
    done = maker.run("check", "--dev", "--write")
    check(done.returncode == 0 and "sasl.password=***" in done.stdout and "shop.tasks.mail" in done.stdout, done.stdout)
    connections(cluster)
    worker = work(cluster)
    step_worker(cluster)
    limits(cluster)
    writing(cluster)
    strangers(cluster)
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    check("-password" not in worker.text(), "the worker prints a password")
    without_delete(cluster)
    print(SecureLog(cluster, "admin").run("verify").stdout.strip().splitlines()[-1])


main()
