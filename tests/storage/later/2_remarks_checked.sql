ALTER TABLE synk.job VALIDATE CONSTRAINT remark_length;
