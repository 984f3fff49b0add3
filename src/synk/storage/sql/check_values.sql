-- Reads the values of outcomes as ack.sql does, and nothing else: what is refused here is refused for
-- what it is, not for what the server is short of.
SELECT count(now() + g.retry_in_s * interval '1 second')
FROM unnest(%(results)s::jsonb[], %(errors)s::jsonb[], %(progress)s::jsonb[],
            %(checkpoints)s::jsonb[], %(outputs)s::text[], %(retry_at)s::timestamptz[],
            %(retry_in_s)s::float8[])
    AS g (result, error, progress, checkpoint, output, retry_at, retry_in_s)
