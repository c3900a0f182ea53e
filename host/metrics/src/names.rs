//! Every metric that fnhost shows: its name, what kind it is, its unit, its labels and its help. `docs/metrics.md` says the same
//! for people; a test holds this table, that page and what is scraped from a running system together.
//!
//! Labels are bounded by the manifest and the cluster: components, triggers, topics, partitions, route patterns, and the closed
//! sets of the values below. No path, key, message or reason is ever a label.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only rises, from the start of the process.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Observations counted by the upper bounds of their sizes.
    Histogram(&'static [f64]),
}

/// A metric as it is declared: everything but its values.
#[derive(Debug)]
pub struct Name {
    /// Its name, with the unit as Prometheus has it.
    pub name: &'static str,
    /// Counter, gauge or histogram with its bounds.
    pub kind: Kind,
    /// What is counted or measured.
    pub unit: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence for `/metrics` and `docs/metrics.md`.
    pub help: &'static str,
}

/// Bounds of durations in seconds: from what a call of a small function takes to what a full pool makes it wait.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];
/// Bounds of the records of a batch.
const RECORDS_OF_BATCH: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 10_000.0];
/// Bounds of a call's memory, bytes: 1 MiB to the largest limit.
const MEMORY_BYTES: &[f64] = &[
    1_048_576.0,
    2_097_152.0,
    4_194_304.0,
    8_388_608.0,
    16_777_216.0,
    33_554_432.0,
    67_108_864.0,
    134_217_728.0,
    268_435_456.0,
    1_073_741_824.0,
];

use Kind::{Counter, Gauge, Histogram};

/// Defines the names, and [`ALL`] of them.
macro_rules! names {
    ($($id:ident = $kind:expr, $name:literal, $unit:literal, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Name =
                Name { name: $name, kind: $kind, unit: $unit, labels: &[$($label),*], help: $help };
        )*
        /// Every metric, in the order of `docs/metrics.md`.
        pub const ALL: &[&Name] = &[$(&$id),*];
    };
}

