-- What the host keeps to make effects exactly once. Functions never see these tables: they reach the
-- host's schema only through store(), park() and bury(), which demand the token of the current owner.
-- The runner creates the schema and sets search_path to it.

-- A subscription (kind 'kafka') or the relay of one component's HTTP events (kind 'relay').
CREATE TABLE trigger (
    trigger     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment  text NOT NULL,
    id          text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('kafka', 'relay')),
    -- The consumer group; positions are the group's, so a trigger never changes it.
    group_id    text NOT NULL,
    -- The login role whose sessions may store for this trigger.
    role        name NOT NULL,
    UNIQUE (deployment, id)
);

-- One row per partition that a trigger consumes: who owns it and how far it is. A relay has one row,
-- with topic '' and partition 0.
CREATE TABLE partition (
    trigger      bigint NOT NULL REFERENCES trigger,
    topic        text NOT NULL,
    partition    int NOT NULL,
    -- Raised by each take-over; an owner with a lower one is fenced.
    epoch        bigint NOT NULL DEFAULT 0,
    -- Raised by whoever changes from outside what an owner holds in memory (redrive, discard, reset).
    version      bigint NOT NULL DEFAULT 0,
    -- Raised by each store: tells whether a COMMIT that got no answer happened.
    stores       bigint NOT NULL DEFAULT 0,
    -- The next offset to process.
    position     bigint NOT NULL,
    -- Messages numbered so far on the stream of this row.
    emitted      bigint NOT NULL DEFAULT 0,
    -- The host that owns it; null after a clean release.
    owner        uuid,
    -- Random at each take-over. Sessions of the function's role must show it to store().
    token        uuid,
    -- A relay's owner must renew before this time.
    lease_until  timestamptz,
    -- An operator chose the position: it may be below the group's offset. Until the next take-over.
    chosen       boolean NOT NULL DEFAULT false,
    -- After an unclean end: the offset that was about to be handed to the function, and how often.
    announced    bigint,
    announcements int NOT NULL DEFAULT 0,
    PRIMARY KEY (trigger, topic, partition)
) WITH (fillfactor = 40);  -- updated at every batch: room for HOT updates

-- The highest number accepted from each stream.
CREATE TABLE watermark (
    trigger    bigint NOT NULL,
    topic      text NOT NULL,
    partition  int NOT NULL,
    stream     text NOT NULL,
    seq        bigint NOT NULL,
    PRIMARY KEY (trigger, topic, partition, stream),
    FOREIGN KEY (trigger, topic, partition) REFERENCES partition
) WITH (fillfactor = 40);

-- Committed messages that Kafka may not have yet: one row per batch, encoded by the host (outbox.rs).
CREATE TABLE outbox (
    trigger    bigint NOT NULL,
    topic      text NOT NULL,
    partition  int NOT NULL,
    first_seq  bigint NOT NULL,
    last_seq   bigint NOT NULL,
    messages   bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (trigger, topic, partition, first_seq)
);
-- Rows live for milliseconds: compressing them would cost more than it saves.
ALTER TABLE outbox ALTER COLUMN messages SET STORAGE EXTERNAL;

-- Records that wait for another attempt, and later records of their keys behind them.
CREATE TABLE parked (
    trigger          bigint NOT NULL,
    topic            text NOT NULL,
    partition        int NOT NULL,
    "offset"         bigint NOT NULL,
    key              bytea,
    value            bytea,
    headers          bytea NOT NULL,
    timestamp_ms     bigint NOT NULL,
    -- Attempts made; 0: has only waited behind an earlier record of its key.
    attempts         int NOT NULL,
    first_attempt_at timestamptz,
    next_attempt_at  timestamptz NOT NULL,
    reason           text NOT NULL,
    PRIMARY KEY (trigger, topic, partition, "offset"),
    FOREIGN KEY (trigger, topic, partition) REFERENCES partition
);

CREATE TABLE dead (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    trigger      bigint NOT NULL,
    topic        text NOT NULL,
    partition    int NOT NULL,
    "offset"     bigint NOT NULL,
    key          bytea,
    value        bytea,
    headers      bytea NOT NULL,
    timestamp_ms bigint NOT NULL,
    attempts     int NOT NULL,
    reason       text NOT NULL,
    traceparent  text,
    died_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (trigger, topic, partition) REFERENCES partition
);
CREATE INDEX dead_by_partition ON dead (trigger, topic, partition, died_at);

-- SQLSTATE FN001 tells the host that it no longer owns the partition as it thinks it does.
CREATE FUNCTION refuse_store(p_trigger bigint, p_topic text, p_partition int) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'trigger %, %/%: the caller does not own the partition in the state it assumes',
        p_trigger, p_topic, p_partition USING ERRCODE = 'FN001';
END $$;

