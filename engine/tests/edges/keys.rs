//! Keys, values and ranges at the ends of what is allowed.

use ssd_engine::base::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use ssd_engine::{Class, WriteBatch, WriteOptions};

use crate::place::{Place, refused, rows, tree};

#[test]
fn keys_from_nothing_to_the_longest() {
    let place = Place::empty();
    let engine = place.open().unwrap();
    let tree = tree(&engine);
    let longest = vec![0xFF; KEY_LEN_MAX];
    let too_long = vec![0xFF; KEY_LEN_MAX + 1];
    tree.put(b"", b"empty").unwrap();
    tree.put(&longest, b"longest").unwrap();
    tree.put(b"m", b"").unwrap();
    for text in [
        refused(tree.put(&too_long, b"v"), Class::Usage),
        refused(tree.delete(&too_long), Class::Usage),
        refused(tree.delete_range(&too_long, &[]), Class::Usage),
        refused(tree.delete_range(b"a", &too_long), Class::Usage),
    ] {
        assert!(text.contains("16385 bytes") && text.contains("at most 16384") || text.contains("empty"), "{text}");
    }
    for _ in 0..2 {
        assert_eq!(tree.get(b"").unwrap().as_deref(), Some(&b"empty"[..]));
        assert_eq!(tree.get(&longest).unwrap().as_deref(), Some(&b"longest"[..]));
        assert_eq!(tree.get(b"m").unwrap().as_deref(), Some(&b""[..]), "an empty value is a value");
        assert_eq!(tree.get(&too_long).unwrap(), None);
        assert_eq!(tree.get(&vec![7; 1 << 20]).unwrap(), None);
        let many = tree.multi_get(&[&b""[..], &longest, &too_long, b"m"]).unwrap();
        assert_eq!(many.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, true]);
        let keys: Vec<_> = tree.scan::<Vec<u8>>(..).unwrap().map(|row| row.unwrap().0).collect();
        assert_eq!(keys, [b"".to_vec(), b"m".to_vec(), longest.clone()]);
        assert_eq!(tree.scan_backward::<&[u8]>(..&too_long[..]).unwrap().map(Result::unwrap).count(), 3);
        engine.compact().unwrap();
    }
    engine.verify().unwrap();
}

#[test]
fn values_from_nothing_to_the_longest() {
    let place = Place::empty();
    let engine = place.open().unwrap();
    let tree = tree(&engine);
    let mut value = vec![0xA5; VALUE_LEN_MAX];
    value[12_345] = 1;
    tree.put(b"long", &value).unwrap();
    tree.put(b"none", b"").unwrap();
    value.push(0);
    let text = refused(tree.put(b"too long", &value), Class::Usage);
    assert!(text.contains("67108865 bytes") && text.contains("at most 67108864"), "{text}");
    value.pop();
    assert!(tree.get(b"long").unwrap().as_ref() == Some(&value));
    drop(tree);
    engine.close().unwrap();
    let engine = place.open().unwrap();
    let tree = crate::place::tree(&engine);
    assert!(tree.get(b"long").unwrap() == Some(value));
    assert_eq!(tree.get(b"none").unwrap(), Some(Vec::new()));
    assert_eq!(rows(&tree), 2);
}

#[test]
fn a_batch_with_one_bad_operation_does_nothing() {
    let place = Place::empty();
    let engine = place.open().unwrap();
    let tree = tree(&engine);
    let mut batch = WriteBatch::new();
    batch.put(&tree, b"good", b"1").put(&tree, &vec![0; KEY_LEN_MAX + 1], b"2").put(&tree, b"also good", b"3");
    refused(engine.write(&batch, WriteOptions::default()), Class::Usage);
    assert_eq!(rows(&tree), 0);
    batch.clear();
    engine.write(&batch, WriteOptions::SYNC).unwrap();
    batch.put(&tree, b"good", b"1");
    engine.write(&batch, WriteOptions::SYNC).unwrap();
    assert_eq!(rows(&tree), 1);
}

#[test]
fn empty_and_reversed_ranges() {
    let place = Place::closed();
    let engine = place.open().unwrap();
    let tree = tree(&engine);
    let (low, high) = (b"0100".to_vec(), b"0200".to_vec());
    let count = |range: (std::ops::Bound<Vec<u8>>, std::ops::Bound<Vec<u8>>)| {
        let forward = tree.scan::<Vec<u8>>(range.clone()).unwrap().map(Result::unwrap).count();
        let backward = tree.scan_backward::<Vec<u8>>(range).unwrap().map(Result::unwrap).count();
        assert_eq!(forward, backward);
        forward
    };
    use std::ops::Bound::{Excluded, Included, Unbounded};
    assert_eq!(count((Included(low.clone()), Excluded(low.clone()))), 0);
    assert_eq!(count((Excluded(low.clone()), Excluded(low.clone()))), 0);
    assert_eq!(count((Included(low.clone()), Included(low.clone()))), 1);
    assert_eq!(count((Included(high.clone()), Excluded(low.clone()))), 0, "reversed");
    assert_eq!(count((Excluded(low.clone()), Included(high.clone()))), 100);
    assert_eq!(count((Unbounded, Excluded(Vec::new()))), 0);
    assert_eq!(count((Unbounded, Unbounded)), 500);
    for (start, end) in [(&low, &low), (&high, &low)] {
        let text = refused(tree.delete_range(start, end), Class::Usage);
        assert!(text.contains("range to delete is empty"), "{text}");
    }
    tree.delete_range(&low, &high).unwrap();
    assert_eq!(rows(&tree), 400);
}
