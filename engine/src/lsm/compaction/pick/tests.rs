use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::base::ids::SeqNo;
use crate::format::version_edit::{FileMeta, VersionEdit};
use crate::lsm::check::check;
use crate::lsm::version::Version;

const POLICY: Policy =
    Policy { l0_trigger: 2, l0_bytes: 64 << 10, base_bytes: 20 << 10, multiplier: 4, input_bytes_max: 1 << 20 };

fn meta(number: u64, span: (u8, u8), seqnos: (u64, u64), size: u64) -> Arc<FileMeta> {
    Arc::new(FileMeta {
        number: FileNumber(number),
        size,
        smallest: vec![span.0],
        largest: vec![span.1],
        largest_exclusive: false,
        smallest_seqno: SeqNo(seqnos.0),
        largest_seqno: SeqNo(seqnos.1),
        entries: 100,
        deletes: 0,
        range_deletes: 0,
        raw_bytes: size,
        min_txn: 0,
        max_txn: 0,
        created_unix: 0,
    })
}

fn shape_of(version: &Version, running: &[Running]) -> Shape {
    let levels = std::array::from_fn(|level| version.level(Level(level as u8)).to_vec());
    let marks = running.iter().flat_map(|job| {
        let output = job.choice.output().expect("only what writes takes time");
        job.choice.files().into_iter().map(move |(_, file)| (job.name, file, output))
    });
    Shape::new(levels, version.sublevels().clone(), marks)
}

/// A compaction under way.
struct Running {
    name: u64,
    choice: Choice,
}

#[test]
fn outputs_may_lie_in_the_gaps_between_inputs() {
    // Two files of L0 are merged into one output that spans the file between them.
    let added = vec![
        (Level(0), meta(1, (b'a', b'c'), (10, 11), 9000)),
        (Level(0), meta(2, (b'x', b'z'), (12, 13), 9000)),
        (Level(0), meta(3, (b'a', b'z'), (20, 21), 9000)),
        (Level(0), meta(4, (b'a', b'z'), (30, 31), 9000)),
        (Level(0), meta(5, (b'a', b'z'), (40, 41), 9000)),
        (Level(6), meta(6, (b'm', b'n'), (1, 2), 9000)),
    ];
    let version = Version::empty().apply(&VersionEdit { added, ..VersionEdit::default() }).unwrap();
    let shape = shape_of(&version, &[]);
    let ends: Vec<_> = [1, 2].map(|number| shape.levels[0].iter().find(|f| f.meta.number.0 == number).unwrap()).into();
    let choice = merge(&shape, 0, &ends, 6, Reason::Manual);
    assert!(choice.files().contains(&(Level(6), FileNumber(6))), "{choice:?}");
}

/// For each key of a file the sequence numbers of its oldest and newest version there.
type Content = BTreeMap<u8, (u64, u64)>;

/// Files with keys, on which compactions start and end in any order.
struct World {
    version: Version,
    contents: HashMap<FileNumber, Content>,
    running: Vec<Running>,
    next: u64,
    seqno: u64,
}

impl World {
    fn file(&mut self, content: Content, size: u64) -> Arc<FileMeta> {
        let (from, to) = (*content.keys().next().unwrap(), *content.keys().next_back().unwrap());
        let (oldest, newest) = content.values().copied().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap();
        let file = meta(self.next, (from, to), (oldest, newest), size);
        self.next += 1;
        self.contents.insert(file.number, content);
        file
    }

    fn apply(&mut self, edit: &VersionEdit) {
        self.version = self.version.apply(edit).unwrap();
        assert_eq!(check(&self.version), Vec::<String>::new());
        // Whoever looks for a key from the top down meets its versions newest first.
        let mut met: HashMap<u8, (u64, FileNumber)> = HashMap::new();
        for (level, file) in self.version.files() {
            for (&key, &(oldest, newest)) in &self.contents[&file.number] {
                if let Some((above, number)) = met.insert(key, (oldest, file.number)) {
                    assert!(newest < above, "{level}: {} has newer versions of {key} than {number}", file.number);
                }
            }
        }
    }