names! {
    // Records, by partition.
    RECORDS = Counter, "fnhost_records_total", "records", ["trigger", "topic", "partition"],
        "Records settled: done, parked or dead. A record that is tried again counts again.";
    BATCHES = Counter, "fnhost_batches_total", "batches", ["trigger", "topic", "partition"],
        "Batches committed.";
    UNWANTED = Counter, "fnhost_records_unwanted_total", "records", ["trigger", "topic", "partition"],
        "Records that the trigger's filter passed over, without a call of the function.";
    DUPLICATES = Counter, "fnhost_duplicates_refused_total", "records", ["trigger", "topic", "partition"],
        "Records refused as duplicates: their number was accepted before. Normal after a crash.";
    FAILED_ATTEMPTS = Counter, "fnhost_failed_attempts_total", "attempts", ["trigger", "topic", "partition"],
        "Failed attempts at a record, the last one included.";
    DEAD_LETTERS = Counter, "fnhost_dead_letters_total", "records", ["trigger", "topic", "partition"],
        "Records that became dead letters.";
    POSITION = Gauge, "fnhost_partition_position", "offset", ["trigger", "topic", "partition"],
        "Next offset to process, of a partition that this host owns.";
    LOG_END = Gauge, "fnhost_partition_log_end", "offset", ["trigger", "topic", "partition"],
        "Offset that the next appended record will get, as last reported by the broker.";
    LAG = Gauge, "fnhost_partition_lag_records", "records", ["trigger", "topic", "partition"],
        "Records between the position and the log's end.";
    OLDEST_AGE = Gauge, "fnhost_partition_oldest_record_age_seconds", "seconds", ["trigger", "topic", "partition"],
        "Age of the oldest record that is not settled, parked ones included; 0 if there is none.";
    PARKED = Gauge, "fnhost_partition_parked_records", "records", ["trigger", "topic", "partition"],
        "Records that wait for another attempt, or behind one of the same key.";
    STATE = Gauge, "fnhost_partition_state", "boolean", ["trigger", "topic", "partition", "state"],
        "1 for the state that a partition of this host is in: taking-over, owned, paused, backing-off, blocked, stopped.";

    // Dispatches, by trigger.
    DISPATCH = Histogram(SECONDS), "fnhost_dispatch_duration_seconds", "seconds", ["trigger"],
        "Time from taking a batch until it is settled, reruns included.";
    DISPATCH_PHASE = Histogram(SECONDS), "fnhost_dispatch_phase_duration_seconds", "seconds", ["trigger", "phase"],
        "Parts of a dispatch: wait (for an instance), instantiate, guest (outside SQL), sql, commit (store and COMMIT), produce (hand over to the producer).";
    BATCH_RECORDS = Histogram(RECORDS_OF_BATCH), "fnhost_dispatch_batch_records", "records", ["trigger"],
        "Records in a settled batch.";
    EMITTED = Counter, "fnhost_emitted_messages_total", "messages", ["trigger"],
        "Messages committed to the outbox, by triggers and relays; copies of dead letters included.";
    ACKNOWLEDGEMENT = Histogram(SECONDS), "fnhost_produce_acknowledgement_duration_seconds", "seconds", [],
        "Time from handing a batch's messages to the producer until Kafka has acknowledged all of them.";

    // Relays and outbox.
    RELAY_BATCHES = Counter, "fnhost_relay_batches_total", "batches", ["trigger"],
        "Outbox rows that a relay wrote from a function's events.";
    RELAY_EVENTS = Counter, "fnhost_relay_events_total", "events", ["trigger"],
        "Events that a relay took from a function's table.";
    RELAY_BATCH = Histogram(SECONDS), "fnhost_relay_batch_duration_seconds", "seconds", ["trigger"],
        "Time for a relay's batch: read, store, COMMIT, hand over to the producer.";
    RELAY_LEADER = Gauge, "fnhost_relay_leader", "boolean", ["trigger"],
        "1 if this host leads the relay.";
    OUTBOX_ROWS = Gauge, "fnhost_outbox_rows", "rows", ["trigger"],
        "Outbox rows of the whole deployment that are not cleared yet; every host shows the same.";
    OUTBOX_AGE = Gauge, "fnhost_outbox_oldest_age_seconds", "seconds", ["trigger"],
        "Age of the oldest of these rows; if it keeps rising, Kafka does not acknowledge.";

    // Schedules.
    SCHEDULE_RUNS = Counter, "fnhost_schedule_runs_total", "ticks", ["schedule"],
        "Ticks that this host passed to a function, retries included.";
    SCHEDULE_FAILURES = Counter, "fnhost_schedule_failures_total", "ticks", ["schedule"],
        "Of these, the ones that failed and will be retried.";
    SCHEDULE_INTERVAL = Gauge, "fnhost_schedule_interval_seconds", "seconds", ["schedule"],
        "Time between two ticks.";
    SCHEDULE_SINCE_DONE = Gauge, "fnhost_schedule_since_done_seconds", "seconds", ["schedule"],
        "Time since the last tick that was done; only on the host that leads the schedule.";

    // Calls of components.
    CALLS = Counter, "fnhost_calls_total", "calls", ["component", "handler", "outcome"],
        "Calls ended, by handler (http, kafka) and outcome (ok, error, trap, deadline, memory, instantiate, request).";
    CALLS_RUNNING = Gauge, "fnhost_calls_running", "calls", ["component", "handler"],
        "Calls that have an instance.";
    CALLS_WAITING = Gauge, "fnhost_calls_waiting", "calls", ["component", "handler"],
        "Calls that wait for a permit: the pool is full, or max_concurrency is reached.";
    CALL_CPU = Counter, "fnhost_call_cpu_seconds_total", "seconds", ["component", "handler"],
        "CPU time of the host's threads while they ran calls: the guest, its instantiation and its imports.";
    CALL_MEMORY = Histogram(MEMORY_BYTES), "fnhost_call_memory_peak_bytes", "bytes", ["component", "handler"],
        "Peak size of a call's memories and tables.";
    INSTANCES_LIMIT = Gauge, "fnhost_instances_limit", "instances", [],
        "Maximum of concurrent instances over all components.";
    INSTANCES_USED = Gauge, "fnhost_instances_used", "instances", [],
        "Instances in use.";
    SWAPS = Counter, "fnhost_component_swaps_total", "swaps", ["component", "outcome"],
        "New versions of a component, by outcome (switched, rolled-back, refused).";

    // HTTP.
    HTTP_REQUESTS = Counter, "fnhost_http_requests_total", "requests", ["component", "route", "method", "status"],
        "Requests answered, by the pattern of their route; component and route are empty if none matched.";
    HTTP_DURATION = Histogram(SECONDS), "fnhost_http_request_duration_seconds", "seconds",
        ["component", "route", "method", "status"],
        "Time from a request's head to its response's head, by status class (2xx).";
    OUTBOUND_REQUESTS = Counter, "fnhost_outbound_requests_total", "requests", ["component", "host", "outcome"],
        "Requests that functions sent: success, client-error, server-error, connect, timeout, broken, request, circuit-open, full.";
    OUTBOUND_DURATION = Histogram(SECONDS), "fnhost_outbound_request_duration_seconds", "seconds",
        ["component", "host"],
        "Time from a function's request to the head of its answer or its failure, retries and waiting included.";
    OUTBOUND_IN_FLIGHT = Gauge, "fnhost_outbound_requests_in_flight", "requests", ["component", "host"],
        "Requests of functions that wait for the head of their answer.";
    OUTBOUND_CONNECTIONS = Counter, "fnhost_outbound_connections_total", "connections", ["component", "host"],
        "Connections opened; far fewer than requests if they are reused.";
    OUTBOUND_RETRIES = Counter, "fnhost_outbound_retries_total", "tries", ["component", "host"],
        "Requests sent again.";
    OUTBOUND_RETRIES_DENIED = Counter, "fnhost_outbound_retries_denied_total", "tries", ["component", "host"],
        "Requests not sent again because the retry budget was used up.";
    OUTBOUND_CIRCUITS_OPEN = Gauge, "fnhost_outbound_circuits_open", "circuits", ["component", "host"],
        "Hosts under this entry whose circuit is open or half-open.";
    OUTBOUND_CIRCUITS_OPENED = Counter, "fnhost_outbound_circuits_opened_total", "circuits", ["component", "host"],
        "How often a closed circuit opened.";
    HTTP_PHASE = Histogram(SECONDS), "fnhost_http_phase_duration_seconds", "seconds", ["component", "phase"],
        "Parts of an HTTP call, its body included: wait (for an instance), instantiate, guest (outside SQL), sql.";
    HTTP_REFUSED = Counter, "fnhost_http_refused_total", "requests", ["route", "reason"],
        "Requests refused by the edge, by its route pattern (empty for the defaults) and reason (body-size, header-size, body-timeout, body-incomplete, host, request-timeout, token, rate-limit, cors, overload).";
    HTTP_SHED = Gauge, "fnhost_http_shed_percent", "percent", [],
        "Requests that the edge refuses because there is more to do than can be done, of a hundred of those whose turn is first.";
    HTTP_IN_FLIGHT = Gauge, "fnhost_http_requests_in_flight", "requests", [],
        "Requests whose answer has not begun.";
    HTTP_CONNECTIONS = Gauge, "fnhost_http_connections", "connections", [],
        "Open connections of clients.";
    HTTP_CONNECTIONS_REFUSED = Counter, "fnhost_http_connections_refused_total", "connections", [],
        "Connections closed at once because their client address has too many.";
    PUSH_VIEWERS = Gauge, "fnhost_push_viewers", "clients", ["transport"],
        "Clients of live routes, by transport (events, websocket).";
    PUSH_ENDED = Counter, "fnhost_push_streams_ended_total", "streams", ["end"],
        "Ended streams of live routes, by reason (client, lifetime, cut-off, stopped).";

    // Key-value stores.
    KEY_VALUE_READS = Counter, "fnhost_key_value_reads_total", "reads", ["component", "store", "outcome"],
        "Keys that a component read from a store, by outcome (hit, miss, error).";
    KEY_VALUE_WRITES = Counter, "fnhost_key_value_writes_total", "writes", ["component", "store", "outcome"],
        "Keys that a component set or deleted, by outcome (ok, error).";
    KEY_VALUE_DURATION = Histogram(SECONDS), "fnhost_key_value_duration_seconds", "seconds", ["component", "store"],
        "Time for a read or a write.";
    KEY_VALUE_UP = Gauge, "fnhost_key_value_up", "boolean", ["store"],
        "1 if a store can be reached (always, if it is in memory). While a store in Redis cannot, reads and writes fail at once.";

    // Database.
    CONNECTIONS_LIMIT = Gauge, "fnhost_database_connections_limit", "connections", ["pool"],
        "Connections that a pool may open: one pool for each component with a database, host:owner for the host itself.";
    CONNECTIONS_USED = Gauge, "fnhost_database_connections_used", "connections", ["pool"],
        "Connections in use.";
    CONNECTIONS_IDLE = Gauge, "fnhost_database_connections_idle", "connections", ["pool"],
        "Idle open connections.";
    CONNECTIONS_WAITING = Gauge, "fnhost_database_connections_waiting", "calls", ["pool"],
        "Calls that wait for a connection of a component's pool; always 0 for host:owner, where it is not known.";
    DATABASE_ERRORS = Counter, "fnhost_database_errors_total", "errors", ["class"],
        "Failed statements and connections, by class (function: its own fault, conflict: rerun, infrastructure: the database cannot serve, unclear: that or the record).";

    // The rest of the world.
    KAFKA_ERRORS = Counter, "fnhost_kafka_errors_total", "errors", ["client"],
        "Errors that librdkafka reported, by client (consumer, producer); transient ones included.";
    FORGED_NUMBERS = Counter, "fnhost_forged_numbers_total", "records", ["topic"],
        "Records that claim a number (fnhost-stream, fnhost-seq) without a MAC of this deployment. They are handled as a foreign producer's.";
    TASK_PANICS = Counter, "fnhost_task_panics_total", "panics", ["task"],
        "Panics of the host's long-running tasks, by kind (worker, group, relay, schedule, tail, ...). Each was started again.";
    EMBEDDED_RESTARTS = Counter, "fnhost_embedded_restarts_total", "restarts", ["server"],
        "Restarts of a private server (postgres, kafka) that had died.";
    SPANS_EXPORTED = Counter, "fnhost_trace_spans_exported_total", "spans", [],
        "Spans that the trace collector accepted; 0 without a collector (--otlp).";
    SPANS_DROPPED = Counter, "fnhost_trace_spans_dropped_total", "spans", ["reason"],
        "Spans dropped, by reason (queue: more than the exporter could send, collector: not accepted). Nothing waits for them.";
    CHECK = Gauge, "fnhost_health_check", "boolean", ["check"],
        "1 if a check of /readyz passes.";
    BUILD = Gauge, "fnhost_build_info", "boolean", ["version"],
        "Always 1; the label has the version of fnhost.";
    SCRAPE = Gauge, "fnhost_scrape_duration_seconds", "seconds", [],
        "Duration of the previous scrape.";

    // The process, as Prometheus's own libraries name it.
    PROCESS_CPU = Counter, "process_cpu_seconds_total", "seconds", [],
        "CPU time of fnhost, user and system; private servers not included.";
    PROCESS_MEMORY = Gauge, "process_resident_memory_bytes", "bytes", [],
        "Resident memory of fnhost.";
    PROCESS_FDS = Gauge, "process_open_fds", "descriptors", [],
        "Open file descriptors.";
    PROCESS_FDS_MAX = Gauge, "process_max_fds", "descriptors", [],
        "Limit of open file descriptors.";
    PROCESS_THREADS = Gauge, "process_threads", "threads", [],
        "Threads.";
    PROCESS_START = Gauge, "process_start_time_seconds", "seconds", [],
        "Start time of fnhost, seconds since 1970.";
}
