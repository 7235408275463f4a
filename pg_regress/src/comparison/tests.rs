use super::*;

const PLACES: &[&str] = &["ctid", "size"];

fn verdict(expected: &str, actual: &str, script: Script<'_>) -> Verdict {
    let place_columns: Vec<String> = PLACES.iter().map(|&c| c.to_owned()).collect();
    compare(expected, actual, script, Rules { access_method: "ssdlsm", place_columns: &place_columns, outcome: None })
}

/// The verdict on one statement that printed `expected` and `actual`.
fn on(statement: &str, expected: &str, actual: &str) -> Verdict {
    let script = format!("{statement}\nselect 'end';\n");
    let output = |printed: &str| format!("{statement}\n{printed}select 'end';\n");
    verdict(&output(expected), &output(actual), Script::Sql(&script))
}

fn only(kind: Kind) -> Verdict {
    Verdict::Explained(BTreeSet::from([kind]))
}

fn is_different(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Different(_))
}

const AB: &str = " a | b \n---+---\n 1 | x\n 2 | y\n(2 rows)\n\n";
const BA: &str = " a | b \n---+---\n 2 | y\n 1 | x\n(2 rows)\n\n";

#[test]
fn equal_texts_need_no_explanation() {
    assert_eq!(on("select * from t;", AB, AB), Verdict::Explained(BTreeSet::new()));
}

#[test]
fn rows_of_a_query_may_come_in_any_order() {
    for statement in [
        "select * from t;",
        "SELECT * FROM t -- order by a\n;",
        "select 'order by' from t;",
        "select sum(a) over (order by b) from t;",
        "select array_agg(a order by a) from t;",
        "with x as (select 1) select * from t;",
        "table t;",
        "(select * from t) union all (select * from u);",
        "update t set a = a returning *;",
        "select * from t \\g",
    ] {
        assert_eq!(on(statement, AB, BA), only(Kind::RowOrder), "{statement}");
    }
}

#[test]
fn rows_that_an_order_by_sorts_may_not() {
    for statement in [
        "select * from t order by a;",
        "select * from t\nORDER   BY a;",
        "select * from (select * from t order by a) s;",
        "(select * from t order by a);",
        "with x as (select * from t order by 1) select * from x;",
        "explain select * from t;",
        "select * from explain_parallel('select * from t');",
        "values (2), (1);",
        "select unnest(a);",
        "show all;",
        "\\d t",
        "select * from t \\gdesc",
    ] {
        assert!(is_different(&on(statement, AB, BA)), "{statement}");
    }
}

#[test]
fn two_statements_of_a_line_need_both_be_open() {
    assert_eq!(on("select * from t; select * from u;", AB, BA), only(Kind::RowOrder));
    assert!(is_different(&on("select * from t; select * from u order by 1;", AB, BA)));
}

#[test]
fn another_value_or_count_is_a_difference() {
    let other = BA.replace('y', "z");
    assert!(is_different(&on("select * from t;", AB, &other)));
    let fewer = " a | b \n---+---\n 1 | x\n(1 row)\n\n";
    assert!(is_different(&on("select * from t;", AB, fewer)));
    let twice = " a | b \n---+---\n 1 | x\n 1 | x\n(2 rows)\n\n";
    assert!(is_different(&on("select * from t;", AB, twice)));
    let header = BA.replace(" b ", " c ");
    assert!(is_different(&on("select * from t;", AB, &header)));
}

#[test]
fn rows_do_not_move_between_tables() {
    let (one, two) = (" a \n---\n 1\n(1 row)\n\n", " a \n---\n 2\n(1 row)\n\n");
    let statement = "select 1\\; select 2;";
    assert!(is_different(&on(statement, &format!("{one}{two}"), &format!("{two}{one}"))));
    let script = "select 1;\nselect 2;\n";
    let output = |first: &str, second: &str| format!("select 1;\n{first}select 2;\n{second}");
    assert!(is_different(&verdict(&output(one, two), &output(two, one), Script::Sql(script))));
}

#[test]
fn values_with_line_breaks_stay_whole() {
    let rows = |first: &str, second: &str| format!(" a | b \n---+---\n{first}{second}(2 rows)\n\n");
    let (one, two) = (" 1 | x+\n   | y\n", " 2 | u+\n   | v\n");
    assert_eq!(on("select * from t;", &rows(one, two), &rows(two, one)), only(Kind::RowOrder));
    let mixed = rows(" 1 | x+\n   | v\n", " 2 | u+\n   | y\n");
    assert!(is_different(&on("select * from t;", &rows(one, two), &mixed)));
}

