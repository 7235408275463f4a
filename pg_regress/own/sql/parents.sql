-- One parent that every new child locks, while the parent itself changes.
CREATE TABLE parent (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE);
INSERT INTO parent VALUES (1), (2);
BEGIN;
DO $$
BEGIN
    FOR i IN 1..600 LOOP
        BEGIN
            INSERT INTO child VALUES (i, 1);
            UPDATE parent SET n = n + 1 WHERE id = 1;
            IF i % 4 = 0 THEN RAISE 'undo'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
SELECT * FROM parent ORDER BY id;
SELECT count(*), sum(id) FROM child;
COMMIT;
SELECT n FROM parent WHERE id = 1 FOR KEY SHARE;
SELECT n FROM parent WHERE id = 1 FOR UPDATE;

-- Keys that move take all children along.
UPDATE parent SET id = 10 WHERE id = 1;
SELECT parent, count(*) FROM child GROUP BY parent;
DELETE FROM parent WHERE id = 2;
\set VERBOSITY terse
INSERT INTO child VALUES (-1, 1);
\set VERBOSITY default
BEGIN;
SAVEPOINT s;
DELETE FROM parent WHERE id = 10;
SELECT count(*) FROM child;
ROLLBACK TO s;
SELECT count(*) FROM child;
COMMIT;
DELETE FROM parent WHERE id = 10;
SELECT count(*) FROM child;
DROP TABLE child, parent;
