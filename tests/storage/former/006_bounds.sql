-- What no reader could read and no statement could count further is refused, whoever writes it: one
-- such row would stand in the way of all others of its queue. The rows that are there are looked at
-- later (011), beside everybody's work.
ALTER TABLE synk.job
    -- The times that Python has.
    ADD CONSTRAINT times_can_be_read CHECK (
        created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'
        AND scheduled_at >= '0001-01-01 00:00:00+00' AND scheduled_at < '10000-01-01 00:00:00+00'
        AND attempted_at >= '0001-01-01 00:00:00+00' AND attempted_at < '10000-01-01 00:00:00+00'
    ) NOT VALID,
    -- uncounted is at most attempt.
    ADD CONSTRAINT counts_leave_room CHECK (
        attempt <= 2000000000 AND crashes BETWEEN 0 AND 1000000 AND lost BETWEEN 0 AND 1000000
    ) NOT VALID,
    -- In PostgreSQL's own form, in which the largest that a client lets through is some 6 MiB.
    ADD CONSTRAINT args_size CHECK (pg_column_size(args) <= 8388608) NOT VALID;