#[test]
fn cursors_and_prepared_statements_are_as_their_queries() {
    for (declare, is_open) in
        [("declare c cursor for select * from t;", true), ("declare c cursor for select * from t order by a;", false)]
    {
        let script = format!("{declare}\nfetch all from c;\n");
        let output = |table: &str| format!("{declare}\nfetch all from c;\n{table}");
        let found = verdict(&output(AB), &output(BA), Script::Sql(&script));
        assert_eq!(found == only(Kind::RowOrder), is_open, "{declare}");
    }
    assert!(is_different(&on("fetch all from unknown;", AB, BA)));
    let script = "prepare p as select * from t;\nexecute p(1);\n";
    let output = |table: &str| format!("prepare p as select * from t;\nexecute p(1);\n{table}");
    assert_eq!(verdict(&output(AB), &output(BA), Script::Sql(script)), only(Kind::RowOrder));
}

#[test]
fn copied_rows_and_messages_of_rows_may_come_in_any_order() {
    assert_eq!(on("copy t to stdout;", "1\tx\n2\ty\n", "2\ty\n1\tx\n"), only(Kind::RowOrder));
    assert!(is_different(&on("copy (select * from t order by 1) to stdout;", "1\n2\n", "2\n1\n")));
    let (one, two) = ("NOTICE:  row 1\nDETAIL:  one\n", "NOTICE:  row 2\n");
    assert_eq!(on("update t set a = 1;", &format!("{one}{two}"), &format!("{two}{one}")), only(Kind::RowOrder));
    let torn = "NOTICE:  row 1\nNOTICE:  row 2\nDETAIL:  one\n";
    assert!(is_different(&on("update t set a = 1;", &format!("{one}{two}"), torn)));
    assert!(is_different(&on("update t set a = 1;", one, "")));
    assert!(is_different(&on("do $$ begin end $$;", &format!("{one}{two}"), &format!("{two}{one}"))));
    let error = "ERROR:  no\n";
    assert!(is_different(&on("update t set a = 1;", &format!("{one}{error}"), &format!("{error}{one}"))));
    assert!(is_different(&on("update t set a = 1;", "ERROR:  row 1\n", "ERROR:  row 2\n")));
}

#[test]
fn copied_rows_are_known_behind_comments_and_in_groups() {
    assert_eq!(on("-- all of it\ncopy t to stdout;", "1\tx\n2\ty\n", "2\ty\n1\tx\n"), only(Kind::RowOrder));
    let group = "select 1 from t \\; copy t to stdout \\; select 2 from t;";
    let one = " ?column? \n----------\n        1\n(1 row)\n\n";
    assert_eq!(on(group, &format!("{one}a\nb\n{one}"), &format!("{one}b\na\n{one}")), only(Kind::RowOrder));
    assert!(is_different(&on(group, &format!("{one}a\nb\n{one}"), &format!("{one}b\nc\n{one}"))));
}

#[test]
fn an_order_by_orders_rows_and_no_messages() {
    let (one, two) = ("NOTICE:  row 1\n", "NOTICE:  row 2\n");
    let (forth, back) = (format!("{one}{two}"), format!("{two}{one}"));
    let statement = "select * from t where f(a) order by a;";
    assert_eq!(on(statement, &format!("{forth}{AB}"), &format!("{back}{AB}")), only(Kind::RowOrder));
    assert!(is_different(&on(statement, &format!("{forth}{AB}"), &format!("{back}{BA}"))));
    assert!(is_different(&on(statement, &format!("{forth}{AB}"), &format!("{one}{AB}"))));
    assert!(is_different(&on("select f(1), f(2) order by 1;", &forth, &back)), "no rows are visited");
    assert!(is_different(&on("copy (select * from t order by 1) to stdout;", "1\n2\n", "2\n1\n")));
}

#[test]
fn an_outcome_is_accepted_word_for_word() {
    let script = "delete from t;\nselect * from t;\nselect * from u;\n";
    let output = |deleted: &str, left: &str, other: &str| {
        format!("delete from t;\n{deleted}select * from t;\n{left}select * from u;\n{other}")
    };
    let none = " a | b \n---+---\n(0 rows)\n\n";
    let expected = output("ERROR:  no\n", AB, AB);
    let outcome = format!("delete from t;\nselect * from t;\n{none}");
    let verdict_on = |actual: &str, outcome: Option<&str>| {
        compare(&expected, actual, Script::Sql(script), Rules { access_method: "ssdlsm", place_columns: &[], outcome })
    };
    let actual = output("", none, BA);
    let both = Verdict::Explained(BTreeSet::from([Kind::RowOrder, Kind::RowMetFirst]));
    assert_eq!(verdict_on(&actual, Some(&outcome)), both);
    assert!(is_different(&verdict_on(&actual, None)));
    let Verdict::Different(found) = verdict_on(&actual, Some("delete from t;\n")) else { panic!("part of it") };
    assert_eq!((found.places.len(), found.text), (2, outcome.clone()));
    assert!(is_different(&verdict_on(&output("ERROR:  other\n", none, BA), Some(&outcome))));
    assert!(is_different(&verdict_on(&output("", none, none), Some(&outcome))), "one more");
    assert_eq!(verdict_on(&expected, Some(&outcome)), Verdict::Explained(BTreeSet::new()), "as a heap");
}

