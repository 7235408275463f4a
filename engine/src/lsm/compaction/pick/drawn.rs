//! Drawn levels: the picker's tests as text.
//!
//! A drawing is a picture of files, with keys from left to right:
//!
//! ```text
//! L0  [64        ]   [64 ]
//! L0  [64                ]
//! L6  [64   ][64   ][32  ]
//! busy 2 3 -> L6
//! => merge ...
//! ```
//!
//! The first characters of a line name the level; of L0's lines the upper one is newer. A file reaches from the column of
//! its `[` to that of its `]`, both included; the number is its size in MiB. Files are numbered in reading order, from 1.
//! After the levels come, in any number: `busy` (files, and where their compaction writes), `deletes` (a file, percent),
//! `deleted` (a file, and the span `~` of a range tombstone drawn below the levels: `D3  ~~~~~`), `snapshot` (the oldest
//! reader is before the given file's entries), `knobs`. `=>` asks the picker and is followed by its answer.

use std::fmt::Write as _;
use std::sync::Arc;

use super::pick;
use crate::base::ids::{FileNumber, Level, SeqNo};
use crate::base::limits::LEVEL_COUNT;
use crate::format::range_del::RangeTombstone;
use crate::format::version_edit::{FileMeta, VersionEdit};
use crate::lsm::compaction::choice::Choice;
use crate::lsm::compaction::golden;
use crate::lsm::compaction::shape::{Deleted, Shape};
use crate::lsm::compaction::targets::Policy;
use crate::lsm::version::Version;

const MIB: u64 = 1 << 20;

struct Drawing {
    files: Vec<(Level, FileMeta)>,
    marks: Vec<(u64, FileNumber, Level)>,
    deleted: Vec<Deleted>,
    seen_by_all: SeqNo,
    policy: Policy,
}

impl Drawing {
    fn new() -> Self {
        let policy = Policy {
            l0_trigger: 4,
            l0_bytes: 512 * MIB,
            base_bytes: 512 * MIB,
            multiplier: 10,
            input_bytes_max: 1600 * MIB,
        };
        Self { files: Vec::new(), marks: Vec::new(), deleted: Vec::new(), seen_by_all: SeqNo::MAX, policy }
    }

    fn file(&mut self, number: &str) -> &mut (Level, FileMeta) {
        let number: usize = number.parse().expect("the number of a file");
        &mut self.files[number - 1]
    }

    fn line(&mut self, line: &str, row: u64) {
        let (word, rest) = line.split_once(' ').expect("a word and more");
        if let Some(level) = word.strip_prefix('L') {
            self.level(Level(level.parse().expect("a level")), line, row);
        } else if let Some(holder) = word.strip_prefix('D') {
            let (level, file) = self.file(holder).clone();
            self.file(holder).1.range_deletes = 1;
            let column = |at: Option<usize>| vec![at.expect("a span of ~") as u8];
            let end = column(line.rfind('~').map(|at| at + 1));
            let range = RangeTombstone { start: column(line.find('~')), end, seqno: file.largest_seqno };
            self.deleted.push(Deleted { level, file: file.number, range });
        } else if word == "busy" {
            let (files, output) = rest.split_once(" -> L").expect("busy FILES -> LEVEL");
            let output = Level(output.trim().parse().expect("a level"));
            let numbers: Vec<u64> = files.split_whitespace().map(|n| n.parse().expect("a file")).collect();
            self.marks.extend(numbers.iter().map(|&n| (numbers[0], FileNumber(n), output)));
        } else if word == "deletes" {
            let (file, percent) = rest.split_once(' ').expect("deletes FILE PERCENT");
            let file = &mut self.file(file).1;
            file.deletes = file.entries * percent.trim().parse::<u64>().expect("percent") / 100;
        } else if word == "snapshot" {
            self.seen_by_all = SeqNo(self.file(rest.trim()).1.smallest_seqno.0 - 1);
        } else if word == "knobs" {
            for (name, value) in rest.split_whitespace().filter_map(|knob| knob.split_once('=')) {
                let value: u64 = value.parse().expect("a number");
                match name {
                    "trigger" => self.policy.l0_trigger = value as usize,
                    "base" => self.policy.base_bytes = value * MIB,
                    "l0" => self.policy.l0_bytes = value * MIB,
                    "multiplier" => self.policy.multiplier = value,
                    "input" => self.policy.input_bytes_max = value * MIB,
                    _ => panic!("no knob is called {name}"),
                }
            }
        } else {
            panic!("{word} is no word of a drawing");
        }
    }

