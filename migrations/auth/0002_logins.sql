-- Logins as rows, so that one can be ended for good, and how often an attempt to log in has failed.

-- One login: the tokens that descend from it are its family. Ending it ends them all, those included that an exchange
-- under way is just making: it has to write this row too.
CREATE TABLE login (
    id              uuid PRIMARY KEY,
    account_id      uuid NOT NULL REFERENCES account ON DELETE CASCADE,
    -- SHA-256 of the client's network, in base64url; null for logins from before this migration. An account is not
    -- locked for networks that it has logged in from.
    network         text,
    -- When its newest refresh token expires.
    expires_at      timestamptz NOT NULL,
    -- Logged out, or a token was used twice; null while it goes on.
    ended_at        timestamptz
);

-- For an account's known networks, and for clearing what has expired at its next login.
CREATE INDEX login_of_account ON login (account_id, network);

INSERT INTO login (id, account_id, expires_at)
SELECT family, account_id, max(expires_at) FROM refresh_token GROUP BY family, account_id;

-- Attempts that are counted: of an account from a network, of an account, of a network.
CREATE TABLE throttle (
    -- SHA-256 in base64url, so that neither addresses nor misspelt passwords in the wrong field lie about.
    subject         text PRIMARY KEY,
    failures        integer NOT NULL,
    -- Until then nothing is tried.
    locked_until    timestamptz NOT NULL,
    touched_at      timestamptz NOT NULL
);

-- For clearing what is forgotten, a few rows with each attempt.
CREATE INDEX throttle_by_age ON throttle (touched_at);
