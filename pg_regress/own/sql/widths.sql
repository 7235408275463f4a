-- Rows of every width: within a page, as wide as one may be, and wider by way of TOAST.
CREATE TABLE plain (id int PRIMARY KEY, v text);
ALTER TABLE plain ALTER v SET STORAGE PLAIN;
INSERT INTO plain SELECT w, repeat(chr(65 + w % 26), w) FROM generate_series(0, 8000) w;
SELECT count(*), sum(length(v)) FROM plain;
SELECT count(*) FROM plain WHERE v <> repeat(chr(65 + id % 26), id);
UPDATE plain SET v = repeat(chr(97 + id % 26), 8000 - id);
SELECT count(*), sum(length(v)) FROM plain;
SELECT count(*) FROM plain WHERE v <> repeat(chr(97 + id % 26), 8000 - id);
INSERT INTO plain VALUES (-1, repeat('x', 9000));
SELECT count(*) FROM plain WHERE id < 0;

CREATE TABLE external (id int PRIMARY KEY, v text);
ALTER TABLE external ALTER v SET STORAGE EXTERNAL;
INSERT INTO external SELECT w, repeat(md5(w::text), w) FROM generate_series(0, 3000, 7) w;
SELECT count(*), sum(length(v)) FROM external;
SELECT count(*) FROM external WHERE v <> repeat(md5(id::text), id);
BEGIN;
UPDATE external SET v = v || v WHERE id % 2 = 0;
SELECT sum(length(v)) FROM external;
ROLLBACK;
UPDATE external SET id = -id;
SELECT count(*) FROM external WHERE v <> repeat(md5((-id)::text), -id);

-- Many columns, most of them null; and none.
DO $$
BEGIN
    EXECUTE 'CREATE TABLE many (' || (SELECT string_agg('c' || i || ' int', ', ') FROM generate_series(1, 1600) i) || ')';
END $$;
INSERT INTO many (c1, c800, c1600) SELECT i, i, i FROM generate_series(1, 100) i;
ALTER TABLE many DROP c800;
UPDATE many SET c2 = c1600 WHERE c1 % 2 = 0;
SELECT count(*), sum(c1), sum(c2), sum(c1600) FROM many;
CREATE TABLE none ();
INSERT INTO none DEFAULT VALUES;
INSERT INTO none SELECT FROM none;
SELECT count(*) FROM none;
DELETE FROM none;
SELECT count(*) FROM none;

-- A column with a default that came after the rows, and one that went.
CREATE TABLE grown (a int);
INSERT INTO grown SELECT generate_series(1, 3);
ALTER TABLE grown ADD b text DEFAULT 'later', ADD c int;
ALTER TABLE grown DROP a;
INSERT INTO grown VALUES ('own', 1);
UPDATE grown SET c = 2 WHERE c IS NULL;
SELECT * FROM grown ORDER BY c, b;
DROP TABLE plain, external, many, none, grown;
