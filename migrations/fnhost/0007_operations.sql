-- What people do with records: put dead ones back, run a range again, pause.

-- The order in which waiting records of a key are handled: that of the log, and last what is put back before its trigger.
CREATE SEQUENCE parked_line AS bigint;
ALTER TABLE parked ADD COLUMN line bigint;
UPDATE parked k SET line = l.line
  FROM (SELECT o.*, nextval('parked_line') AS line
          FROM (SELECT trigger, topic, partition, "offset" FROM parked ORDER BY "offset") AS o) AS l
 WHERE (k.trigger, k.topic, k.partition, k."offset") = (l.trigger, l.topic, l.partition, l."offset");
ALTER TABLE parked ALTER COLUMN line SET DEFAULT nextval('parked_line'), ALTER COLUMN line SET NOT NULL;
-- What it emits is not sent: it runs again by `fnhost replay`.
ALTER TABLE parked ADD COLUMN silent boolean NOT NULL DEFAULT false;

-- As before; what is parked at once lines up in the order of the log.
CREATE OR REPLACE FUNCTION park_charged(
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
     ORDER BY r.o
    ON CONFLICT (trigger, topic, partition, "offset") DO UPDATE
       SET attempts = EXCLUDED.attempts, next_attempt_at = EXCLUDED.next_attempt_at, reason = EXCLUDED.reason,
           first_attempt_at = COALESCE(k.first_attempt_at, EXCLUDED.first_attempt_at),
           charged_by = CASE WHEN EXCLUDED.attempts > k.attempts THEN k.charged_by || EXCLUDED.charged_by
                             ELSE k.charged_by END;
END $$;

-- Somebody gave the message up: its stream's owner makes a dead letter of it before it sends anything again, when none is on its way.
ALTER TABLE refused ADD COLUMN given_up boolean NOT NULL DEFAULT false;

ALTER TABLE dead ADD COLUMN silent boolean NOT NULL DEFAULT false;
-- The version that failed, by the first digits of its digest; empty where it was no function's fault.
ALTER TABLE dead ADD COLUMN digest text NOT NULL DEFAULT '';
-- Of a message that Kafka refused: where it was to go. Null for records.
ALTER TABLE dead ADD COLUMN target_topic text;
ALTER TABLE dead ADD COLUMN target_partition int;

-- Why nothing new is handled until somebody resumes; null while it is not paused. A trigger's holds for all of its partitions.
ALTER TABLE trigger ADD COLUMN paused text;
ALTER TABLE trigger ADD COLUMN paused_at timestamptz;
ALTER TABLE partition ADD COLUMN paused text;
ALTER TABLE partition ADD COLUMN paused_at timestamptz;
-- How long its dead letters are kept, days; null: as long as any.
ALTER TABLE trigger ADD COLUMN dead_kept_days int;

-- A reason without what differs from record to record, so that the same fault has the same text.
CREATE FUNCTION fingerprint(p_reason text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT regexp_replace(regexp_replace(regexp_replace(regexp_replace(p_reason,
               '"(\\.|[^"\\])*"|''[^'']*''', '<text>', 'g'),
               '=\([^)]*\)', '=(<value>)', 'g'),
               '\m[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\M', '<id>', 'g'),
               '\m(0x)?[0-9a-fA-F]*[0-9][0-9a-fA-F]*\M', '<n>', 'g')
$$;

-- Pauses a partition in its owner's transaction; what the owner holds in memory stays true.
CREATE FUNCTION pause(p_trigger bigint, p_topic text, p_partition int, p_token uuid, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = fnhost, pg_temp AS $$
BEGIN
    UPDATE partition p SET paused = p_reason, paused_at = clock_timestamp()
     WHERE p.trigger = p_trigger AND p.topic = p_topic AND p.partition = p_partition
       AND owns(p_trigger, p_topic, p_partition, p_token);
    IF NOT FOUND THEN
        PERFORM refuse_store(p_trigger, p_topic, p_partition);
    END IF;
END $$;

DROP FUNCTION bury(bigint, text, int, uuid, bigint[], bytea[], bytea[], bytea[], bigint[], int[], text[], text[]);
-- Keeps dead records with their bytes and reasons, and what failed on them.
CREATE FUNCTION bury(
    p_trigger bigint, p_topic text, p_partition int, p_token uuid,
    p_offsets bigint[], p_keys bytea[], p_values bytea[], p_headers bytea[], p_timestamps_ms bigint[],
    p_attempts int[], p_reasons text[], p_traceparents text[], p_silents boolean[], p_digest text
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = fnhost, pg_temp AS $$
BEGIN
    IF NOT owns(p_trigger, p_topic, p_partition, p_token) THEN
        PERFORM refuse_store(p_trigger, p_topic, p_partition);
    END IF;
    INSERT INTO dead (trigger, topic, partition, "offset", key, value, headers, timestamp_ms, attempts, reason, traceparent,
                      silent, digest)
    SELECT p_trigger, p_topic, p_partition, r.o, r.k, r.v, r.h, r.t, r.a, r.why, r.trace, r.silent, p_digest
      FROM unnest(p_offsets, p_keys, p_values, p_headers, p_timestamps_ms, p_attempts, p_reasons, p_traceparents, p_silents)
           AS r(o, k, v, h, t, a, why, trace, silent);
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA fnhost FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA fnhost FROM PUBLIC;
REVOKE ALL ON SEQUENCE parked_line FROM PUBLIC;
