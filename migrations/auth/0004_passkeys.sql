-- Passkeys: public keys that sign in without a password.

CREATE TABLE passkey (
    -- What its owner names it by.
    id              uuid PRIMARY KEY,
    account_id      uuid NOT NULL REFERENCES account ON DELETE CASCADE,
    -- What its authenticator names it by. The standard wants it to be nobody else's.
    credential_id   bytea NOT NULL CONSTRAINT passkey_credential UNIQUE
                    CHECK (octet_length(credential_id) BETWEEN 1 AND 1023),
    -- A COSE_Key as the authenticator gave it: it says the algorithm too. A copy of this table signs nobody in.
    public_key      bytea NOT NULL,
    -- Falls back where somebody uses a copy; stays 0 where the authenticator does not count.
    sign_count      bigint NOT NULL CHECK (sign_count >= 0),
    -- Whether it may be copied to other devices of its owner, which an authenticator may not change its mind about.
    backup_eligible boolean NOT NULL,
    -- So that its owner recognises it.
    name            text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- When it signed in last; null until it does.
    used_at         timestamptz
);

CREATE INDEX passkey_of_account ON passkey (account_id);

-- Challenges are signed, so that asking for one writes nothing. What is good once is the use.
CREATE TABLE used_challenge (
    -- SHA-256 of the challenge.
    hash            bytea PRIMARY KEY,
    -- When it has been over for long enough to be forgotten.
    kept_until      timestamptz NOT NULL
);

-- For clearing what is over, a few rows with each use.
CREATE INDEX used_challenge_by_age ON used_challenge (kept_until);

-- What it was begun with. Hosts that run the code before this migration begin logins by passwords alone.
ALTER TABLE login ADD COLUMN method text NOT NULL DEFAULT 'password' CHECK (method IN ('password', 'passkey'));
