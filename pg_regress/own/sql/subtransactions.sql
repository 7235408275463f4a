-- Ten thousand subtransactions in one transaction, half of them rolled back, and one as deep as that.
CREATE TABLE sub (id int PRIMARY KEY, n int);
INSERT INTO sub VALUES (0, 0);
BEGIN;
DO $$
BEGIN
    FOR i IN 1..10000 LOOP
        BEGIN
            INSERT INTO sub VALUES (i, i);
            IF i % 20 IN (1, 2) THEN UPDATE sub SET n = n + 1 WHERE id = 0; END IF;
            IF i % 2 = 0 THEN RAISE 'undo'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
SELECT count(*), sum(id), sum(n) FROM sub;
COMMIT;
SELECT count(*), sum(id), sum(n) FROM sub;
SELECT n FROM sub WHERE id = 0;

-- The same, and all of it is rolled back in the end.
BEGIN;
DO $$
BEGIN
    FOR i IN 1..10000 LOOP
        BEGIN
            DELETE FROM sub WHERE id = i;
            IF i % 20 = 1 THEN UPDATE sub SET n = n - 1 WHERE id = 0; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
SELECT count(*), sum(n) FROM sub;
ROLLBACK;
SELECT count(*), sum(id), sum(n) FROM sub;

-- Deep rather than many.
CREATE FUNCTION dive(depth int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sub SET n = n + 1 WHERE id = 0;
    IF depth > 0 THEN PERFORM dive(depth - 1); ELSE RAISE 'bottom'; END IF;
    UPDATE sub SET n = n + 1000 WHERE id = 0;
EXCEPTION WHEN raise_exception THEN
    UPDATE sub SET n = n + 1000000 WHERE id = 0;
END $$;
BEGIN;
SELECT dive(100);
SELECT n FROM sub WHERE id = 0;
COMMIT;
SELECT n FROM sub WHERE id = 0;
DROP FUNCTION dive;
DROP TABLE sub;
