-- The kinds that a supervisor has workers for; NULL: it did not say. A kind that waits and that nobody
-- knows can be told of then.
ALTER TABLE synk.client ADD COLUMN kinds text[];
