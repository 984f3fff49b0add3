-- All of a job: what lists have, and what can be long.
-- include: listed_columns
       , j.args::text AS args, j.attempted_by, j.depends_on,
       CASE WHEN j.unmet > 0 THEN ARRAY(
           SELECT d.id FROM unnest(j.depends_on) WITH ORDINALITY AS d (id, n)
           WHERE EXISTS (SELECT FROM synk.tie AS t WHERE t.dependency = d.id AND t.dependent = j.id)
           ORDER BY d.n) ELSE '{}' END AS waiting_on,
       to_jsonb(j.errors)::text AS errors, j.result::text AS result, j.output,
       j.progress::text AS progress, j.checkpoint::text AS checkpoint,
       j.meta::text AS meta,
       CASE WHEN j.start_before IS NOT NULL
            THEN least(greatest(j.start_before, '0001-01-02 00:00:00+00'), '9999-12-30 00:00:00+00')
       END AS start_before,
       (1000000 * extract(epoch FROM least(j.keep, interval '1000000 days')))::bigint AS keep,
       CASE WHEN j.unique_scope IS NOT NULL THEN (
           j.unique_scope || jsonb_build_object('job_id', (
               SELECT h.id FROM synk.job AS h
               WHERE h.unique_key = synk.unique_key(j.kind, j.queue, j.args, j.unique_scope)
           )))::text END AS "unique"
