//! The bank: its tables, what transaction `number` of a worker does, and the rows that are left after it.
//!
//! A worker's transactions are numbered from 1 and commit in order, each once. What a transaction does follows from the
//! seed, the worker and the number alone, and it first undoes nothing of other workers: so the last number of a worker says
//! what all its items look like, and the ledger says what every account holds.
//!
//! | item of transaction | after transaction n |
//! |---|---|
//! | n | as inserted |
//! | n - 1 | body written anew: no index knows it |
//! | n - 2 and older | grade raised, too: an index knows it |
//! | n - KEPT and older | deleted |

use crate::rng::Rng;

/// Sessions that move money.
pub const WORKERS: u64 = 6;
/// Accounts of the bank.
pub const ACCOUNTS: u64 = 300;
/// What each account holds at first.
pub const FIRST_BALANCE: i64 = 1000;
/// Transactions whose items are kept.
pub const KEPT: u64 = 12;

/// The statements that make the tables.
#[must_use]
pub fn schema(access_method: &str) -> String {
    format!(
        "SET default_table_access_method = {access_method};
         CREATE TABLE accounts (id int PRIMARY KEY, branch int NOT NULL, balance bigint NOT NULL, moves int NOT NULL);
         CREATE INDEX accounts_branch ON accounts (branch);
         CREATE INDEX accounts_balance ON accounts (balance);
         CREATE TABLE ledger (worker int, number bigint, source int REFERENCES accounts, target int REFERENCES accounts,
             amount bigint NOT NULL, PRIMARY KEY (worker, number));
         CREATE TABLE items (worker int, number bigint, part int, grade int NOT NULL, body text NOT NULL,
             PRIMARY KEY (worker, number, part));
         CREATE INDEX items_grade ON items (grade);
         INSERT INTO accounts SELECT i, i % 10, {FIRST_BALANCE}, 0 FROM generate_series(1, {ACCOUNTS}) i;"
    )
}

/// Indexes, none with a column of another (a bitmap by its first column can then be of no other), each with its table and what the rows of an index scan are ordered by.
pub const INDEXES: [(&str, &str, &str); 6] = [
    ("accounts_pkey", "accounts", "id"),
    ("accounts_branch", "accounts", "branch"),
    ("accounts_balance", "accounts", "balance"),
    ("ledger_pkey", "ledger", "worker, number"),
    ("items_pkey", "items", "worker, number, part"),
    ("items_grade", "items", "grade"),
];

/// The tables.
pub const TABLES: [&str; 3] = ["accounts", "ledger", "items"];

/// What one transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Whose.
    pub worker: u64,
    /// Its number.
    pub number: u64,
    /// The account that money is taken from.
    pub source: i64,
    /// The account that it goes to.
    pub target: i64,
    /// How much.
    pub amount: i64,
    /// Items that it inserts.
    pub parts: u64,
}

impl Transfer {
    /// Transaction `number` of `worker`.
    #[must_use]
    pub fn new(seed: u64, worker: u64, number: u64) -> Self {
        let mut rng = Rng::new(seed ^ (worker << 48) ^ number.wrapping_mul(0x9E37_79B9));
        let source = rng.below(ACCOUNTS) + 1;
        let target = (source + rng.below(ACCOUNTS - 1)) % ACCOUNTS + 1;
        // Few transactions fill memtables.
        let parts = if rng.one_in(40) { 300 } else { rng.below(4) };
        let amount = rng.below(50) + 1;
        Self { worker, number, source: source as i64, target: target as i64, amount: amount as i64, parts }
    }
}

/// The text of an item as inserted (`written` is its transaction) or as written anew; some are too wide for a page.
#[must_use]
pub fn body(worker: u64, written: u64, part: u64) -> String {
    let word = format!("{worker}/{written}/{part};");
    let times = match (written * 31 + part * 7) % 97 {
        0 => 4000,
        1..4 => 300,
        n => n % 9,
    };
    word.repeat(times as usize + 1)
}

/// A row of `items`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The transaction that inserted it.
    pub number: u64,
    /// Which of its items.
    pub part: u64,
    /// How often it was raised.
    pub grade: i32,
    /// Its text.
    pub body: String,
}

/// The items of a worker whose last transaction was `last`, in order.
#[must_use]
pub fn items_after(seed: u64, worker: u64, last: u64) -> Vec<Item> {
    let mut items = Vec::new();
    for number in (last + 1).saturating_sub(KEPT).max(1)..=last {
        for part in 0..Transfer::new(seed, worker, number).parts {
            // The text is that of the transaction that wrote it last.
            let written = if number == last { number } else { number + 1 };
            let grade = i32::from(number + 2 <= last);
            items.push(Item { number, part, grade, body: body(worker, written, part) });
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_repeats_and_moves_between_two_accounts() {
        for number in 1..500 {
            let transfer = Transfer::new(7, 3, number);
            assert_eq!(transfer, Transfer::new(7, 3, number));
            assert_ne!(transfer.source, transfer.target);
            assert!((1..=ACCOUNTS as i64).contains(&transfer.source));
            assert!((1..=ACCOUNTS as i64).contains(&transfer.target));
        }
    }

    #[test]
    fn old_items_are_gone_and_older_ones_raised() {
        let items = items_after(7, 1, 100);
        assert!(items.iter().all(|item| item.number > 100 - KEPT));
        assert!(items.iter().all(|item| (item.grade == 1) == (item.number <= 98)));
        assert!(items_after(7, 1, 0).is_empty());
    }
}