    fn flush(&mut self, spans: &[(u8, u8)]) {
        let mut added: Vec<(Level, Arc<FileMeta>)> = Vec::new();
        for &(from, len) in spans {
            let to = from.saturating_add(len);
            let seqnos = (self.seqno, self.seqno + 5);
            let keys = (from..to).step_by(7).chain([to]);
            let file = self.file(keys.map(|key| (key, seqnos)).collect(), 9000);
            if added.iter().all(|(_, other)| !other.overlaps(&file)) {
                added.push((Level(0), file));
            }
        }
        self.seqno += 10;
        self.apply(&VersionEdit { added, ..VersionEdit::default() });
    }

    fn shape(&self) -> Shape {
        shape_of(&self.version, &self.running)
    }

    /// Starts what the picker picks.
    fn start(&mut self) {
        let choice = pick(&self.shape(), &POLICY);
        self.run(choice);
    }

    /// Starts a merge of any files of a level, which mostly have gaps between them.
    fn start_any(&mut self, level: usize, which: u64) {
        let shape = self.shape();
        let files = &shape.levels[level];
        let files: Vec<_> =
            files.iter().enumerate().filter(|(at, _)| which >> (at % 64) & 1 == 1).map(|f| f.1).collect();
        let choice = merge(&shape, level, &files, level + 1, Reason::Manual);
        self.run(choice);
    }

    fn run(&mut self, choice: Choice) {
        if choice == Choice::Idle {
            return;
        }
        for running in &self.running {
            let in_use = running.choice.files();
            assert!(choice.files().iter().all(|file| !in_use.contains(file)), "{choice:?} beside {:?}", running.choice);
        }
        self.running.push(Running { name: self.next, choice });
        self.next += 1;
    }

    /// Ends a compaction with `pieces` outputs.
    fn finish(&mut self, at: usize, pieces: usize) {
        let Running { choice, .. } = self.running.swap_remove(at);
        let deleted = choice.files();
        let is_input = |(level, file): &(Level, &Arc<FileMeta>)| deleted.contains(&(*level, file.number));
        let inputs: Vec<_> = self.version.files().filter(is_input).map(|(_, file)| Arc::clone(file)).collect();
        assert_eq!(inputs.len(), deleted.len());
        let output = choice.output().unwrap();
        let added = if matches!(choice, Choice::Move { .. }) {
            vec![(output, Arc::clone(&inputs[0]))]
        } else {
            let mut all = Content::new();
            for (&key, &(oldest, newest)) in inputs.iter().flat_map(|file| &self.contents[&file.number]) {
                all.entry(key).and_modify(|s| *s = (s.0.min(oldest), s.1.max(newest))).or_insert((oldest, newest));
            }
            let size = inputs.iter().map(|f| f.size).sum::<u64>() / pieces as u64 + 1;
            let entries: Vec<_> = all.into_iter().collect();
            let pieces = entries.chunks(entries.len().div_ceil(pieces));
            pieces.map(|piece| (output, self.file(piece.iter().copied().collect(), size))).collect()
        };
        self.apply(&VersionEdit { deleted, added, ..VersionEdit::default() });
    }
}

#[derive(Clone, Debug)]
enum Step {
    Flush(Vec<(u8, u8)>),
    Start,
    StartAny(usize, u64),
    Finish(proptest::sample::Index, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let span = (any::<u8>(), prop_oneof![6 => 0u8..12, 1 => any::<u8>()]);
    prop_oneof![
        2 => proptest::collection::vec(span, 1..5).prop_map(Step::Flush),
        2 => Just(Step::Start),
        3 => (3..LEVEL_COUNT - 1, any::<u64>(), any::<u64>()).prop_map(|(level, a, b)| Step::StartAny(level, a & b)),
        2 => (any::<proptest::sample::Index>(), 1usize..6).prop_map(|(at, pieces)| Step::Finish(at, pieces)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn compactions_may_run_side_by_side(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World {
            version: Version::empty(),
            contents: HashMap::new(),
            running: Vec::new(),
            next: 1,
            seqno: 10,
        };
        for step in steps {
            match step {
                Step::Flush(spans) => world.flush(&spans),
                Step::Start => world.start(),
                Step::StartAny(level, which) => world.start_any(level, which),
                Step::Finish(at, pieces) => {
                    if !world.running.is_empty() {
                        world.finish(at.index(world.running.len()), pieces);
                    }
                }
            }
        }
        while !world.running.is_empty() {
            world.finish(0, 2);
        }
    }
}
