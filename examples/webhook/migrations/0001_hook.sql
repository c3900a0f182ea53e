-- Hooks that were taken, so that a copy is not sent again. outgoing_event is made by the host.
CREATE TABLE hook (
    name text NOT NULL,
    id text NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, id)
);
