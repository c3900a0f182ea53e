-- What an account's owner can see and end: addresses that are confirmed, links sent by mail, logins with what they were made
-- on, and what happened to the account.

-- When its owner showed that mails to the address arrive; null until then. Accounts from before this migration never did.
ALTER TABLE account ADD COLUMN verified_at timestamptz;

ALTER TABLE login
    -- A login ends at an age, however often its tokens are exchanged. Those from before this migration begin with it.
    ADD COLUMN begun_at timestamptz NOT NULL DEFAULT now(),
    -- Its last exchange.
    ADD COLUMN used_at  timestamptz NOT NULL DEFAULT now(),
    -- What the client called itself, so that its owner recognises it; empty where it said nothing.
    ADD COLUMN device   text NOT NULL DEFAULT '';

-- What a link in a mail carries: signed, good once, and for a short time.
CREATE TABLE link (
    -- SHA-256 of the token, so that a copy of this table opens nothing.
    hash            bytea PRIMARY KEY,
    account_id      uuid NOT NULL REFERENCES account ON DELETE CASCADE,
    -- A link that confirms an address sets no password.
    purpose         text NOT NULL CHECK (purpose IN ('confirm-address', 'reset-password')),
    expires_at      timestamptz NOT NULL,
    -- When it was followed; null while it can be.
    used_at         timestamptz
);

-- For ending the others of an account, and for clearing what has expired.
CREATE INDEX link_of_account ON link (account_id);

-- What happened to an account, for its owner alone. Network and client are written out, since hashes would tell nobody
-- whether it was them; so rows go after 90 days, and all but the newest 200 of an account before.
CREATE TABLE activity (
    -- Newest first is descending id; also the cursor of the list.
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id      uuid NOT NULL REFERENCES account ON DELETE CASCADE,
    at              timestamptz NOT NULL DEFAULT now(),
    -- SIGNED_IN and the like. An attempt is SIGN_IN_FAILED until it turns out to be right.
    what            text NOT NULL,
    -- An IPv4 address or the first 64 bits of an IPv6 address; empty where it is not known.
    network         text NOT NULL,
    device          text NOT NULL
);

CREATE INDEX activity_of_account ON activity (account_id, id DESC);
