-- Numbers of versions go round where nobody can see the lap before; where somebody can, the row moves.
CREATE TABLE lap (id int PRIMARY KEY, n int, tag text) USING ssdlsm;
INSERT INTO lap VALUES (1, 0, 'a'), (2, 0, 'b');
CREATE FUNCTION root(place tid, OUT block int, OUT slot int, OUT number int) LANGUAGE sql AS
  'SELECT (place::text::point)[0]::int, (place::text::point)[1]::int % 128, (place::text::point)[1]::int / 128';
CREATE PROCEDURE update_times(which int, times int) LANGUAGE plpgsql AS
  'BEGIN FOR i IN 1..times LOOP UPDATE lap SET n = n + 1 WHERE id = which; COMMIT; END LOOP; END';
-- Each update is a transaction: one place for ever.
CALL update_times(1, 510);
SELECT id, n, root(ctid) FROM lap ORDER BY id;
CALL update_times(1, 1);
SELECT id, n, root(ctid) FROM lap ORDER BY id;
CALL update_times(1, 1600);
CHECKPOINT;
CALL update_times(1, 300);
SELECT id, n, root(ctid) FROM lap ORDER BY id;
-- One transaction: its own versions are in the way, and the row moves once in a lap.
DO 'BEGIN FOR i IN 1..1200 LOOP UPDATE lap SET n = n + 1 WHERE id = 2; END LOOP; END';
SELECT id, n, (root(ctid)).number FROM lap WHERE id = 2;
-- What was rolled back takes no part in it.
CALL update_times(1, 100);
BEGIN;
SAVEPOINT s;
UPDATE lap SET tag = 'never' WHERE id = 1;
ROLLBACK TO s;
UPDATE lap SET tag = 'after' WHERE id = 1;
COMMIT;
CALL update_times(1, 1000);
SELECT id, n, tag, root(ctid) FROM lap WHERE id = 1;
-- By index, by place, by a scan of all.
SET enable_seqscan = off;
SELECT n FROM lap WHERE id = 1;
SELECT a.n FROM lap a, lap b WHERE a.ctid = b.ctid AND b.id = 1;
RESET enable_seqscan;
SELECT id, n FROM lap ORDER BY id;
DROP TABLE lap;
DROP FUNCTION root;
DROP PROCEDURE update_times;
