-- The bound that 017 made anew holds for every row: looked through without holding anybody up.
ALTER TABLE synk.job VALIDATE CONSTRAINT lists_are_flat;
