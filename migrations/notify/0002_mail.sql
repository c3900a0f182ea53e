-- Mails about accounts. Not in the list of notifications: whoever reads that by a token of somebody else's must not find a link
-- there that sets the password.

CREATE TABLE mail (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- ce_id of the mail.requested that caused it. Unique: the same event never sends twice.
    event_id        text COLLATE "C" NOT NULL CONSTRAINT mail_event UNIQUE,
    user_id         uuid NOT NULL,
    email           text NOT NULL,
    -- What it says: RESET_PASSWORD and the like.
    mail            text NOT NULL,
    subject         text NOT NULL,
    text            text NOT NULL,
    -- The address at its end, with a token that is good once; null where there is none, and once it has expired.
    link            text,
    link_expires_at timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX mail_of_address ON mail (email, id DESC);

-- For forgetting links that have expired, a few with each batch.
CREATE INDEX mail_with_link ON mail (link_expires_at) WHERE link IS NOT NULL;
