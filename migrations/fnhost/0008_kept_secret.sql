-- The secret behind the roles' passwords where nobody gave one: random, so that a role that knows its own password learns
-- nothing of the owner's. Null where one is given, which is kept nowhere. Only the owner reads this table.
ALTER TABLE role_secret ADD COLUMN secret text;
