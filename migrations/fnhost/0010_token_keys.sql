-- The keys that sign and check an application's tokens, once `fnhost keys rotate` has made one.

CREATE TABLE token_key (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment  text NOT NULL,
    made_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- PKCS#8 PEM; whoever reads this schema can sign tokens, as with the variable of a version.
    private_key text NOT NULL,
    -- A JSON Web Key.
    public_key  jsonb NOT NULL,
    -- It signs at once, and those before it count no more: one of them has leaked.
    alone       boolean NOT NULL
);
CREATE INDEX token_key_by_deployment ON token_key (deployment, id);

REVOKE ALL ON token_key FROM PUBLIC;