    fn level(&mut self, level: Level, line: &str, row: u64) {
        let mut from = 0;
        while let Some(open) = line[from..].find('[').map(|at| at + from) {
            let close = line[open..].find(']').expect("a closed file") + open;
            let size: u64 = line[open + 1..close].trim().parse().expect("a size in MiB");
            let number = FileNumber(self.files.len() as u64 + 1);
            // Lines further down are older.
            let seqno = 100_000 - 100 * row;
            self.files.push((
                level,
                FileMeta {
                    number,
                    size: size * MIB,
                    smallest: vec![open as u8],
                    largest: vec![close as u8],
                    largest_exclusive: false,
                    smallest_seqno: SeqNo(seqno),
                    largest_seqno: SeqNo(seqno + 50),
                    entries: 10_000,
                    deletes: 0,
                    range_deletes: 0,
                    raw_bytes: size * MIB,
                    min_txn: 0,
                    max_txn: 0,
                    created_unix: 0,
                },
            ));
            from = close + 1;
        }
    }

    fn answer(mut self) -> String {
        let added = self.files.into_iter().map(|(level, file)| (level, Arc::new(file))).collect();
        let version =
            Version::empty().apply(&VersionEdit { added, ..VersionEdit::default() }).expect("a legal drawing");
        let levels = std::array::from_fn(|level| version.level(Level(level as u8)).to_vec());
        let mut shape = Shape::new(levels, version.sublevels().clone(), self.marks);
        self.deleted.sort_by(|a, b| a.range.start.cmp(&b.range.start));
        self.deleted.retain(|d| d.range.seqno <= self.seen_by_all);
        (shape.deleted, shape.seen_by_all) = (self.deleted, self.seen_by_all);
        describe(&pick(&shape, &self.policy))
    }
}

fn describe(choice: &Choice) -> String {
    let files = |of: &[(Level, FileNumber)]| {
        let mut out = String::new();
        for level in (0..LEVEL_COUNT as u8).map(Level) {
            let mut numbers: Vec<_> = of.iter().filter(|f| f.0 == level).map(|f| f.1.0).collect();
            numbers.sort_unstable();
            if !numbers.is_empty() {
                let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
                let _ = write!(out, " {level} {}", numbers.join(","));
            }
        }
        out
    };
    match choice {
        Choice::Idle => "idle".to_owned(),
        Choice::Move { file, from, to, reason } => format!("move {from} {} to {to}: {reason}", file.0),
        Choice::Merge { inputs, output, reason } => format!("merge{} into {output}: {reason}", files(inputs)),
        Choice::Drop { files: dropped, reason } => format!("drop{}: {reason}", files(dropped)),
    }
}

/// The text with the answers of today.
fn answered(text: &str) -> String {
    let mut out = String::new();
    let (mut drawing, mut row) = (Drawing::new(), 0);
    for line in text.lines() {
        if line.starts_with("=>") {
            let _ = writeln!(out, "=> {}", std::mem::replace(&mut drawing, Drawing::new()).answer());
            row = 0;
            continue;
        }
        if !line.is_empty() && !line.starts_with('#') {
            drawing.line(line, row);
            row += 1;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

macro_rules! golden_tests {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            let recorded = include_str!(concat!("../testdata/", $name));
            golden::check($name, recorded, &answered(recorded));
        })*
    };
}

golden_tests! {
    golden_l0: "l0.txt",
    golden_levels: "levels.txt",
    golden_side_by_side: "side_by_side.txt",
    golden_deletes: "deletes.txt",
}
