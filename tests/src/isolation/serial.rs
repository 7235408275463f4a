//! Whether committed transactions can be put in an order that explains all that they have read: a search over all orders.

use std::collections::HashSet;

use crate::isolation::oracle::{Answer, Command, Rows};

/// The statements of a transaction, with their answers.
pub type History = Vec<(Command, Answer)>;

/// Whether some order of `histories` leads from `before` to `after`, with each answering as it did. At most 64 of them.
#[must_use]
pub fn is_serializable(before: &Rows, histories: &[History], after: &Rows) -> bool {
    assert!(histories.len() < 64, "the search is for few transactions");
    let all = (1u64 << histories.len()) - 1;
    let mut seen = HashSet::new();
    let mut todo = vec![(0, before.clone())];
    while let Some((done, rows)) = todo.pop() {
        if done == all && rows == *after {
            return true;
        }
        for (at, history) in histories.iter().enumerate().filter(|(at, _)| done & (1 << at) == 0) {
            if let Some(next) = replay(&rows, history)
                && seen.insert((done | 1 << at, next.clone()))
            {
                todo.push((done | 1 << at, next));
            }
        }
    }
    false
}

/// The rows after a transaction that runs alone; nothing when it would have answered otherwise.
fn replay(before: &Rows, history: &History) -> Option<Rows> {
    let mut rows = before.clone();
    let mut savepoints: Vec<Rows> = Vec::new();
    for (command, answer) in history {
        if matches!(answer, Answer::Refused(_)) {
            continue;
        }
        let now = match command {
            Command::Get(key) => Answer::Row(rows.get(key).cloned()),
            Command::Scan(from, to, backward) => {
                let range = rows.range(from.clone()..to.clone()).map(|(key, value)| (key.clone(), value.clone()));
                Answer::Rows(if *backward { range.rev().collect() } else { range.collect() })
            }
            Command::Put(key, value) => {
                rows.insert(key.clone(), value.clone());
                Answer::Done(true)
            }
            Command::Insert(key, value) => {
                let free = !rows.contains_key(key);
                if free {
                    rows.insert(key.clone(), value.clone());
                }
                Answer::Done(free)
            }
            Command::Delete(key) => Answer::Done(rows.remove(key).is_some()),
            Command::Lock(key, _) => Answer::Done(rows.contains_key(key)),
            Command::LockTree(_) => Answer::Done(true),
            Command::Savepoint => {
                savepoints.push(rows.clone());
                Answer::Done(true)
            }
            Command::Release(depth) => {
                savepoints.truncate(depth - 1);
                Answer::Done(true)
            }
            Command::RollbackTo(depth) => {
                savepoints.truncate(*depth);
                rows.clone_from(&savepoints[depth - 1]);
                Answer::Done(true)
            }
        };
        if now != *answer {
            return None;
        }
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_skew_has_no_order() {
        let read = |key: &[u8]| (Command::Get(key.to_vec()), Answer::Row(None));
        let write = |key: &[u8]| (Command::Put(key.to_vec(), b"x".to_vec()), Answer::Done(true));
        let after: Rows = [b"a", b"b"].map(|key| (key.to_vec(), b"x".to_vec())).into();
        let skewed = [vec![read(b"a"), write(b"b")], vec![read(b"b"), write(b"a")]];
        assert!(!is_serializable(&Rows::new(), &skewed, &after));
        let ordered = [vec![read(b"a"), write(b"b")], vec![read(b"c"), write(b"a")]];
        assert!(is_serializable(&Rows::new(), &ordered, &after));
        assert!(!is_serializable(&Rows::new(), &ordered, &Rows::new()));
    }
}
