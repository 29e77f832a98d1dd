"""
A dump of a log (`perdure verify --save`), read and judged by rules F and S once more, in the fewest lines: who owned
which partition when, and what each run recorded. Digests, inputs and outputs are perdure-verify's to judge.
"""
import collections
import functools
import glob
import os
import struct
import subprocess
import sys
import tempfile

CLAIM, RELEASE, MARK, EVENT, SLOT_OUT = 2, 3, 4, 5, 8
REMOTE = "chaos/far"
ENDS = ("completed", "failed", "cancelled", "terminated")

Effect = collections.namedtuple("Effect", "key attempt name worker job ms")
Attempt = collections.namedtuple("Attempt", "run op attempt effect epoch offset ms remote done")


class Epoch:
    """What one claim began."""

    def __init__(self, partition, offset, ms, claim):
        self.partition, self.offset, self.begin, self.nonce = partition, offset, ms, claim.nonce
        self.worker, self.cause = claim.worker, claim.cause
        self.end = self.end_offset = None
        self.released = False

    def close(self, offset, ms, released=False):
        if self.end is None:
            self.end, self.end_offset, self.released = ms, offset, released


class Run:
    def __init__(self, job, slot, partition, offset, ms):
        self.job, self.slot, self.partition, self.first, self.begin = job, slot, partition, offset, ms
        self.partitions = [partition]  # in which it has events: it moves when the namespace grows
        self.seq, self.digest, self.state, self.result = 0, None, "open", None
        self.type = self.request = None
        self.events = 0
        self.signals = []


@functools.cache
def protocol(source):
    """The generated modules of the .proto files."""
    folder = tempfile.mkdtemp(prefix="perdure-proto-")
    proto = os.path.join(source, "proto")
    files = sorted(glob.glob(os.path.join(proto, "perdure", "v1", "*.proto")))
    done = subprocess.run(["protoc", "-I", proto, "--python_out", folder, *files], text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit("protoc: " + done.stderr)
    sys.path.insert(0, folder)
    from perdure.v1 import event_pb2, record_pb2
    return record_pb2, event_pb2


class History:
    """All that counted."""

    def __init__(self, path, source):
        self.record_pb, self.event_pb = protocol(source)
        self.epochs = collections.defaultdict(list)  # by partition
        self.runs = {}
        self.attempts = {}                           # by (run, op, attempt)
        self.fenced = self.duplicates = self.events = self.records = 0
        self.times = []                              # (append time, partition) of each record of events that counted
        self.left = {}                               # by partition that slots left: (new number of partitions, offset, ms)
        with open(path, "rb") as file:
            for partition, offset, ms, record in sorted(self.read(file), key=lambda read: read[:2]):
                self.judge(partition, offset, ms, record)  # slots move to partitions of larger numbers only

    def read(self, file):
        while head := file.read(25):
            stream, partition, offset, ms, size = struct.unpack("<BIqqI", head)
            data = file.read(size)
            if stream == 0:
                record = self.record_pb.Record()
                record.ParseFromString(data[8:])  # behind the frame
                yield partition, offset, ms, record

    def judge(self, partition, offset, ms, record):
        self.records += 1
        header, epochs = record.header, self.epochs[partition]
        epoch = epochs[-1] if epochs and epochs[-1].end is None else None
        if header.kind == CLAIM:
            if epoch:
                epoch.close(offset, ms)
            epochs.append(Epoch(partition, offset, ms, record.claim))
        elif header.kind in (RELEASE, EVENT, SLOT_OUT):
            if not epoch or (header.claim, header.nonce) != (epoch.offset, epoch.nonce):  # rule 1 (F)
                self.fenced += header.kind == EVENT
            elif header.kind == RELEASE:
                epoch.close(offset, ms, released=True)
            elif header.kind == SLOT_OUT:
                self.left.setdefault(partition, (record.slot_out.partitions, offset, ms))
            elif self.has_left(partition, header.slot):  # rule 25
                self.fenced += 1
            else:
                self.judge_events(epoch, offset, ms, record)

    def has_left(self, partition, slot):
        return partition in self.left and slot % self.left[partition][0] != partition

    def end_of(self, run, epoch):
        """(time, offset, released) at which this epoch ended for this run; None where it did not."""
        if self.has_left(epoch.partition, run.slot):
            _, offset, ms = self.left[epoch.partition]
            if epoch.end is None or offset < epoch.end_offset:
                return ms, offset, True
        return epoch.end, epoch.end_offset, epoch.released

    def epochs_of(self, run):
        return sorted((epoch for partition in run.partitions for epoch in self.epochs[partition]),
                      key=lambda epoch: epoch.begin)

    def judge_events(self, epoch, offset, ms, record):
        header = record.header
        run = self.runs.get(header.run)
        if run and header.seq <= run.seq:  # rule 2 (S)
            self.duplicates += 1
            return
        if not run and header.seq == 1:
            run = self.runs[header.run] = Run(header.job, header.slot, epoch.partition, offset, ms)
        if not run or header.seq != run.seq + 1 or (run.digest and header.prev != run.digest) or run.state != "open":
            return
        run.seq += len(record.events)
        if epoch.partition not in run.partitions:
            run.partitions.append(epoch.partition)
        run.digest = header.digest
        self.times.append((ms, epoch.partition))
        for data in record.events:
            event = self.event_pb.Event()
            event.ParseFromString(data)
            self.events += 1
            self.take_event(run, header.run, event, epoch, offset, ms)

    def take_event(self, run, run_id, event, epoch, offset, ms):
        kind = event.WhichOneof("kind")
        fact = getattr(event, kind) if kind else None
        run.events += 1
        if kind == "started":
            run.type, run.request = fact.type, fact.request
        elif kind == "signal_received":
            run.signals.append(fact.request)
        elif kind in ("step_completed", "step_failed", "attempt_failed"):
            said = fact.result.data.decode() if kind == "step_completed" else fact.error.message
            self.attempts[run_id, event.op, fact.attempt] = Attempt(run_id, event.op, fact.attempt, said.split(" ")[-1],
                                                                    epoch, offset, ms, fact.name == REMOTE,
                                                                    kind == "step_completed")
        elif kind in ENDS:
            run.state, run.end = kind, ms
            run.result = fact.result.data.decode() if kind == "completed" else str(fact).strip()

    def owner(self, partition, ms):
        """The epoch that stood at this time, as far as the brokers' clocks can tell."""
        found = None
        for epoch in self.epochs[partition]:
            if epoch.begin > ms:
                break
            found = epoch
        return found if found and (found.end is None or found.end > ms) else None


def read_ledger(path):
    """The effects, and the lines that are none."""
    effects, wrong = [], []
    with open(path) as file:
        for line in file:
            words = line.rstrip("\n").split(" ")
            if len(words) != 6 or not line.endswith("\n"):
                wrong.append(line)
                continue
            key, attempt, name, worker, job, ms = words
            run, op = key.split("-")
            effects.append(Effect((int(run, 16), int(op)), int(attempt), name, worker, job, int(ms)))
    return effects, wrong
