"""
Rule 16: somebody else deletes commands that no job has taken. A worker refuses to go on, says which are missing, and goes
on only when it is told to.
"""
import json
import os
import subprocess

from harness import Log, Worker, check, wait_until

log = Log("kafka", partitions=1)
for i in range(3):
    done = log.run("start", "hello", "--id", "lost-%d" % i, "--input", '"x"')
    check(done.returncode == 0, "start: " + done.stderr)

namespace = log.uri.rsplit("/", 1)[1]
offsets = os.path.join(log.folder, "offsets.json")
with open(offsets, "w") as file:
    json.dump({"partitions": [{"topic": namespace + ".inbox", "partition": 0, "offset": 2}], "version": 1}, file)
tool = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "kafka", "cluster")
done = subprocess.run([tool, "tool", log.folder, "org.apache.kafka.tools.DeleteRecordsCommand", "--bootstrap-server",
                       os.environ["PERDURE_KAFKA"], "--offset-json-file", offsets], text=True, capture_output=True)
check(done.returncode == 0, "DeleteRecordsCommand: " + done.stdout + done.stderr)

worker = Worker(log, "hello")
code = worker.process.wait(60)
check(code == 7, "the worker went on without the commands that were lost:\n" + worker.text())
check("offsets 0 to 1 of inbox partition 0 are gone" in worker.text(), worker.text())
check(log.state("lost-2") != "completed", "a job ran though the worker refused")

worker = Worker(log, "hello", arguments=["--accept-lost-commands"])
wait_until("the start that is left runs:\n" + worker.text(), lambda: log.state("lost-2") == "completed")
check("going on without them" in worker.text(), worker.text())
check(worker.stop() == 0, worker.text())
log.remove()
