/*
 * Every constant of the runtime that is not a format number, with its unit and the reason for its value.
 */
#ifndef PERDURE_CONSTANTS_H
#define PERDURE_CONSTANTS_H

#include <stdint.h>

/* A record must fit into one Kafka message with the default limits (1,048,588 B) after keys, headers and framing. */
#define RECORD_LIMIT_BYTES 1000000
/* A payload must still fit when it is copied from the inbox into an event with header and envelope (H20). */
#define PAYLOAD_LIMIT_BYTES (RECORD_LIMIT_BYTES - 64 * 1024)
/* What a step says of how far it is; cut beyond. The same in the Python step worker. */
#define HEARTBEAT_DETAIL_BYTES 64000
/* Kafka headers, keys and the file of one job are named by it. */
#define JOB_ID_LIMIT_BYTES 255
/* REQUESTS_KEPT of them stand in a terminal event, beside a result of PAYLOAD_LIMIT_BYTES. */
#define REQUEST_ID_LIMIT_BYTES 128
/* Of a signal that comes from outside: names are shown in columns, a longer one is no name. */
#define SIGNAL_NAME_LIMIT_BYTES 255
/* Of a worker: it stands in claims and statuses; Kafka takes member ids up to 249. */
#define WORKER_NAME_LIMIT_BYTES 127
/* Why somebody cancels, terminates or resumes: it stands in one event beside REQUESTS_KEPT request ids. */
#define REASON_LIMIT_BYTES 16384

/* An append that is neither confirmed nor failed for so long is in doubt (rule 5, H16). */
#define APPEND_DEADLINE_MS INT64_C(30000)
/* A Mark follows this long after something changed: bounds how much inbox a takeover reads again. */
#define MARK_INTERVAL_MS INT64_C(3000)
/* A start that is refused is told to the worker's log at most so often: a client that retries is no flood. */
#define REFUSAL_TELL_MS INT64_C(200)
/* After being fenced: wait, doubling, before claiming again (rule 4). */
#define CLAIM_BACKOFF_MS INT64_C(5000)
#define CLAIM_BACKOFF_MAX_MS INT64_C(60000)
/* After a claim that the log did not take: wait, doubling up to the same limit. */
#define CLAIM_RETRY_MS INT64_C(100)
/* A revoked owner lets running steps end for so long before it hands them back. */
#define DRAIN_MS INT64_C(10000)
/* The same of a step worker, which hands nothing over: its steps are begun anew elsewhere. */
#define QUEUE_DRAIN_MS INT64_C(30000)
/* Partitions of a namespace in Kafka unless told otherwise: enough workers for most, and it can grow. */
#define NAMESPACE_PARTITIONS 16
/* A planned move (rule 4): an ask for the partition that does not come back in so long is given up, and the partition
 * claimed. */
#define HANDOVER_ASK_MS INT64_C(1000)
/* An owner of whom nothing was heard of late has so long to answer: what a dead one costs every takeover. */
#define HANDOVER_ANSWER_MS INT64_C(150)
/* One that was heard of so shortly before lives: half a session timeout, if no other is known. */
#define HANDOVER_ALIVE_MS INT64_C(3000)
/* ... and has so long to answer, and beyond the time it named. */
#define HANDOVER_SLACK_MS INT64_C(3000)
/* Which partitions of others are to be followed is looked at so often. */
#define STANDBY_INTERVAL_MS 1000
/* So many that are followed and not read to their end yet: each may be long. */
#define STANDBY_READING_LIMIT 4
/* One that cannot be followed is tried again after so long. */
#define STANDBY_AGAIN_MS 60000
/* Records read and not stored yet: beyond, and each time they have doubled, those of runs that have ended go. */
#define UNSAVED_PRUNE_BYTES (16 * 1024 * 1024)
/* What was read of the registered modules so shortly before counts as what there is: a start of a type that nobody has is
 * refused without reading them again; up to ten times as long where reading takes long. */
#define REGISTRATIONS_FRESH_MS 1000
/* A store whose file cannot be written, or was taken away, is looked at again after this. */
#define STORE_RETRY_MS 10000
/* So often within an hour an engine reads its journal anew because its store gave a history that is not the run's; then
 * the job is put aside. */
