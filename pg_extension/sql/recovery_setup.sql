-- State that must come back after a crash: logged rows, prepared changes and locks, and an unlogged table that must not.
CREATE TABLE kept (id int PRIMARY KEY, v text) USING ssdlsm;
CREATE UNLOGGED TABLE emptied (id int PRIMARY KEY, v text) USING ssdlsm;
INSERT INTO kept SELECT g, 'before' FROM generate_series(1, 5000) g;
INSERT INTO emptied SELECT g, 'before' FROM generate_series(1, 5000) g;
CHECKPOINT;
UPDATE kept SET v = 'after' WHERE id % 2 = 0;
INSERT INTO emptied VALUES (9999, 'after');
BEGIN;
UPDATE kept SET v = 'prepared' WHERE id = 1;
SELECT id FROM kept WHERE id = 3 FOR UPDATE;
PREPARE TRANSACTION 'kept';
