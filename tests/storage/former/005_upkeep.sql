-- Each job leaves two or three dead versions of its row behind, whatever the size of the table: they
-- are vacuumed by their number, not by their share, and without long pauses. No room is left on a page
-- for new versions (fillfactor): the state is in the predicates of the indexes, so that no change of
-- it is a heap-only one, however much room there is.
ALTER TABLE synk.job SET (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_vacuum_cost_limit = 2000,
    autovacuum_vacuum_cost_delay = 1,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_analyze_threshold = 20000
);
ALTER TABLE synk.client SET (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 200
);
