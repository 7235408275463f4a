-- A row that changes more often than a table access method can number its versions, while somebody holds an old one.
CREATE TABLE counted (id int PRIMARY KEY, n int, note text);
CREATE INDEX counted_note ON counted (note);
INSERT INTO counted SELECT i, 0, 'note ' || i FROM generate_series(1, 3) i;

-- In one transaction, with a cursor that keeps the first version alive.
BEGIN;
DECLARE old CURSOR FOR SELECT * FROM counted ORDER BY id;
FETCH 1 FROM old;
DO $$ BEGIN FOR i IN 1..3000 LOOP UPDATE counted SET n = n + 1 WHERE id = 2; END LOOP; END $$;
FETCH ALL FROM old;
SELECT * FROM counted ORDER BY id;
SET LOCAL enable_seqscan = off;
SELECT * FROM counted WHERE id = 2;
SELECT * FROM counted WHERE note = 'note 2';
COMMIT;

-- In many transactions.
CREATE PROCEDURE count_up(times int) LANGUAGE plpgsql AS $$
BEGIN FOR i IN 1..times LOOP UPDATE counted SET n = n + 1 WHERE id = 3; COMMIT; END LOOP; END $$;
CALL count_up(1200);
SELECT * FROM counted ORDER BY id;

-- With a holder in a subtransaction that is rolled back.
BEGIN;
SAVEPOINT s;
DO $$ BEGIN FOR i IN 1..700 LOOP UPDATE counted SET n = n + 1; END LOOP; END $$;
SELECT sum(n) FROM counted;
ROLLBACK TO s;
SELECT sum(n) FROM counted;
DO $$ BEGIN FOR i IN 1..700 LOOP UPDATE counted SET n = n + 1; END LOOP; END $$;
COMMIT;
SELECT * FROM counted ORDER BY id;

-- RETURNING, the own ctid, and WHERE CURRENT OF after many versions.
DO $$
DECLARE place tid; found int; c CURSOR FOR SELECT * FROM counted WHERE id = 1 FOR UPDATE; r record;
BEGIN
    FOR i IN 1..600 LOOP
        UPDATE counted SET n = -i WHERE id = 1 RETURNING ctid INTO place;
        SELECT n INTO found FROM counted WHERE ctid = place;
        IF found IS DISTINCT FROM -i THEN RAISE 'version % at % reads %', i, place, found; END IF;
    END LOOP;
    OPEN c;
    FETCH c INTO r;
    UPDATE counted SET n = 42 WHERE CURRENT OF c;
    CLOSE c;
END $$;
SELECT * FROM counted ORDER BY id;
VACUUM counted;
SET enable_seqscan = off;
SELECT * FROM counted WHERE note LIKE 'note%' ORDER BY note;
RESET enable_seqscan;
DROP PROCEDURE count_up;
DROP TABLE counted;
