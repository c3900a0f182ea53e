-- What keeps another log, a restored database, a foreign number or a refused message from being taken for something else.

-- The id of the topic (KIP-516) that the position belongs to; null until an owner has seen it, and where brokers have none.
ALTER TABLE partition ADD COLUMN topic_id uuid;
-- To go on would lose or repeat records: why, until somebody decides (`fnhost position`).
ALTER TABLE partition ADD COLUMN stopped text;
ALTER TABLE partition ADD COLUMN stopped_at timestamptz;
-- The incarnation of the database in which the owner took it over: part of the name of the stream that it numbers.
ALTER TABLE partition ADD COLUMN incarnation text;
-- The incarnation in which a row was committed; null for rows of hosts that knew none.
ALTER TABLE outbox ADD COLUMN incarnation text;
COMMENT ON COLUMN partition.chosen IS 'An operator chose the position: it may be below the group''s offset. Until the next store.';

-- Numbers of messages are only good for a database that remembers them. One that was restored from a backup, or promoted from a
-- replica that may lack commits, is another incarnation: what it numbers is on streams of another name.
CREATE TABLE incarnation (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- Random: the same backup may be restored twice.
    name   text NOT NULL,
    -- By this a restored or promoted database differs from the one before: the cluster's identifier, its timeline, and the numbers that
    -- the database and a table in it have there.
    server text NOT NULL,
    since  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The name of the present incarnation; begins a new one where the server is another one, or is `lost`.
CREATE FUNCTION present_incarnation(p_lost boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql SET search_path = fnhost, pg_temp AS $$
DECLARE
    v_server text := concat_ws('/', (SELECT c.system_identifier FROM pg_control_system() c),
                               left(pg_walfile_name(pg_current_wal_lsn()), 8),
                               (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()),
                               'fnhost.partition'::regclass::oid);
    v_name   text;
BEGIN
    SELECT i.name INTO v_name FROM incarnation i
     WHERE i.server = v_server AND NOT p_lost;
    IF v_name IS NULL THEN
        INSERT INTO incarnation AS i (name, server) VALUES (left(gen_random_uuid()::text, 8), v_server)
        ON CONFLICT (one) DO UPDATE SET name = EXCLUDED.name, server = v_server, since = clock_timestamp()
         WHERE p_lost OR i.server <> v_server
        RETURNING i.name INTO v_name;
    END IF;
    IF v_name IS NULL THEN
        -- Another session was faster.
        SELECT i.name INTO v_name FROM incarnation i;
    END IF;
    RETURN v_name;
END $$;

-- Keys under which this deployment's messages are numbered, see host/types/src/stream_keys.rs. 244 random bits each.
CREATE TABLE stream_key (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    secret     bytea NOT NULL DEFAULT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO stream_key DEFAULT VALUES;

-- Streams that cannot go on because Kafka refuses their oldest message.
CREATE TABLE refused (
    trigger          bigint NOT NULL,
    topic            text NOT NULL,
    partition        int NOT NULL,
    -- The message's number on the stream, where it was to go, and what Kafka said.
    seq              bigint NOT NULL,
    target_topic     text NOT NULL,
    target_partition int NOT NULL,
    reason           text NOT NULL,
    since            timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries            int NOT NULL DEFAULT 1,
    PRIMARY KEY (trigger, topic, partition),
    FOREIGN KEY (trigger, topic, partition) REFERENCES partition
);

-- As before; the row is noted with the incarnation that its owner numbers in, and a position that was chosen is one like any other from
-- here on.
CREATE OR REPLACE FUNCTION store(
    p_trigger bigint, p_topic text, p_partition int, p_token uuid,
    p_epoch bigint, p_version bigint, p_stores bigint,
    p_position bigint, p_new_position bigint,
    p_emitted bigint, p_new_emitted bigint, p_messages bytea,
    p_streams text[], p_marks bigint[], p_acknowledged bigint
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = fnhost, pg_temp AS $$
DECLARE
    v_incarnation text;
BEGIN
    UPDATE partition p
       SET position = p_new_position, emitted = p_new_emitted, stores = p.stores + 1,
           announced = NULL, announcements = 0, chosen = false
      FROM trigger t
     WHERE p.trigger = p_trigger AND p.topic = p_topic AND p.partition = p_partition
       AND p.token = p_token AND p.epoch = p_epoch AND p.version = p_version
       AND p.stores = p_stores AND p.position = p_position AND p.emitted = p_emitted
       AND t.trigger = p.trigger AND t.role = session_user
    RETURNING p.incarnation INTO v_incarnation;
    IF NOT FOUND THEN
        PERFORM refuse_store(p_trigger, p_topic, p_partition);
    END IF;
    IF p_messages IS NOT NULL THEN
        INSERT INTO outbox (trigger, topic, partition, first_seq, last_seq, messages, incarnation)
        VALUES (p_trigger, p_topic, p_partition, p_emitted + 1, p_new_emitted, p_messages, v_incarnation);
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

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA fnhost FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA fnhost FROM PUBLIC;