#define HISTORY_REBUILDS 3
#define HISTORY_REBUILDS_MS (INT64_C(3600) * 1000)
/* A command older than this at its append is dead (rule 14). */
#define LIFE_MS (INT64_C(24) * 3600 * 1000)
/* A command may be this much "younger" than the broker's clock says (rule 14). */
#define BORN_SKEW_MS INT64_C(60000)
/* A closed run is remembered at least LIFE + 1 h, a 24th of LIFE where that is another (rule 20). */
#define LIFE_MARGIN_PART 24
#define KEEP_OF(life_ms) ((life_ms) + (life_ms) / LIFE_MARGIN_PART)
#define KEEP_MS KEEP_OF(LIFE_MS)
/* The inbox is trimmed this far behind in_pos, so that a journal that loses its tail heals itself (H23): 1 h, or the same
 * part of another LIFE. */
#define TRIM_DELAY_OF(life_ms) ((life_ms) / LIFE_MARGIN_PART)
/* The journal's head is cut when half of this has been written since the last cut, or as much as was copied then: so
 * copying costs at most as much as it frees (rule 17). */
#define RETENTION_BYTES (INT64_C(64) * 1024 * 1024)
/* Of one turn: copies and stubs appended, their bytes, runs looked at. A few hundred microseconds, so that nobody waits. */
#define RETENTION_TURN_RECORDS 32
#define RETENTION_TURN_BYTES (64 * 1024)
#define RETENTION_TURN_PLACES 512
/* Copies and stubs that are not confirmed yet: beyond, copying waits. */
#define RETENTION_IN_FLIGHT 256
/* After a run could not be copied: until it is tried again. */
#define RETENTION_RETRY_MS (INT64_C(600) * 1000)
/* Clock against the broker's append time at a claim (rule 30). */
#define CLOCK_SKEW_WARN_MS INT64_C(1000)
#define CLOCK_SKEW_LIMIT_MS INT64_C(60000)
/* A wait shows in the status record when it outlasts this: shorter ones would only cost. */
#define STATUS_DELAY_MS INT64_C(200)
/* Who waits for the end of one run, each some 100 bytes; others ask again. */
#define WATCHERS_LIMIT 1024
/* A job that never waits so long is shown after this all the same. */
#define STATUS_BUSY_MS INT64_C(1000)

/* Paused jobs kept in memory with their stacks: beyond, the least recently used are evicted. mprotect'ed guard pages
 * end near vm.max_map_count / 2 = 32,000 stacks. */
#define LIVE_JOBS_LIMIT 20000
#define LIVE_BYTES_LIMIT (INT64_C(512) * 1024 * 1024)
/* Jobs replayed in one turn of the engine, so that a takeover never starves what runs (hazard 51). */
#define REPLAYS_PER_TURN 256
/* Jobs of a partition that were brought back because they were due and are not at rest again (hazard 51): what comes anew
 * is never behind more of them. More than there may be threads for steps. */
#define WOKEN_JOBS_LIMIT 1024
/* ... and how much of their histories is replayed in a millisecond: events, a job counting as so many more. About half of
 * that millisecond. */
#define WAKE_EVENTS_PER_MS 1000
#define WAKE_EVENTS_OF_JOB 50
/* Commands of a partition that were read and not absorbed by a confirmed record (back-pressure): beyond, its inbox is not
 * read until half of them are. A worker at full speed has a few thousand; decoded they take some times their bytes. */
#define INBOX_RECORDS_LIMIT 20000
#define INBOX_BYTES_LIMIT (8 * 1024 * 1024)
/* ... where memory is exhausted: so that what makes room can still come. */
#define INBOX_RECORDS_LEAST 16
/* The same behind a report that waits for a moment, TASK_NOTED_AFTER_MS: so many in that time. */
#define INBOX_RECORDS_OF_A_MOMENT 256
/* The memory budget where none is named: this part of the control group's limit, of the machine's memory if there is none.
 * Steps, librdkafka's queues and the heads of jobs come on top. */
#define MEMORY_PART_OF_GROUP 2
#define MEMORY_PART_OF_MACHINE 4
#define MEMORY_LEAST (16 * 1024 * 1024)
/* What was read from the inboxes and is not worked off may take this part of it: beyond, they are read as above. */
#define MEMORY_PART_OF_INTAKE 4
/* Histories are stored once a second, and sooner when those that are not take this part of it: their jobs cannot leave it. */
#define MEMORY_PART_OF_UNSAVED 8
/* Attempts that run here hold PAYLOAD_LIMIT_BYTES each for their results, together at most this part of it. */
#define MEMORY_PART_OF_RESULTS 2
/* Attempts of a worker that run at the same time while the budget is used up, beside one of each partition; and how soon
 * others look for room. */
