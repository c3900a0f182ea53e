-- Who vouches for code.

-- In minisign's form; null where nobody signed it. Checked by each host that loads the code and was given public keys.
ALTER TABLE code ADD COLUMN signature text;
