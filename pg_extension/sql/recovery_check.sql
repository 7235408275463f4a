-- Run after `recovery_setup` and a crash.
SELECT count(*), count(*) FILTER (WHERE v = 'after') FROM kept;
SELECT count(*) FROM emptied;
INSERT INTO emptied VALUES (1, 'again');
SELECT * FROM emptied;
SET lock_timeout = '200ms';
UPDATE kept SET v = 'lost' WHERE id = 1;
UPDATE kept SET v = 'lost' WHERE id = 3;
RESET lock_timeout;
COMMIT PREPARED 'kept';
UPDATE kept SET v = 'free' WHERE id = 3;
SELECT * FROM kept WHERE id IN (1, 2, 3) ORDER BY id;
DROP TABLE kept, emptied;