#[test]
fn places_differ_in_their_columns_only() {
    let table = |ctid: &str, a: &str| format!(" ctid  | a \n-------+---\n {ctid} | {a}\n(1 row)\n\n");
    let statement = "select ctid, a from t order by a;";
    assert_eq!(on(statement, &table("(0,1)", "5"), &table("(7,129)", "5")), only(Kind::PhysicalPlace));
    assert!(is_different(&on(statement, &table("(0,1)", "5"), &table("(7,129)", "6"))));
    assert!(is_different(&on(statement, &table("(0,1)", "5"), &table("", "5"))));
    let other = |value: &str| format!("  p    \n-------\n {value}\n(1 row)\n\n");
    assert!(is_different(&on("select p from t;", &other("(0,1)"), &other("(0,2)"))));
    let size = |value: &str| format!("    size    \n------------\n {value}\n(1 row)\n\n");
    assert_eq!(on("select f();", &size("8192 bytes"), &size("16 kB")), only(Kind::PhysicalPlace));
    assert!(is_different(&on("select f();", &size("8192 bytes"), &size("huge"))));
}

#[test]
fn order_and_place_may_differ_together() {
    let table = |one: &str, two: &str| format!(" ctid  | a \n-------+---\n{one}{two}(2 rows)\n\n");
    let expected = table(" (0,1) | 1\n", " (0,2) | 2\n");
    let actual = table(" (9,9) | 2\n", " (0,1) | 1\n");
    let both = Verdict::Explained(BTreeSet::from([Kind::RowOrder, Kind::PhysicalPlace]));
    assert_eq!(on("select ctid, a from t;", &expected, &actual), both);
    assert!(is_different(&on("select ctid, a from t order by a;", &expected, &actual)));
}

#[test]
fn an_access_method_more_may_be_listed() {
    let expected = " Name | Type  \n------+-------\n heap | Table\n(1 row)\n\n";
    let actual = "  Name  | Type  \n--------+-------\n heap   | Table\n ssdlsm | Table\n(2 rows)\n\n";
    assert_eq!(on("\\dA", expected, actual), only(Kind::AccessMethodListed));
    assert!(is_different(&on("\\dA", actual, expected)), "a row is missing");
    assert!(is_different(&on("\\dA", expected, &actual.replace("(2 rows)", "(1 row)"))), "a wrong count");
    assert!(is_different(&on("\\dA", expected, &actual.replace("ssdlsm", "other"))), "another one");
    assert!(is_different(&on("\\dA", expected, &actual.replace("heap ", "pile "))), "another row, too");
}

#[test]
fn statements_end_where_psql_ends_them() {
    let script = "create function f() returns int begin atomic select 1; select case when true then 1 end; end;\n\
        select E'a\\';' || $x$;\n\n$x$ || ';' /* ; /* */ ; */;\n\
        copy t from stdin;\nselect * from t;\n\\.\nselect * from t;\n";
    let output = |table: &str| {
        format!(
            "create function f() returns int begin atomic select 1; select case when true then 1 end; end;\n\
             select E'a\\';' || $x$;\n\n$x$ || ';' /* ; /* */ ; */;\n{AB}copy t from stdin;\nselect * from t;\n{table}"
        )
    };
    assert_eq!(verdict(&output(AB), &output(BA), Script::Sql(script)), only(Kind::RowOrder));
}

#[test]
fn an_echo_without_newline_is_followed_by_the_next_line() {
    let script = "\\echo -n a\nselect * from t;\n";
    let output = |table: &str| format!("\\echo -n a\na select * from t;\n{table}");
    assert_eq!(verdict(&output(AB), &output(BA), Script::Sql(script)), only(Kind::RowOrder));
}

#[test]
fn what_psql_does_not_echo_is_not_looked_for() {
    let script = "select 0\\; copy t from stdin\\; copy t from stdout; -- two\n1\n\\.\n2\n\\.\n\\set ECHO none\n\
        \\copy u from stdin\nselect * from t;\n\\.\nselect 1;\n\\set ECHO all\nselect * from t;\n";
    let output = |table: &str| {
        format!(
            "select 0\\; copy t from stdin\\; copy t from stdout; -- two\n\\set ECHO none\nselect * from t;\n{table}"
        )
    };
    assert_eq!(verdict(&output(AB), &output(BA), Script::Sql(script)), only(Kind::RowOrder));
}

