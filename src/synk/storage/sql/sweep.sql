-- Looks at up to %(limit)s jobs whose time has come: cancels those that nobody wants any more, removes
-- those that were kept for long enough, and notes when the others are to be looked at next.
--
-- What somebody else has locked is looked at again in a second. So is what a claim has, which may come
-- back without having begun; and what ended before it began, since it may begin anew.
WITH due AS MATERIALIZED (
    SELECT w.id FROM synk.watched AS w WHERE w.at <= now()
    ORDER BY w.at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT d.id,
           j.state IN ('available', 'scheduled', 'pending') AND has.not_begun
               AND j.start_before <= now() AS is_expired,
           j.finalized_at + has.keep <= now() AS is_old,
           least(
               CASE WHEN j.start_before IS NULL OR j.state = 'completed' OR NOT has.not_begun THEN NULL
                    WHEN j.start_before > now() THEN j.start_before
                    WHEN j.state = 'cancelled' THEN now() + has.lain
                    ELSE now() + interval '1 second' END,
               CASE WHEN has.keep IS NULL THEN NULL
                    WHEN j.finalized_at IS NULL THEN now() + greatest(has.keep, has.lain)
                    ELSE greatest(j.finalized_at + has.keep, now() + interval '1 second') END) AS next
    FROM due AS d LEFT JOIN synk.job AS j ON j.id = d.id
    CROSS JOIN LATERAL (
        SELECT j.attempt - j.uncounted = CASE WHEN j.state = 'running' THEN 1 ELSE 0 END AS not_begun,
               CASE WHEN j.keep < interval '1000 years' THEN j.keep END AS keep,
               -- The longer it has been there, the less often it is looked at.
               greatest(interval '1 minute', (now() - j.created_at) / 4) AS lain
        OFFSET 0
    ) AS has
), held AS MATERIALIZED (
    -- Once more, of the row as it is when it is locked.
    SELECT j.id, g.is_old
    FROM judged AS g JOIN synk.job AS j ON j.id = g.id
    WHERE CASE WHEN g.is_expired THEN j.state IN ('available', 'scheduled', 'pending')
                    AND j.attempt = j.uncounted AND j.start_before <= now()
               WHEN g.is_old THEN j.finalized_at + j.keep <= now() END
    FOR UPDATE OF j SKIP LOCKED
), expired AS (
    UPDATE synk.job AS j SET state = 'cancelled', cancel_reason = 'expired'
    FROM held AS h WHERE j.id = h.id AND h.is_old IS NOT TRUE
    RETURNING j.id
), removed AS (
    DELETE FROM synk.job AS j USING held AS h WHERE j.id = h.id AND h.is_old RETURNING j.id
), moved AS (
    UPDATE synk.watched AS w SET at = g.next FROM judged AS g WHERE w.id = g.id AND g.next IS NOT NULL
), dropped AS (
    DELETE FROM synk.watched AS w USING judged AS g WHERE w.id = g.id AND g.next IS NULL
)
SELECT (SELECT count(*) FROM due) AS looked, (SELECT count(*) FROM expired) AS expired,
       (SELECT count(*) FROM removed) AS removed
