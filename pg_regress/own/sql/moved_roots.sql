-- Updates of indexed columns, seen by triggers: each must get exactly the versions of its own update.
CREATE TABLE moved (id int PRIMARY KEY, key int, plain int);
CREATE INDEX moved_key ON moved (key);
CREATE TABLE seen (step serial, what text, old_key int, new_key int, old_plain int, new_plain int);

CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen (what, old_key, new_key, old_plain, new_plain)
        VALUES (TG_NAME, OLD.key, NEW.key, OLD.plain, NEW.plain);
    RETURN NULL;
END $$;
CREATE FUNCTION note_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen (what, old_key, new_key, old_plain, new_plain)
        SELECT TG_NAME, o.key, n.key, o.plain, n.plain FROM before o JOIN after n USING (id) ORDER BY id;
    RETURN NULL;
END $$;
CREATE TRIGGER each_row AFTER UPDATE ON moved FOR EACH ROW EXECUTE FUNCTION note_row();
CREATE TRIGGER statement AFTER UPDATE ON moved REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION note_rows();
CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON moved DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION note_row();

INSERT INTO moved SELECT i, i * 10, 0 FROM generate_series(1, 2) i;
BEGIN;
UPDATE moved SET key = key + 1;
UPDATE moved SET plain = plain + 1;
UPDATE moved SET key = key + 1, plain = plain + 1 WHERE id = 1;
SAVEPOINT s;
UPDATE moved SET key = -1;
ROLLBACK TO s;
UPDATE moved SET key = key + 100 WHERE id = 2;
COMMIT;
SELECT what, old_key, new_key, old_plain, new_plain FROM seen ORDER BY step;
SELECT * FROM moved ORDER BY id;

-- The index finds each row once, at its last key alone.
SET enable_seqscan = off;
SELECT * FROM moved WHERE key < 1000 ORDER BY key;
SELECT * FROM moved WHERE key IN (-1, 10, 11, 20, 21) ORDER BY key;
RESET enable_seqscan;

-- A unique key that is handed around, and a conflict with a row that has moved.
CREATE TABLE ring (id int PRIMARY KEY, place int UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO ring SELECT i, i FROM generate_series(1, 5) i;
BEGIN;
DO $$ BEGIN FOR turn IN 1..200 LOOP UPDATE ring SET place = place % 5 + 1; END LOOP; END $$;
COMMIT;
SELECT * FROM ring ORDER BY id;
UPDATE ring SET id = id + 10;
INSERT INTO ring VALUES (11, 9) ON CONFLICT (id) DO UPDATE SET place = ring.place + 100 RETURNING *;
INSERT INTO ring VALUES (1, 9) ON CONFLICT (id) DO NOTHING RETURNING *;
SELECT * FROM ring ORDER BY id;
DROP TABLE moved, seen, ring;
DROP FUNCTION note_row, note_rows;
