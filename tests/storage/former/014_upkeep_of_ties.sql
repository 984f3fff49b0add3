-- Each transaction that inserts dependents leaves dead rows in one small table, each removal of completed
-- jobs in another: they are vacuumed by their number.
ALTER TABLE synk.link SET (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 1000
);
ALTER TABLE synk.completed SET (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 1000
);
