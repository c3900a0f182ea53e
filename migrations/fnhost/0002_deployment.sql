-- What runs: the versions of each component, the running set that all hosts of a deployment agree on, and the hosts.

-- Code of components by its SHA-256, so that every host has it without a shared disk.
CREATE TABLE code (
    digest    text PRIMARY KEY CHECK (digest ~ '^[0-9a-f]{64}$'),
    -- The bound is the host's COMPONENT_BYTES_MAX.
    wasm      bytea NOT NULL CHECK (octet_length(wasm) BETWEEN 1 AND 67108864),
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A version of a component: its code and what its variables have in place of the manifest's. Never changed, but for the
-- note that it was rolled back.
CREATE TABLE version (
    version          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment       text NOT NULL,
    component        text NOT NULL,
    digest           text NOT NULL REFERENCES code,
    -- Names and values, secrets among them: like every table here closed to functions, and never shown.
    variables        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(variables) = 'object'),
    -- Where it came from, for people: a file, a URL.
    origin           text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Rolled back: failed attempts of records under it do not count.
    withdrawn_at     timestamptz,
    withdrawn_reason text
);
CREATE INDEX version_by_component ON version (deployment, component, version);

-- Raised by every change of what runs. Its row is the lock that brings the changes of a deployment into one order.
CREATE TABLE running_set (
    deployment text PRIMARY KEY,
    revision   bigint NOT NULL
);

-- The running version of each component.
CREATE TABLE running (
    deployment      text NOT NULL REFERENCES running_set,
    component       text NOT NULL,
    -- The running set's revision at the last change of this row.
    revision        bigint NOT NULL,
    current         bigint NOT NULL REFERENCES version,
    current_since   timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- What a rollback goes to: the last version before that passed its trial.
    fallback        bigint REFERENCES version,
    -- A version that is tried on a part of the batches and requests.
    candidate       bigint REFERENCES version,
    canary_percent  int CHECK (canary_percent BETWEEN 1 AND 99),
    -- The candidate, or where there is none the current version, is on trial until then.
    trial_ends_at   timestamptz,
    -- How often a version of this component was rolled back: owners of parked records look at it.
    withdrawals     bigint NOT NULL DEFAULT 0,
    -- The manifest's file that was deployed last, so that a start tells a new one from the one that a swap replaced.
    manifest_digest text NOT NULL,
    PRIMARY KEY (deployment, component),
    CHECK ((candidate IS NULL) = (canary_percent IS NULL)),
    CHECK (candidate IS NULL OR trial_ends_at IS NOT NULL)
);

-- What calls of a version came to while the running set's row of its component was at a revision. Hosts add to it.
CREATE TABLE tally (
    version      bigint NOT NULL REFERENCES version ON DELETE CASCADE,
    revision     bigint NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('http', 'kafka')),
    -- Requests and batches, and those of them that the function ended badly.
    calls        bigint NOT NULL,
    failed_calls bigint NOT NULL,
    -- Requests answered and records settled, and those of them that failed.
    handled      bigint NOT NULL,
    errors       bigint NOT NULL,
    -- Time in calls, microseconds.
    busy_us      bigint NOT NULL,
    PRIMARY KEY (version, revision, kind)
) WITH (fillfactor = 50);

-- Every fnhost of a deployment, while it renews its lease.
CREATE TABLE host (
    deployment  text NOT NULL,
    -- The identity of its data directory: a restarted host takes its former place.
    instance    text NOT NULL,
    -- The process, as in partition.owner.
    host        uuid NOT NULL,
    name        text NOT NULL,
    -- Addresses: HTTP (null where it serves none) and admin.
    http        text,
    admin       text NOT NULL,
    fnhost      text NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until timestamptz NOT NULL,
    -- The running set's revision that it runs, and its components with the digests of what is loaded.
    revision    bigint NOT NULL,
    components  jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (deployment, instance)
);

-- The version under which each failed attempt was made: a rollback gives those of its version back.
ALTER TABLE parked ADD COLUMN charged_by bigint[] NOT NULL DEFAULT '{}';

-- As park(), and notes for records with one attempt more that p_version made it (0: code that has no version). park() stays
-- for hosts that were started before this migration.
CREATE FUNCTION park_charged(
    p_trigger bigint, p_topic text, p_partition int, p_token uuid,
    p_offsets bigint[], p_keys bytea[], p_values bytea[], p_headers bytea[], p_timestamps_ms bigint[],
    p_attempts int[], p_delays_ms bigint[], p_reasons text[], p_unpark bigint[], p_version bigint
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = fnhost, pg_temp AS $$
BEGIN
    -- Refuses where the caller does not own the partition.
    PERFORM park(p_trigger, p_topic, p_partition, p_token, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', p_unpark);
    INSERT INTO parked AS k (trigger, topic, partition, "offset", key, value, headers, timestamp_ms,
                             attempts, first_attempt_at, next_attempt_at, reason, charged_by)
    SELECT p_trigger, p_topic, p_partition, r.o, r.k, r.v, r.h, r.t, r.a,
           CASE WHEN r.a > 0 THEN clock_timestamp() END,
           clock_timestamp() + r.d * interval '1 millisecond', r.why,
           CASE WHEN r.a > 0 AND p_version > 0 THEN ARRAY[p_version] ELSE '{}' END
      FROM unnest(p_offsets, p_keys, p_values, p_headers, p_timestamps_ms, p_attempts, p_delays_ms, p_reasons)
           AS r(o, k, v, h, t, a, d, why)
    ON CONFLICT (trigger, topic, partition, "offset") DO UPDATE
       SET attempts = EXCLUDED.attempts, next_attempt_at = EXCLUDED.next_attempt_at, reason = EXCLUDED.reason,
           first_attempt_at = COALESCE(k.first_attempt_at, EXCLUDED.first_attempt_at),
           charged_by = CASE WHEN EXCLUDED.attempts > k.attempts THEN k.charged_by || EXCLUDED.charged_by
                             ELSE k.charged_by END;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA fnhost FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA fnhost FROM PUBLIC;
