//! Closing: what the next open finds, what every call on what is left says, and dropping in any order.

use ssd_engine::mem::region::Region;
use ssd_engine::{Class, Engine, Options, WriteBatch, WriteOptions};

use crate::place::{Place, options, refused, rows, tree};

fn replayed(engine: &Engine) -> u64 {
    let counters = engine.stats().unwrap().counters;
    counters.iter().find(|(name, _)| *name == "records_replayed").expect("there is such a counter").1
}

#[test]
fn after_closing_there_is_nothing_to_replay() {
    let place = Place::empty();
    for round in 0..3u8 {
        let engine = place.open().unwrap();
        assert_eq!(replayed(&engine), 0, "round {round}");
        let tree = tree(&engine);
        assert_eq!(rows(&tree), usize::from(round) * 101);
        for number in 0..100u8 {
            tree.put(&[round, number], b"value").unwrap();
        }
        // Larger than half a memtable: goes to an SST at once.
        tree.put(&[round, 100], &vec![1; 1 << 20]).unwrap();
        drop(tree);
        engine.close().unwrap();
    }
    let place = Place::unclosed();
    assert_eq!(replayed(&place.open().unwrap()), 1, "a handle that was dropped leaves it to the next open");
}

#[test]
fn every_call_after_closing_says_closed() {
    let place = Place::closed();
    let engine = place.open().unwrap();
    let clone = engine.clone();
    let tree = tree(&engine);
    let snapshot = engine.snapshot().unwrap();
    let mut begun = tree.scan::<Vec<u8>>(..).unwrap();
    begun.next_row().unwrap();
    let mut fresh = tree.scan::<Vec<u8>>(..).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&tree, b"k", b"v");
    engine.close().unwrap();

    let mut said = vec![
        refused(clone.tree("rows"), Class::Closed),
        refused(clone.tree("other"), Class::Closed),
        refused(clone.find_tree(b"rows"), Class::Closed),
        refused(clone.trees(), Class::Closed),
        refused(clone.drop_tree(&tree), Class::Closed),
        refused(clone.write(&batch, WriteOptions::default()), Class::Closed),
        refused(clone.write(&WriteBatch::new(), WriteOptions::SYNC), Class::Closed),
        refused(clone.sync(), Class::Closed),
        refused(clone.snapshot(), Class::Closed),
        refused(clone.run_next_job(), Class::Closed),
        refused(clone.check_open(), Class::Closed),
        refused(clone.flush(), Class::Closed),
        refused(clone.settle(), Class::Closed),
        refused(clone.compact(), Class::Closed),
        refused(clone.checkpoint(place.path("copy")), Class::Closed),
        refused(clone.verify(), Class::Closed),
        refused(clone.stats(), Class::Closed),
    ];
    said.extend([
        refused(tree.put(b"k", b"v"), Class::Closed),
        refused(tree.put_with(b"k", b"v", WriteOptions::SYNC), Class::Closed),
        refused(tree.delete(b"k"), Class::Closed),
        refused(tree.delete_range(b"k", b"l"), Class::Closed),
        refused(tree.get(b"0001"), Class::Closed),
        refused(tree.get_into(b"0001", &mut Vec::new()), Class::Closed),
        refused(tree.get_at(b"0001", &snapshot), Class::Closed),
        refused(tree.multi_get(&[b"0001"]), Class::Closed),
        refused(tree.scan::<Vec<u8>>(..), Class::Closed),
        refused(tree.scan_at::<Vec<u8>>(.., &snapshot).and_then(|mut scan| scan.next_row().map(drop)), Class::Closed),
        refused(begun.next_row(), Class::Closed),
        refused(fresh.next_row(), Class::Closed),
        refused(begun.next().expect("an error is an item"), Class::Closed),
        refused(clone.close(), Class::Closed),
    ]);
    assert!(said.iter().all(|text| text.contains("close was called")), "{said:#?}");
    assert!(!place.path("copy").exists());
    // Somebody else has the directory now, while the old handles are still there.
    place.assert_whole();
    drop((tree, snapshot, begun, fresh));
    place.assert_whole();
}

#[test]
fn a_process_that_attached_leaves_alone_and_the_owner_ends_all() {
    let place = Place::closed();
    let region = Region::inherited(&Engine::layout_of(&options())).unwrap();
    let owner = Engine::open_shared(place.db(), options(), region.clone()).unwrap();
    let attach = || Engine::attach(place.db(), options(), region.clone()).unwrap();
    let (leaving, staying) = (attach(), attach());
    let left = tree(&leaving);
    left.put(b"from the one that leaves", b"1").unwrap();
    leaving.close().unwrap();
    refused(left.get(b"0001"), Class::Closed);
    refused(left.put(b"k", b"v"), Class::Closed);
    let stays = tree(&staying);
    assert_eq!((rows(&stays), rows(&tree(&owner))), (501, 501));
    stays.put(b"from the one that stays", b"2").unwrap();

    owner.close().unwrap();
    refused(stays.get(b"0001"), Class::Closed);
    refused(stays.put(b"k", b"v"), Class::Closed);
    refused(staying.close(), Class::Closed);
    let text = refused(Engine::attach(place.db(), options(), region.clone()), Class::Closed);
    assert!(text.contains("close was called"), "{text}");
    let engine = place.open().unwrap();
    assert_eq!((replayed(&engine), rows(&tree(&engine))), (0, 502));
}

#[test]
fn handles_keep_the_engine_open_in_any_order() {
    let place = Place::closed();
    for keep in 0..3 {
        let options = Options { background_threads: 1, ..options() };
        let engine = Engine::open(place.db(), options).unwrap();
        let tree = tree(&engine);
        let snapshot = engine.snapshot().unwrap();
        let mut scan = tree.scan_at::<Vec<u8>>(.., &snapshot).unwrap();
        scan.next_row().unwrap();
        drop(engine);
        match keep {
            0 => {
                drop((tree, snapshot));
                refused(place.open(), Class::Usage);
                assert_eq!(scan.map(Result::unwrap).count(), 499);
            }
            1 => {
                drop((tree, scan));
                refused(place.open(), Class::Usage);
                drop(snapshot);
            }
            _ => {
                drop((scan, snapshot));
                refused(place.open(), Class::Usage);
                assert_eq!(rows(&tree), 500);
                tree.engine().check_open().unwrap();
            }
        }
        // The last handle has gone, and with it the lock.
    }
    place.assert_whole();
}
