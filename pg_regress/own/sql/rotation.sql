-- Statements that write more than memory holds at once, and read what they wrote before.
CREATE TABLE big (id bigint PRIMARY KEY, a int, pad text);
INSERT INTO big SELECT i, 0, repeat(md5(i::text), 6) FROM generate_series(1, 60000) i;
SELECT count(*), sum(id), sum(length(pad)) FROM big;

-- A statement does not see its own rows.
INSERT INTO big SELECT id + 60000, a, pad FROM big;
SELECT count(*), sum(id) FROM big;
UPDATE big SET a = a + 1;
SELECT count(*), sum(a) FROM big;

-- A savepoint that takes back more than memory holds.
BEGIN;
SAVEPOINT s;
UPDATE big SET a = 1000;
DELETE FROM big WHERE id % 2 = 0;
SELECT count(*), sum(a) FROM big;
ROLLBACK TO s;
SELECT count(*), sum(a) FROM big;
UPDATE big SET a = a + 1 WHERE id % 3 = 0;
COMMIT;
SELECT count(*), sum(a) FROM big;

-- A large transaction that fails.
BEGIN;
DELETE FROM big;
INSERT INTO big SELECT i, 7, repeat('x', 200) FROM generate_series(1, 60000) i;
SELECT 1 / 0;
COMMIT;
SELECT count(*), sum(a), min(id), max(id) FROM big;
SET enable_seqscan = off;
SELECT count(*), sum(a) FROM big WHERE id > 0;
SELECT id, a, left(pad, 8) FROM big WHERE id IN (1, 60000, 60001, 120000, 120001) ORDER BY id;
RESET enable_seqscan;
VACUUM big;
SELECT count(*), sum(a) FROM big;
DROP TABLE big;
