-- What the function keeps. fnhost runs this in the function's own schema, once; a change is a further file, 0002_….sql.
CREATE TABLE visit (
    page text PRIMARY KEY,
    visits bigint NOT NULL,
    seconds bigint NOT NULL
);
