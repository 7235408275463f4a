//! Looks in a history for anomalies.
//!
//! The list that a row ends with is the order of its versions. Every read must be a beginning of it, without what was taken
//! back and without a part of what one transaction appended. Then four kinds of edges say who comes before whom:
//!
//! | edge | from | to |
//! |---|---|---|
//! | ww | who appended | who appended next |
//! | wr | who appended | who read that version |
//! | rw | who read a version | who appended next |
//! | time | who had committed | who began later |
//!
//! | level | forbidden |
//! |---|---|
//! | read committed | circles of ww, wr and time; also through a scan, which is one moment, taken as a reader of its own with rw |
//! | repeatable read | circles in which no two rw follow each other |
//! | serializable | circles |
//!
//! To find circles without two rw in a row, each node is there twice: as reached by an rw, which no rw leaves, and otherwise.

use std::collections::HashMap;

use ssd_engine::Isolation;

/// A row.
pub type Key = u32;
/// What is appended: the number of the transaction, and which of its appends it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Item {
    /// The transaction.
    pub txn: u32,
    /// Counts its appends.
    pub at: u32,
}

/// What one statement read.
#[derive(Clone, Debug)]
pub struct Read {
    /// The moments around the statement.
    pub time: (u64, u64),
    /// The rows.
    pub rows: Vec<(Key, Vec<Item>)>,
    /// Appends of the transaction before the statement, not counting those it took back.
    pub own: Vec<(Key, Item)>,
}

/// One transaction.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its number.
    pub number: u32,
    /// Moments before it began and after it ended.
    pub time: (u64, u64),
    /// It has committed; otherwise it has rolled back.
    pub committed: bool,
    /// What it has read.
    pub reads: Vec<Read>,
    /// What it has appended and not taken back.
    pub appends: Vec<(Key, Item)>,
}

/// What was wrong.
pub type Anomaly = String;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ww,
    Wr,
    Rw,
    Time,
}

/// The graph: transactions by number, then scans, then moments.
struct Graph {
    names: Vec<String>,
    edges: Vec<(usize, usize, Kind)>,
}

/// Checks `history`, whose rows ended as `last`.
///
/// # Errors
/// The first anomaly that is found.
pub fn check(isolation: Isolation, history: &[Done], last: &HashMap<Key, Vec<Item>>) -> Result<(), Anomaly> {
    let places = places(history, last)?;
    let mut graph = Graph { names: Vec::new(), edges: Vec::new() };
    let mut nodes: HashMap<u32, usize> = HashMap::new();
    for done in history.iter().filter(|done| done.committed) {
        nodes.insert(done.number, graph.node(format!("transaction {}", done.number)));
    }
    for list in last.values() {
        for pair in list.windows(2).filter(|pair| pair[0].txn != pair[1].txn) {
            graph.edge(nodes[&pair[0].txn], nodes[&pair[1].txn], Kind::Ww);
        }
    }
    let mut moments = Vec::new();
    for done in history {
        let node = nodes.get(&done.number).copied();
        moments.extend(node.map(|node| (node, done.time)));
        for read in &done.reads {
            let scan = (isolation == Isolation::ReadCommitted && read.rows.len() > 1).then(|| {
                let scan = graph.node(format!("scan of transaction {}", done.number));
                moments.push((scan, read.time));
                scan
            });
            for (key, list) in &read.rows {
                let until = beginning(done, read, *key, list, last, &places)?;
                let readers = node.into_iter().map(|node| (node, isolation != Isolation::ReadCommitted));
                for (reader, rw) in readers.chain(scan.map(|scan| (scan, true))) {
                    let before = until.checked_sub(1).map(|at| last[key][at]);
                    let after = last[key].get(until).filter(|item| rw && item.txn != done.number);
                    if let Some(item) = before {
                        graph.edge(nodes[&item.txn], reader, Kind::Wr);
                    }
                    if let Some(item) = after {
                        graph.edge(reader, nodes[&item.txn], Kind::Rw);
                    }
                }
            }
        }
    }
    graph.time(&mut moments);
    graph.find_circle(isolation == Isolation::Serializable)
}