#[test]
fn a_copy_that_fails_reads_no_data() {
    let script = "copy v from stdin;\nselect 1;\ncopy v from stdin;\nselect 2;\n\\.\nselect * from t;\n";
    let output = |table: &str| {
        format!("copy v from stdin;\nERROR:  no\nHINT:  try\nselect 1;\ncopy v from stdin;\nselect * from t;\n{table}")
    };
    assert_eq!(verdict(&output(AB), &output(BA), Script::Sql(script)), only(Kind::RowOrder));
}

#[test]
fn an_output_that_breaks_off_is_a_difference() {
    let script = "select 1;\nselect 2;\n";
    assert!(is_different(&verdict("select 1;\nselect 2;\n", "select 1;\n", Script::Sql(script))));
    assert!(is_different(&verdict("step a: x\nstep b: y\n", "step a: x\n", Script::Spec)));
}

#[test]
fn steps_of_a_specification_are_read() {
    let output = |table: &str, order: &str| {
        format!("starting permutation: a b\nstep a: SELECT * FROM t{order};\n{table}step b: COMMIT;\n")
    };
    assert_eq!(verdict(&output(AB, ""), &output(BA, ""), Script::Spec), only(Kind::RowOrder));
    let sorted = " ORDER BY a";
    assert!(is_different(&verdict(&output(AB, sorted), &output(BA, sorted), Script::Spec)));
    let waited = |table: &str| {
        format!(
            "step a: UPDATE t SET a = 1\n  RETURNING *; <waiting ...>\nstep b: COMMIT;\nstep a: <... completed>\n{table}"
        )
    };
    assert_eq!(verdict(&waited(AB), &waited(BA), Script::Spec), only(Kind::RowOrder));
    let swapped = "step b: COMMIT;\nstep a: SELECT 1;\n";
    assert!(is_different(&verdict("step a: SELECT 1;\nstep b: COMMIT;\n", swapped, Script::Spec)));
}

#[test]
fn messages_belong_to_the_step_that_is_echoed_after_them() {
    let (one, two) = ("s2: NOTICE:  row 1\n", "s2: NOTICE:  row 2\nDETAIL:  two\n");
    let output = |step: &str, messages: &str| {
        format!(
            "step a: SELECT 1;\n a \n---\n 1\n(1 row)\n\n{messages}step b: {step}\n  WHERE f(a);\nstep c: COMMIT;\n"
        )
    };
    let swapped = |step: &str, two: &str| {
        verdict(&output(step, &format!("{one}{two}")), &output(step, &format!("{two}{one}")), Script::Spec)
    };
    assert_eq!(swapped("UPDATE t SET a = 1", two), only(Kind::RowOrder));
    assert!(is_different(&swapped("CALL p()", two)));
    assert!(is_different(&swapped("UPDATE t SET a = 1", "s1: NOTICE:  row 1\n")), "of another session");
}

#[test]
fn messages_may_be_more_if_they_are_expected_elsewhere() {
    let output = |before_b: &str| {
        format!("starting permutation: a b\nNOTICE:  f\nstep a: INSERT INTO t;\n{before_b}step b: INSERT INTO u;\n")
    };
    assert_eq!(verdict(&output(""), &output("NOTICE:  f\n"), Script::Spec), only(Kind::MoreMessages));
    assert!(is_different(&verdict(&output(""), &output("NOTICE:  g\n"), Script::Spec)));
    assert!(is_different(&verdict(&output("NOTICE:  f\n"), &output(""), Script::Spec)));
}

#[test]
fn a_permutation_ends_where_a_transaction_more_fails() {
    let error = format!("{NOT_SERIALIZED}\n");
    let output = |first: &str, rest: &str, other: &str| {
        format!(
            "starting permutation: a b\nstep a: UPDATE t;\n{first}{rest}starting permutation: b a\nstep b: SELECT 1;\n{other}"
        )
    };
    let expected = output("", "step b: SELECT 2;\n", "");
    let more = |actual: &str| verdict(&expected, actual, Script::Spec);
    assert_eq!(more(&output(&error, "step c: COMMIT;\n", "")), only(Kind::SerializationFailure));
    assert!(is_different(&more(&output(&error, "", "ERROR:  no\n"))), "in the next permutation");
    assert!(is_different(&more(&output("ERROR:  no\n", "step b: SELECT 2;\n", ""))), "another error");
    let missing = verdict(&output(&error, "", ""), &output("", "", ""), Script::Spec);
    assert!(is_different(&missing), "it is expected to fail");
}
