-- What people change, and who.

-- One row for each change, written before it is made: a change that cannot be noted is not made.
CREATE TABLE audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment text NOT NULL,
    asked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The name of the token, or the account that ran a command beside the hosts.
    who        text NOT NULL,
    -- The address that a request came from, or the machine that the command ran on.
    source     text NOT NULL,
    -- The request or the command.
    action     text NOT NULL,
    -- What was asked for; neither code nor the values of variables.
    details    jsonb NOT NULL,
    -- What came of it; null while it runs, and for good where the host died meanwhile.
    outcome    text,
    ended_at   timestamptz
);
-- The newest are shown first, and the oldest are removed.
CREATE INDEX audit_by_deployment ON audit (deployment, id);

REVOKE ALL ON audit FROM PUBLIC;
