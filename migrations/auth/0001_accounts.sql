-- Accounts and the refresh tokens that keep them logged in.
--
-- Run by the owner role with search_path = auth; the role fn_auth may read and write the rows.

CREATE TABLE account (
    id              uuid PRIMARY KEY,
    -- Normalised: trimmed and in lower case.
    email           text NOT NULL CONSTRAINT account_email UNIQUE,
    name            text,
    -- Argon2id in PHC form, parameters included, so that they can be raised later.
    password_hash   text NOT NULL,
    -- Only an operator makes an admin: ./dev admin EMAIL.
    role            text NOT NULL DEFAULT 'customer' CHECK (role IN ('customer', 'admin')),
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- Refresh tokens are opaque, used once and replaced. Only their hash is kept, so a copy of this table logs nobody in.
CREATE TABLE refresh_token (
    -- SHA-256 of the token.
    hash            bytea PRIMARY KEY,
    account_id      uuid NOT NULL REFERENCES account ON DELETE CASCADE,
    -- The login it descends from. A token that comes back a second time was copied: the whole family ends.
    family          uuid NOT NULL,
    expires_at      timestamptz NOT NULL,
    -- When it was exchanged; null while it can be.
    used_at         timestamptz
);

CREATE INDEX refresh_token_of_family ON refresh_token (family);

-- For clearing what has expired, at the account's next login.
CREATE INDEX refresh_token_of_account ON refresh_token (account_id, expires_at);