-- The only judge of a batch: moves the position, numbers and keeps the messages, raises the watermarks and drops the
-- outbox rows that Kafka has acknowledged, or refuses all of it.
CREATE FUNCTION store(
    p_trigger bigint, p_topic text, p_partition int, p_token uuid,
    p_epoch bigint, p_version bigint, p_stores bigint,
    p_position bigint, p_new_position bigint,
    p_emitted bigint, p_new_emitted bigint, p_messages bytea,
    p_streams text[], p_marks bigint[], p_acknowledged bigint
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = fnhost, pg_temp AS $$
BEGIN
    UPDATE partition p
       SET position = p_new_position, emitted = p_new_emitted, stores = p.stores + 1,
           announced = NULL, announcements = 0
      FROM trigger t
     WHERE p.trigger = p_trigger AND p.topic = p_topic AND p.partition = p_partition
       AND p.token = p_token AND p.epoch = p_epoch AND p.version = p_version
       AND p.stores = p_stores AND p.position = p_position AND p.emitted = p_emitted
       AND t.trigger = p.trigger AND t.role = session_user;
    IF NOT FOUND THEN
        PERFORM refuse_store(p_trigger, p_topic, p_partition);
    END IF;
    IF p_messages IS NOT NULL THEN
        INSERT INTO outbox (trigger, topic, partition, first_seq, last_seq, messages)
        VALUES (p_trigger, p_topic, p_partition, p_emitted + 1, p_new_emitted, p_messages);
    END IF;
    IF cardinality(p_streams) > 0 THEN
        INSERT INTO watermark AS w (trigger, topic, partition, stream, seq)
        SELECT p_trigger, p_topic, p_partition, m.stream, m.seq FROM unnest(p_streams, p_marks) AS m(stream, seq)
        ON CONFLICT (trigger, topic, partition, stream) DO UPDATE SET seq = EXCLUDED.seq WHERE w.seq < EXCLUDED.seq;
    END IF;
    IF p_acknowledged IS NOT NULL THEN
        DELETE FROM outbox o
         WHERE o.trigger = p_trigger AND o.topic = p_topic AND o.partition = p_partition
           AND o.first_seq <= p_acknowledged AND o.last_seq <= p_acknowledged;
    END IF;
END $$;

-- True where the session's role and the token belong to the partition's owner. Called after store() in its
-- transaction, so the row is locked and the answer stays true.
CREATE FUNCTION owns(p_trigger bigint, p_topic text, p_partition int, p_token uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger)
         WHERE p.trigger = p_trigger AND p.topic = p_topic AND p.partition = p_partition
           AND p.token = p_token AND t.role = session_user)
$$;

-- Parks records (or charges another attempt to parked ones) and takes away those in p_unpark.
CREATE FUNCTION park(
    p_trigger bigint, p_topic text, p_partition int, p_token uuid,
    p_offsets bigint[], p_keys bytea[], p_values bytea[], p_headers bytea[], p_timestamps_ms bigint[],
    p_attempts int[], p_delays_ms bigint[], p_reasons text[], p_unpark bigint[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = fnhost, pg_temp AS $$
BEGIN
    IF NOT owns(p_trigger, p_topic, p_partition, p_token) THEN
        PERFORM refuse_store(p_trigger, p_topic, p_partition);
    END IF;
    DELETE FROM parked k
     WHERE k.trigger = p_trigger AND k.topic = p_topic AND k.partition = p_partition AND k."offset" = ANY (p_unpark);
    INSERT INTO parked AS k (trigger, topic, partition, "offset", key, value, headers, timestamp_ms,
                             attempts, first_attempt_at, next_attempt_at, reason)
    SELECT p_trigger, p_topic, p_partition, r.o, r.k, r.v, r.h, r.t, r.a,
           CASE WHEN r.a > 0 THEN clock_timestamp() END,
           clock_timestamp() + r.d * interval '1 millisecond', r.why
      FROM unnest(p_offsets, p_keys, p_values, p_headers, p_timestamps_ms, p_attempts, p_delays_ms, p_reasons)
           AS r(o, k, v, h, t, a, d, why)
    ON CONFLICT (trigger, topic, partition, "offset") DO UPDATE
       SET attempts = EXCLUDED.attempts, next_attempt_at = EXCLUDED.next_attempt_at, reason = EXCLUDED.reason,
           first_attempt_at = COALESCE(k.first_attempt_at, EXCLUDED.first_attempt_at);
END $$;

-- Keeps dead records with their bytes and reasons.
CREATE FUNCTION bury(
    p_trigger bigint, p_topic text, p_partition int, p_token uuid,
    p_offsets bigint[], p_keys bytea[], p_values bytea[], p_headers bytea[], p_timestamps_ms bigint[],
    p_attempts int[], p_reasons text[], p_traceparents text[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = fnhost, pg_temp AS $$
BEGIN
    IF NOT owns(p_trigger, p_topic, p_partition, p_token) THEN
        PERFORM refuse_store(p_trigger, p_topic, p_partition);
    END IF;
    INSERT INTO dead (trigger, topic, partition, "offset", key, value, headers, timestamp_ms, attempts, reason, traceparent)
    SELECT p_trigger, p_topic, p_partition, r.o, r.k, r.v, r.h, r.t, r.a, r.why, r.trace
      FROM unnest(p_offsets, p_keys, p_values, p_headers, p_timestamps_ms, p_attempts, p_reasons, p_traceparents)
           AS r(o, k, v, h, t, a, why, trace);
END $$;

-- Whether the relay of a component sleeps and wants to be notified of inserts. A pending NOTIFY serialises commits, so
-- inserts notify only then.
CREATE TABLE relay_sleep (
    schema_name name PRIMARY KEY,
    sleeping    boolean NOT NULL
);

-- The statement trigger of every outgoing_event table.
CREATE FUNCTION wake_relay() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = fnhost, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM relay_sleep s WHERE s.schema_name = TG_TABLE_SCHEMA AND s.sleeping) THEN
        PERFORM pg_notify('fnhost_relay', TG_TABLE_SCHEMA);
    END IF;
    RETURN NULL;
END $$;

-- Schemas whose demo data were put in, so that a restart does not put them in again.
CREATE TABLE seeded (
    schema_name name PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A digest of the secret from which the roles' passwords are derived: tells a host that has another one.
CREATE TABLE role_secret (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    digest text NOT NULL
);

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA fnhost FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA fnhost FROM PUBLIC;
