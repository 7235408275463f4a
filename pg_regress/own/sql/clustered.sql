-- CLUSTER by a sort and by the index: rows with one version and with several, seen by older snapshots, too.
CREATE TABLE clustered (id int PRIMARY KEY, key int, wide text, gone int);
ALTER TABLE clustered ALTER COLUMN wide SET STORAGE EXTERNAL;
CREATE INDEX clustered_key ON clustered (key);
CREATE INDEX clustered_half ON clustered ((key % 10), id);
INSERT INTO clustered SELECT i, (i * 7919) % 1000, CASE WHEN i % 100 = 7 THEN repeat('w' || i, 3000) END, i
    FROM generate_series(1, 1000) i;
UPDATE clustered SET gone = gone + 1 WHERE id % 3 = 0;
DELETE FROM clustered WHERE id % 5 = 0;
ALTER TABLE clustered DROP COLUMN gone;
CREATE FUNCTION is_in_order(by text) RETURNS TABLE (is_in_order bool, rows bigint, ids bigint, wide bigint) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format('SELECT bool_and(before <= now), count(*), sum(id), sum(length(wide)) FROM (
        SELECT id, wide, %1$s AS now, lag(%1$s) OVER (ORDER BY ctid) AS before FROM clustered) o', by);
END $$;
SET enable_indexscan = off;
CLUSTER clustered USING clustered_key;
SELECT * FROM is_in_order('key');
CLUSTER clustered USING clustered_half;
SELECT * FROM is_in_order('key % 10');
SET maintenance_work_mem = '1MB';
INSERT INTO clustered SELECT i, (i * 7919) % 1000, repeat('n', 500) FROM generate_series(1001, 6000) i;
CLUSTER clustered USING clustered_key;
SELECT * FROM is_in_order('key');
RESET maintenance_work_mem;
RESET enable_indexscan;
SET enable_sort = off;
CLUSTER clustered USING clustered_pkey;
SELECT * FROM is_in_order('id');
RESET enable_sort;
-- In a transaction that has changed rows itself.
BEGIN;
UPDATE clustered SET key = -key - 1 WHERE id % 2 = 0;
SAVEPOINT s;
DELETE FROM clustered WHERE id < 100;
ROLLBACK TO s;
SET LOCAL enable_indexscan = off;
CLUSTER clustered USING clustered_key;
SELECT * FROM is_in_order('key');
SELECT count(*) FROM clustered WHERE key < 0;
COMMIT;
SET enable_seqscan = off;
SELECT count(*), sum(id) FROM clustered WHERE key < 0;
RESET enable_seqscan;
SELECT count(*), sum(id), sum(length(wide)) FROM clustered;
