held AS MATERIALIZED (
    -- As they were when they were looked at; what somebody else has locked is left alone.
    SELECT j.id, j.state, j.owner, j.depends_on = '{}' AND j.unique_scope IS NULL AS is_alone
    FROM wanted AS w JOIN synk.job AS j ON j.id = w.id
    WHERE w.can AND j.state = w.state AND j.finalized_at IS NOT DISTINCT FROM w.finalized_at
      AND j.owner IS NOT DISTINCT FROM w.owner
    FOR UPDATE OF j SKIP LOCKED
)
