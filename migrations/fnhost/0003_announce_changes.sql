-- An owner with nothing to do stores nothing, and so would not find out that somebody changed its partition from outside. Whoever
-- raises the version says so on a channel that every host listens on; owners themselves never name the column, so a
-- dispatch does not notify.
CREATE FUNCTION announce_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY fnhost_partition;
    RETURN NULL;
END $$;

REVOKE ALL ON FUNCTION announce_change() FROM PUBLIC;

CREATE TRIGGER announce_change AFTER UPDATE OF version ON partition
    FOR EACH STATEMENT EXECUTE FUNCTION announce_change();
