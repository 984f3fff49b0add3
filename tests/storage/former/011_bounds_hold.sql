-- The rows of before 006 keep its bounds as well. In a transaction of its own: the whole table is
-- read, while everybody reads and writes it.
ALTER TABLE synk.job VALIDATE CONSTRAINT times_can_be_read;
ALTER TABLE synk.job VALIDATE CONSTRAINT counts_leave_room;
ALTER TABLE synk.job VALIDATE CONSTRAINT args_size;
