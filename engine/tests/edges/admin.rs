//! Checkpoints, and trees with all kinds of names.

use ssd_engine::base::limits::TREE_NAME_LEN_MAX;
use ssd_engine::{Class, Engine};

use crate::place::{Place, contents, options, refused, rows, tree};

#[test]
fn a_checkpoint_opens_and_equals() {
    let place = Place::unclosed();
    let engine = place.open().unwrap();
    let rows_now = |engine: &Engine| {
        let scan = engine.find_tree(b"rows").unwrap().unwrap().scan::<Vec<u8>>(..).unwrap();
        scan.map(Result::unwrap).collect::<Vec<_>>()
    };
    tree(&engine).delete_range(b"0100", b"0200").unwrap();
    let want = rows_now(&engine);
    let copy = place.path("copies/first");
    engine.checkpoint(&copy).unwrap();
    tree(&engine).put(b"later", b"than the copy").unwrap();
    engine.compact().unwrap();

    let opened = Engine::open(&copy, options()).unwrap();
    assert_eq!(rows_now(&opened), want);
    opened.verify().unwrap();
    tree(&opened).put(b"own", b"life").unwrap();
    opened.close().unwrap();
    assert_eq!(rows_now(&engine).len(), want.len() + 1);
    engine.verify().unwrap();
    engine.close().unwrap();
}

#[test]
fn a_checkpoint_needs_an_empty_place() {
    let place = Place::closed();
    let engine = place.open().unwrap();
    let taken = place.path("taken");
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("notes.txt"), b"mine").unwrap();
    let before = contents(&taken);
    let text = refused(engine.checkpoint(&taken), Class::Usage);
    assert!(text.contains("taken"), "{text}");
    assert_eq!(contents(&taken), before);
    refused(engine.checkpoint(place.db()), Class::Usage);
    let text = refused(engine.checkpoint(taken.join("notes.txt")), Class::Usage);
    assert!(text.contains("notes.txt"), "{text}");
    engine.close().unwrap();
    place.assert_whole();
}

#[test]
fn names_of_trees() {
    let place = Place::empty();
    let engine = place.open().unwrap();
    let longest = vec![b'n'; TREE_NAME_LEN_MAX];
    let names: [&[u8]; 5] = [b"", b"plain", b"\xff\xfe\x00\n", "größe".as_bytes(), &longest];
    for name in names {
        engine.tree(name).unwrap().put(b"name", name).unwrap();
    }
    let text = refused(engine.tree(vec![b'n'; TREE_NAME_LEN_MAX + 1]), Class::Usage);
    assert!(text.contains("1025 bytes") && text.contains("at most 1024"), "{text}");
    assert!(engine.find_tree(&vec![b'n'; 1 << 20]).unwrap().is_none());
    engine.close().unwrap();
    let engine = place.open().unwrap();
    assert_eq!(engine.trees().unwrap().iter().map(|(_, name)| name.as_slice()).collect::<Vec<_>>(), names);
    for name in names {
        let tree = engine.find_tree(name).unwrap().expect("the tree has its name");
        assert_eq!(tree.get(b"name").unwrap().as_deref(), Some(name));
    }
}

#[test]
fn a_dropped_tree_is_gone_and_its_name_is_free() {
    let place = Place::closed();
    let engine = place.open().unwrap();
    let old = tree(&engine);
    engine.drop_tree(&old).unwrap();
    assert!(engine.find_tree(b"rows").unwrap().is_none());
    assert_eq!(rows(&old), 0);
    engine.drop_tree(&old).unwrap();
    let new = tree(&engine);
    assert_ne!(new.id(), old.id());
    new.put(b"a", b"b").unwrap();
    drop((old, new));
    engine.close().unwrap();
    let engine = place.open().unwrap();
    assert_eq!(rows(&tree(&engine)), 1);
    engine.compact().unwrap();
    assert_eq!(rows(&tree(&engine)), 1);
}