/// Where each item stands in its row: those that were committed once each, the others nowhere.
fn places(history: &[Done], last: &HashMap<Key, Vec<Item>>) -> Result<HashMap<Item, usize>, Anomaly> {
    let mut places = HashMap::new();
    for (key, list) in last {
        for (at, item) in list.iter().enumerate() {
            if places.insert(*item, at).is_some() {
                return Err(format!("{item:?} is twice in row {key}"));
            }
        }
    }
    let mut count = 0;
    for done in history.iter().filter(|done| done.committed) {
        for (key, item) in &done.appends {
            count += 1;
            if places.get(item).is_none_or(|&at| last[key].get(at) != Some(item)) {
                return Err(format!("lost update: {item:?} was committed and is not in row {key}"));
            }
        }
    }
    if count != places.len() {
        return Err(format!("{count} appends were committed, the rows have {}", places.len()));
    }
    Ok(places)
}

/// How much of the row's last list a read has seen of others.
fn beginning(
    done: &Done,
    read: &Read,
    key: Key,
    list: &[Item],
    last: &HashMap<Key, Vec<Item>>,
    places: &HashMap<Item, usize>,
) -> Result<usize, Anomaly> {
    let who = || format!("transaction {}, row {key}", done.number);
    let own: Vec<_> = read.own.iter().filter(|(of, _)| *of == key).map(|&(_, item)| item).collect();
    let Some(others) = list.strip_suffix(&own[..]) else {
        return Err(format!("{}: does not see its own {own:?} in {list:?}", who()));
    };
    if let Some(item) = others.iter().find(|item| !places.contains_key(item)) {
        return Err(format!("G1a, {}: saw {item:?}, which was taken back", who()));
    }
    if last[&key].get(..others.len()) != Some(others) {
        return Err(format!("{}: {others:?} is no beginning of the row's versions", who()));
    }
    let (before, after) = (others.last(), last[&key].get(others.len()));
    if before.is_some() && before.map(|item| item.txn) == after.map(|item| item.txn) {
        return Err(format!("G1b, {}: saw a part of what {before:?} and {after:?} are", who()));
    }
    Ok(others.len())
}

impl Graph {
    fn node(&mut self, name: String) -> usize {
        self.names.push(name);
        self.names.len() - 1
    }

    fn edge(&mut self, from: usize, to: usize, kind: Kind) {
        if from != to {
            self.edges.push((from, to, kind));
        }
    }

    /// Edges of time, over a chain of moments: one for each end.
    fn time(&mut self, moments: &mut [(usize, (u64, u64))]) {
        let mut events: Vec<_> =
            moments.iter().flat_map(|&(n, (from, to))| [(from, false, n), (to, true, n)]).collect();
        events.sort_unstable();
        let mut last = None;
        for (time, ends, node) in events {
            if ends && !self.names[node].starts_with("scan") {
                let moment = self.node(format!("moment {time}"));
                self.edges.push((node, moment, Kind::Time));
                self.edges.extend(last.map(|last| (last, moment, Kind::Time)));
                last = Some(moment);
            } else if !ends {
                self.edges.extend(last.map(|last| (last, node, Kind::Time)));
            }
        }
    }