#define STEPS_OVER_BUDGET 4
#define MEMORY_LOOK_MS 10
/* ... and those that left memory while they waited for it, as long as others that are still there do. */
#define WAITERS_LOOK_MS 50
/* A record in memory beside its bytes: decoded, its events, their parts. */
#define MEMORY_OF_RECORD(size) (4 * (size) + 512)
/* A result that waits for its turn; an entry of the outbox with its target. */
#define MEMORY_OF_RESULT(size) ((size) + 512)
#define MEMORY_OF_OUTPUT(size) ((size) + 256)
/* Unconfirmed appends of one partition; beyond, the intake waits (H28, hazard 21). Well below librdkafka's queue of
 * 100,000 messages over 16 partitions. */
#define APPENDS_IN_FLIGHT_LIMIT 5000
/* Own records of a partition that are known by their acknowledgement before they are read. */
#define READ_AHEAD 1024
/* Rule 31: events of one turn go into one record up to this size; the rest into the next. */
#define TURN_BYTES_LIMIT (256 * 1024)

#define JOB_STACK_BYTES (256 * 1024)
#define STEP_THREADS 16

/* Step retries, where the declaration says nothing: Temporal's defaults, which users know. */
#define RETRY_BACKOFF_MS INT64_C(1000)
#define RETRY_BACKOFF_MAX_MS INT64_C(100000)
#define RETRY_BACKOFF_FACTOR 2

/* A job whose code crashed its worker so often in a row is put aside; so is one that crashed it, in whatever code, this
 * many times as often, progress or not. */
#define CRASH_LIMIT 3
#define CRASHES_ALL_FACTOR 10
/* What the failure of a crashed attempt says, before the reason; also in a step worker's report of it. */
#define CRASHED_MESSAGE "the attempt crashed its worker: "
/* A remote step is not heard of for so long: its worker is gone. Three heartbeats of a worker that sends one in 20 s. */
#define TASK_HEARTBEAT_MS INT64_C(60000)
/* A task that nobody has begun is dispatched again after this: a topic may have lost it, or a worker that died just when the
 * owner changed. Its older copy is dropped by whoever finds it then. */
#define TASK_REDISPATCH_MS (INT64_C(3600) * 1000)
/* A task that was declined at once goes to the next worker so long after it went to this one, doubled each time: each such
 * round is an event. One that waited there for a slot as long, which workers do, goes at once. */
#define TASK_DECLINED_MS INT64_C(100)
#define TASK_DECLINED_MAX_MS INT64_C(10000)
/* Of what a worker says why. */
#define TASK_DECLINED_BYTES 200
/* Clocks of step workers and owners: what may no longer be begun is dispatched again only after this. */
#define TASK_SKEW_MS INT64_C(60000)
/* What a heartbeat said is journaled at most so often. */
#define TASK_PROGRESS_MS INT64_C(10000)
/* That an attempt has begun is journaled when it runs for so long; until then the report that says so is not behind us in the
 * inbox, and a new owner reads it. Most steps are over by then and cost no record; answers that wait for the inbox's position
 * (rule 15) wait no longer. */
#define TASK_NOTED_AFTER_MS 500
/* A new owner judges no deadline or timeout of a remote step for so long: its end may be in the inbox, not read yet. */
#define TASK_JUDGED_AFTER_MS 1000
/* A queue that takes no task is tried again after this. */
#define TASK_RETRY_MS INT64_C(1000)
/* Tasks of one queue and partition that are dispatched and not begun; beyond, they are held back and priority decides. */
#define TASKS_OUT_LIMIT 1000
/* The owner spreads tasks over so many lanes, more than a topic has partitions in most cases. */
#define TASK_LANES 64
#define QUEUE_NAME_LIMIT_BYTES 100

#define SLOT_COUNT 4096
#define FORMAT_VERSION 1
/* The highest level whose rules this version knows (rule 32). */
#define RULE_LEVEL 3
/* What a new namespace begins with. */
#define RULE_LEVEL_NEW 2
/* Level of namespaces whose owners write Copy, Stub and cuts (rules 17 to 21). Readers below it must not meet them. */
#define RULE_LEVEL_RETENTION 2
/* Readers below it must not meet SlotOut and SlotIn (rules 24, 25). */
#define RULE_LEVEL_SLOTS 3
/* Everything else can be read from level 1 on. */
#define RULE_LEVEL_LOWEST 1

#endif
