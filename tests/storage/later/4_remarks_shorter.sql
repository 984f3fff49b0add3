ALTER TABLE synk.job DROP CONSTRAINT remark_length;
ALTER TABLE synk.job ADD CONSTRAINT remark_length CHECK (char_length(remark) < 50) NOT VALID;
