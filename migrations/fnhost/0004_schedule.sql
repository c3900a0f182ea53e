-- Schedules are triggers too: they have one row in partition, with topic '' and partition 0, a lease, and a position, which
-- is the time of the last tick in milliseconds since 1970, plus one.
ALTER TABLE trigger DROP CONSTRAINT trigger_kind_check;
ALTER TABLE trigger ADD CONSTRAINT trigger_kind_check CHECK (kind IN ('kafka', 'relay', 'schedule'));