    /// Fails when there is a circle: of any kind, or only one without two rw in a row.
    fn find_circle(&self, any: bool) -> Result<(), Anomaly> {
        let mut next: Vec<Vec<(usize, Kind)>> = vec![Vec::new(); self.names.len() * 2];
        let mut before = vec![0usize; next.len()];
        let mut link = |from: usize, to: usize, kind: Kind| {
            next[from].push((to, kind));
            before[to] += 1;
        };
        for &(from, to, kind) in &self.edges {
            if kind == Kind::Rw && !any {
                link(from * 2, to * 2 + 1, kind);
            } else {
                link(from * 2, to * 2, kind);
                link(from * 2 + 1, to * 2, kind);
            }
        }
        let mut free: Vec<_> = (0..next.len()).filter(|&node| before[node] == 0).collect();
        while let Some(node) = free.pop() {
            for &(to, _) in &next[node] {
                before[to] -= 1;
                if before[to] == 0 {
                    free.push(to);
                }
            }
        }
        // What is left is in a circle or behind one: going back from there, one is met.
        let Some(start) = before.iter().position(|&count| count > 0) else { return Ok(()) };
        let mut path = vec![start];
        let mut texts = Vec::new();
        loop {
            let node = path[path.len() - 1];
            let from = (0..next.len()).filter(|&from| before[from] > 0);
            let (from, kind) = from
                .flat_map(|from| next[from].iter().map(move |&(to, kind)| (from, to, kind)))
                .find_map(|(from, to, kind)| (to == node).then_some((from, kind)))
                .expect("each that is left has one before it that is left");
            texts.push(format!("{} <-{kind:?}- {}", self.names[node / 2], self.names[from / 2]));
            if let Some(at) = path.iter().position(|&seen| seen == from) {
                return Err(format!("circle: {}", texts[at..].join(", ")));
            }
            path.push(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a transaction appends to a row.
    fn item(txn: u32, key: Key) -> Item {
        Item { txn, at: key }
    }

    fn done(number: u32, reads: &[(Key, &[Item])], appends: &[Key]) -> Done {
        let read =
            |&(key, list): &(Key, &[Item])| Read { time: (0, 9), rows: vec![(key, list.to_vec())], own: Vec::new() };
        let appends = appends.iter().map(|&key| (key, item(number, key))).collect();
        Done { number, time: (0, 9), committed: true, reads: reads.iter().map(read).collect(), appends }
    }

    const LEVELS: [Isolation; 3] = [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable];

    fn permitted(history: &[Done], last: &[(Key, &[Item])]) -> [bool; 3] {
        let last = last.iter().map(|&(key, list)| (key, list.to_vec())).collect();
        LEVELS.map(|level| check(level, history, &last).is_ok())
    }

    #[test]
    fn each_level_forbids_what_it_should() {
        let [[a1, a2], [b1, b2]] = [1, 2].map(|txn| [1, 2].map(|key| item(txn, key)));
        let skew = [done(1, &[(1, &[]), (2, &[])], &[1]), done(2, &[(1, &[]), (2, &[])], &[2])];
        assert_eq!(permitted(&skew, &[(1, &[a1]), (2, &[b2])]), [true, true, false], "write skew");
        let single = [done(1, &[(1, &[]), (2, &[b2])], &[]), done(2, &[], &[1, 2])];
        assert_eq!(permitted(&single, &[(1, &[b1]), (2, &[b2])]), [true, false, false], "read skew");
        let circular = [done(1, &[(2, &[b2])], &[1]), done(2, &[(1, &[a1])], &[2])];
        assert_eq!(permitted(&circular, &[(1, &[a1]), (2, &[b2])]), [false; 3], "circular information flow");
        let cycle = [done(1, &[], &[1, 2]), done(2, &[], &[1, 2])];
        assert_eq!(permitted(&cycle, &[(1, &[a1, b1]), (2, &[b2, a2])]), [false; 3], "write cycle");
        assert_eq!(permitted(&cycle, &[(1, &[a1, b1]), (2, &[a2, b2])]), [true; 3]);
        assert_eq!(permitted(&cycle, &[(1, &[a1, b1]), (2, &[a2])]), [false; 3], "lost update");
        let dirty = [done(1, &[(1, &[b1])], &[])];
        assert_eq!(permitted(&dirty, &[(1, &[])]), [false; 3], "aborted read");
    }

    #[test]
    fn who_begins_later_sees_what_was_committed() {
        let late = [Done { time: (0, 1), ..done(1, &[], &[1]) }, Done { time: (2, 3), ..done(2, &[(1, &[])], &[]) }];
        assert_eq!(permitted(&late, &[(1, &[item(1, 1)])]), [true, false, false]);
    }

    #[test]
    fn a_scan_is_one_moment() {
        let mut torn = [done(1, &[], &[]), done(2, &[], &[1, 2])];
        torn[0].reads.push(Read { time: (0, 9), rows: vec![(1, vec![]), (2, vec![item(2, 2)])], own: Vec::new() });
        assert_eq!(permitted(&torn, &[(1, &[item(2, 1)]), (2, &[item(2, 2)])]), [false; 3]);
        let whole = [done(1, &[(1, &[]), (2, &[item(2, 2)])], &[]), torn[1].clone()];
        assert_eq!(permitted(&whole, &[(1, &[item(2, 1)]), (2, &[item(2, 2)])]), [true, false, false]);
    }
}
