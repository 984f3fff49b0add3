-- Reads the values of outcomes as ack.sql does, and nothing else: what is refused here is refused for
-- what it is, not for what the server is short of.
SELECT count(*)
FROM unnest(%(results)s::jsonb[], %(errors)s::jsonb[], %(progress)s::jsonb[],
            %(checkpoints)s::jsonb[], %(outputs)s::text[]) AS g
