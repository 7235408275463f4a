-- Cursors that stay where they are while memory is written to files under them.
CREATE TABLE walked (id int PRIMARY KEY, v int, pad text);
INSERT INTO walked SELECT i, i, repeat('p', 200) FROM generate_series(1, 20000) i;
BEGIN;
DECLARE by_index SCROLL CURSOR FOR SELECT id, v FROM walked ORDER BY id;
DECLARE by_table NO SCROLL CURSOR FOR SELECT count(*) OVER (), v FROM walked LIMIT 2;
DECLARE kept SCROLL CURSOR WITH HOLD FOR SELECT id, v FROM walked WHERE id % 1000 = 0 ORDER BY id;
FETCH 2 FROM by_index;
FETCH 1 FROM kept;
UPDATE walked SET v = -v, pad = repeat('q', 220);
CHECKPOINT;
FETCH 2 FROM by_index;
MOVE ABSOLUTE 10000 FROM by_index;
DELETE FROM walked WHERE id BETWEEN 9990 AND 10010;
INSERT INTO walked SELECT i, 0, repeat('r', 300) FROM generate_series(20001, 60000) i;
CHECKPOINT;
FETCH 2 FROM by_index;
FETCH BACKWARD 3 FROM by_index;
FETCH LAST FROM by_index;
FETCH PRIOR FROM by_index;
SELECT count FROM (SELECT count(*) FROM walked) c;
COMMIT;
FETCH 2 FROM kept;
VACUUM walked;
CHECKPOINT;
FETCH LAST FROM kept;
FETCH FIRST FROM kept;
CLOSE kept;

-- WHERE CURRENT OF a row that has gone to a file meanwhile.
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM walked WHERE id BETWEEN 5 AND 7 ORDER BY id FOR UPDATE;
FETCH 1 FROM c \g /dev/null
CHECKPOINT;
UPDATE walked SET v = 555 WHERE CURRENT OF c;
FETCH 1 FROM c \g /dev/null
CHECKPOINT;
DELETE FROM walked WHERE CURRENT OF c;
COMMIT;
SELECT id, v FROM walked WHERE id BETWEEN 4 AND 8 ORDER BY id;
DROP TABLE walked;
