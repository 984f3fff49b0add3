-- Four roles with no more rights than their work needs, named after the schema: synk_owner (whose
-- objects these are: migrations), synk_supervisor (runs jobs, and changes them), synk_producer
-- (inserts jobs, and reads none), synk_viewer (reads, and changes nothing). They cannot log in: grant
-- them to the roles that do. `synk migrate` makes them after the migrations, where it may.

-- What the table's rules do is not in the rights of who inserts a row.
ALTER FUNCTION synk.job_before_insert() SECURITY DEFINER;
ALTER FUNCTION synk.job_link() SECURITY DEFINER;
ALTER FUNCTION synk.job_release_if_ready(bigint, bigint[]) SECURITY DEFINER;
ALTER FUNCTION synk.job_after_end() SECURITY DEFINER;
ALTER FUNCTION synk.job_announce() SECURITY DEFINER;

