//! What `env.rs` promises, asked of every world.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::counted::CountedEnv;
use super::counted::tests::Limit;
use super::memory::MemoryEnv;
use super::pool::PoolEnv;
use super::random::Random;
use super::{Env, File, IoDone, IoOp, IoQueue, OpenMode};
use crate::base::limits::IO_ALIGN;
use crate::error::{Class, Error, Result};
use crate::mem::aligned::AlignedBuf;

/// A world with a directory to work in.
struct World {
    env: Arc<dyn Env>,
    dir: PathBuf,
    _cleaner: Option<tempfile::TempDir>,
}

impl World {
    fn on_disk(env: Arc<dyn Env>) -> Self {
        let cleaner = tempfile::tempdir().unwrap();
        Self { env, dir: cleaner.path().to_owned(), _cleaner: Some(cleaner) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn create(&self, name: &str) -> Arc<dyn File> {
        self.env.open(&self.path(name), OpenMode::CREATE).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        self.create(name).write_at(bytes, 0).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        contents(&*self.env.open(&self.path(name), OpenMode::READ).unwrap())
    }

    fn list(&self) -> Vec<String> {
        let mut names = self.env.list(&self.dir).unwrap();
        names.sort();
        names
    }

    fn is_simulation(&self) -> bool {
        self.env.name() == "memory"
    }
}

/// All worlds that this machine has.
fn worlds() -> Vec<World> {
    let memory = MemoryEnv::new(1);
    memory.create_dir(Path::new("/db")).unwrap();
    // Without a limit: some tests here take the name of a file that they go on reading.
    let counted = CountedEnv::new(PoolEnv::new(1), Limit::new(usize::MAX));
    let worlds = vec![
        World::on_disk(counted),
        World { env: memory, dir: PathBuf::from("/db"), _cleaner: None },
        World::on_disk(PoolEnv::new(1)),
        World::on_disk(PoolEnv::new(4)),
    ];
    worlds.into_iter().chain(uring_world()).collect()
}

#[cfg(target_os = "linux")]
fn uring_world() -> Option<World> {
    super::uring::UringEnv::new().ok().map(|env| World::on_disk(env))
}

#[cfg(not(target_os = "linux"))]
fn uring_world() -> Option<World> {
    None
}

fn contents(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap() + 7];
    let count = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(count);
    bytes
}

fn kind<T>(result: Result<T>) -> std::io::ErrorKind {
    match result {
        Err(Error::Io { source, .. }) => source.kind(),
        Err(error) => panic!("not an I/O error: {error}"),
        Ok(_) => panic!("no error"),
    }
}

fn filled(len: usize, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(len);
    buf.fill(byte);
    buf
}

#[test]
fn names_are_created_linked_renamed_and_removed() {
    use std::io::ErrorKind::{AlreadyExists, NotFound};
    for world in worlds() {
        let env = &world.env;
        let (a, b, c) = (world.path("a"), world.path("b"), world.path("c"));
        assert_eq!(kind(env.open(&a, OpenMode::READ)), NotFound);
        assert_eq!(kind(env.open(&a, OpenMode::WRITE)), NotFound);
        world.write("a", b"first");
        assert_eq!(kind(env.open(&a, OpenMode::CREATE)), AlreadyExists);
        assert_eq!(kind(env.open(&a, OpenMode::CREATE_DIRECT)), AlreadyExists);
        env.link(&a, &b).unwrap();
        assert_eq!(kind(env.link(&a, &b)), AlreadyExists);
        env.open(&a, OpenMode::WRITE).unwrap().write_at(b"F", 0).unwrap();
        assert_eq!(world.read("b"), b"First", "a link is the same file");
        world.write("c", b"third");
        let old = env.open(&c, OpenMode::READ).unwrap();
        env.rename(&a, &c).unwrap();
        assert_eq!(world.list(), ["b", "c"]);
        assert_eq!((world.read("c"), contents(&*old)), (b"First".to_vec(), b"third".to_vec()));
        env.remove(&b).unwrap();
        assert_eq!(kind(env.remove(&b)), NotFound);
        assert_eq!(kind(env.rename(&a, &b)), NotFound);
        env.sync_dir(&world.dir).unwrap();
        assert_eq!(world.list(), ["c"]);
    }
}

#[test]
fn directories_are_created_with_their_parents() {
    for world in worlds() {
        let deep = world.path("x/y/z");
        assert!(world.env.list(&deep).is_err());
        world.env.create_dir(&deep).unwrap();
        world.env.create_dir(&deep).unwrap();
        assert!(world.list().is_empty(), "directories are not listed");
        world.env.open(&deep.join("f"), OpenMode::CREATE).unwrap();
        assert_eq!(world.env.list(&deep).unwrap(), ["f"]);
        assert!(world.env.open(&deep, OpenMode::CREATE).is_err());
        world.env.sync_dir(&deep).unwrap();
        assert!(world.env.sync_dir(&world.path("none")).is_err());
        assert!(world.env.free_space(&deep).unwrap() > 0);
    }
}

#[test]
fn errors_name_the_file_and_the_attempt() {
    for world in worlds() {
        let path = world.path("missing");
        let error = world.env.open(&path, OpenMode::READ).err().unwrap();
        assert_eq!(error.to_string(), format!("could not open \"{}\"", path.display()));
        let file = world.create("f");
        let read_only = world.env.open(file.path(), OpenMode::READ).unwrap();
        let error = read_only.write_at(b"x", 5).unwrap_err();
        assert!(error.to_string().starts_with("could not write"), "{error}");
        assert_eq!(error.class(), Class::Io);
        assert_eq!(file.path(), world.path("f"));
    }
}

#[test]
fn a_file_behaves_like_a_vector() {
    for world in worlds() {
        let file = world.create("f");
        let mut model: Vec<u8> = Vec::new();
        let mut random = Random::new(7);
        for step in 0..400 {
            let at = usize::try_from(random.below(20_000)).unwrap();
            let len = usize::try_from(random.below(9_000)).unwrap();
            match random.below(6) {
                0 | 1 => {
                    let bytes = vec![u8::try_from(step % 251).unwrap() + 1; len];
                    if random.percent(30) {
                        file.write_sync_at(&bytes, at as u64).unwrap();
                    } else {
                        file.write_at(&bytes, at as u64).unwrap();
                    }
                    if len > 0 {
                        model.resize(model.len().max(at + len), 0);
                        model[at..at + len].copy_from_slice(&bytes);
                    }
                }
                2 if random.percent(30) => {
                    file.set_len(at as u64).unwrap();
                    model.resize(at, 0);
                }
                3 if random.percent(10) => {
                    file.allocate(at as u64).unwrap();
                    model.resize(model.len().max(at), 0);
                }
                4 if random.percent(20) => file.sync().unwrap(),
                _ => {
                    let mut buf = vec![0xEE; len];
                    let count = file.read_at(&mut buf, at as u64).unwrap();
                    let expected = model.get(at..).unwrap_or_default();
                    assert_eq!(count, len.min(expected.len()));
                    assert_eq!(buf[..count], expected[..count], "{} step {step}", world.env.name());
                }
            }
            assert_eq!(file.len().unwrap(), model.len() as u64);
            assert_eq!(file.is_empty().unwrap(), model.is_empty());
        }
        assert_eq!(world.read("f"), model);
    }
}

#[test]
fn direct_files_want_alignment_and_end_where_they_end() {
    for world in worlds() {
        let file = world.env.open(&world.path("f"), OpenMode::CREATE_DIRECT).unwrap();
        file.allocate(16 * IO_ALIGN as u64).unwrap();
        file.write_at(&filled(4 * IO_ALIGN, 1), 0).unwrap();
        file.write_sync_at(&filled(IO_ALIGN, 2), IO_ALIGN as u64).unwrap();
        file.sync().unwrap();
        if file.is_direct() {
            let buf = filled(IO_ALIGN, 3);
            assert!(file.write_at(&buf[..512], 0).is_err());
            assert!(file.write_at(&buf, 512).is_err());
            assert!(file.write_sync_at(&buf[512..], 0).is_err());
            let mut off = AlignedBuf::zeroed(2 * IO_ALIGN);
            assert!(file.read_at(&mut off[1..=IO_ALIGN], 0).is_err());
        }
        file.set_len(3 * IO_ALIGN as u64 + 100).unwrap();
        let direct = world.env.open(file.path(), OpenMode::READ_DIRECT).unwrap();
        for file in [file, direct] {
            let mut buf = AlignedBuf::zeroed(8 * IO_ALIGN);
            assert_eq!(file.read_at(&mut buf, 0).unwrap(), 3 * IO_ALIGN + 100);
            assert_eq!((buf[0], buf[IO_ALIGN], buf[2 * IO_ALIGN], buf[3 * IO_ALIGN + 99]), (1, 2, 1, 1));
            assert_eq!(file.read_at(&mut buf, 4 * IO_ALIGN as u64).unwrap(), 0);
        }
    }
}

#[test]
fn a_lock_has_one_holder() {
    for world in worlds() {
        world.env.create_dir(&world.path("sub")).unwrap();
        let path = world.path("LOCK");
        assert_eq!(world.env.lock_holder(&path).unwrap(), None);
        assert!(world.list().is_empty(), "a look creates nothing");
        let lock = world.env.lock(&path).unwrap();
        assert!(world.env.lock_holder(&path).unwrap().unwrap().starts_with("another engine"));
        let again = world.env.lock(&path).err().unwrap();
        assert_eq!(again.class(), Class::Usage);
        assert!(!again.hint().is_empty());
        assert!(world.env.lock(&world.path("./LOCK")).is_err());
        let other = world.env.lock(&world.path("LOCK2")).unwrap();
        drop(lock);
        assert_eq!(world.env.lock_holder(&path).unwrap(), None);
        drop(world.env.lock(&path).unwrap());
        drop(world.env.lock(&path).unwrap());
        drop(other);
        assert_eq!(world.list(), ["LOCK", "LOCK2"]);
        if !world.is_simulation() {
            // What another process sees.
            let foreign = std::fs::File::open(&path).unwrap();
            foreign.try_lock().unwrap();
            let refused = world.env.lock(&path).err().unwrap();
            assert_eq!(refused.class(), Class::Usage);
            assert!(world.env.lock_holder(&path).unwrap().is_some());
            foreign.unlock().unwrap();
            assert!(world.env.lock(&path).is_ok(), "a refused lock leaves nothing behind");
        }
    }
}

#[test]
fn maps_are_shared_and_survive() {
    for world in worlds() {
        let path = world.path("MAP");
        assert_eq!(world.env.map_shared(&path, 100).err().unwrap().class(), Class::Usage);
        assert_eq!(world.env.map_shared(&path, 0).err().unwrap().class(), Class::Usage);
        let one = world.env.map_shared(&path, 2 * IO_ALIGN).unwrap();
        let two = world.env.map_shared(&path, IO_ALIGN).unwrap();
        assert_eq!((one.words().len(), two.words().len()), (2 * IO_ALIGN / 8, IO_ALIGN / 8));
        assert!(one.words().iter().all(|word| word.load(Ordering::Relaxed) == 0));
        one.words()[3].store(42, Ordering::Relaxed);
        assert_eq!(two.words()[3].load(Ordering::Relaxed), 42);
        let file = world.env.open(&path, OpenMode::WRITE).unwrap();
        let mut bytes = [0; 8];
        file.read_at(&mut bytes, 24).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), 42);
        file.write_at(&7u64.to_le_bytes(), 32).unwrap();
        assert_eq!(one.clone().words()[4].load(Ordering::Relaxed), 7);
        drop((one, two));
        let longer = world.env.map_shared(&path, 4 * IO_ALIGN).unwrap();
        assert_eq!(longer.words()[3].load(Ordering::Relaxed), 42);
        assert_eq!(file.len().unwrap(), 4 * IO_ALIGN as u64);
    }
}

/// Waits for everything in flight.
fn drain(queue: &mut dyn IoQueue) -> HashMap<u64, IoDone> {
    let mut out = Vec::new();
    queue.wait(usize::MAX, &mut out).unwrap();
    assert_eq!(queue.in_flight(), 0);
    out.into_iter().map(|done| (done.tag, done)).collect()
}

#[test]
fn queues_write_sync_and_read_back() {
    const BLOCKS: u64 = 40;
    for world in worlds() {
        for mode in [OpenMode::CREATE, OpenMode::CREATE_DIRECT] {
            let name = format!("direct {}", mode.direct);
            let file = world.env.open(&world.path(&name), mode).unwrap();
            let mut queue = world.env.queue(8).unwrap();
            for block in 0..BLOCKS {
                let buf = filled(2 * IO_ALIGN, u8::try_from(block).unwrap());
                let offset = block * 2 * IO_ALIGN as u64;
                queue.push(block, IoOp::Write { file: Arc::clone(&file), offset, buf }).unwrap();
                if block % 10 == 9 {
                    queue.push(1000 + block, IoOp::Sync { file: Arc::clone(&file) }).unwrap();
                }
            }
            let done = drain(&mut *queue);
            assert_eq!(done.len(), 44);
            assert!(done.values().all(|done| done.result.is_ok()));
            assert!(done.values().all(|done| done.buf.is_some() == (done.tag < 1000)));
            for block in 0..BLOCKS {
                let buf = AlignedBuf::zeroed(2 * IO_ALIGN);
                let offset = block * 2 * IO_ALIGN as u64;
                queue.push(block, IoOp::Read { file: Arc::clone(&file), offset, buf }).unwrap();
            }
            for (tag, done) in drain(&mut *queue) {
                assert_eq!(done.result.unwrap(), 2 * IO_ALIGN);
                assert!(done.buf.unwrap().iter().all(|&byte| u64::from(byte) == tag));
            }
        }
    }
}

#[test]
fn queues_report_short_reads_and_failures_as_completions() {
    for world in worlds() {
        world.write("f", &[5; 6000]);
        let file = world.env.open(&world.path("f"), OpenMode::READ).unwrap();
        let direct = world.env.open(&world.path("f"), OpenMode::READ_DIRECT).unwrap();
        let mut queue = world.env.queue(4).unwrap();
        for (tag, file, offset) in [(1, &file, 0), (2, &direct, 0), (3, &file, 8192), (4, &direct, 8192)] {
            let buf = AlignedBuf::zeroed(3 * IO_ALIGN);
            queue.push(tag, IoOp::Read { file: Arc::clone(file), offset, buf }).unwrap();
        }
        queue.push(5, IoOp::Write { file: Arc::clone(&file), offset: 0, buf: filled(10, 1) }).unwrap();
        queue.push(6, IoOp::Sync { file: Arc::clone(&file) }).unwrap();
        queue.push(7, IoOp::Read { file: Arc::clone(&file), offset: 0, buf: AlignedBuf::zeroed(0) }).unwrap();
        if direct.is_direct() {
            queue.push(8, IoOp::Read { file: direct, offset: 1, buf: AlignedBuf::zeroed(IO_ALIGN) }).unwrap();
        }
        let mut done = drain(&mut *queue);
        let mut count = |tag| done.remove(&tag).unwrap().result.unwrap();
        assert_eq!([count(1), count(2), count(3), count(4), count(6), count(7)], [6000, 6000, 0, 0, 0, 0]);
        let failed = done.remove(&5).unwrap();
        assert!(failed.result.unwrap_err().to_string().starts_with("could not write"));
        assert_eq!(failed.buf.unwrap().len(), 10);
        assert!(done.into_values().all(|done| done.result.is_err() && done.buf.is_some()));
    }
}

#[test]
fn a_queue_counts_what_it_owes() {
    for world in worlds() {
        world.write("f", &[5; 4096]);
        let file = world.env.open(&world.path("f"), OpenMode::READ).unwrap();
        let mut queue = world.env.queue(2).unwrap();
        let mut out = Vec::new();
        queue.wait(3, &mut out).unwrap();
        for tag in 0..5 {
            let buf = AlignedBuf::zeroed(4096);
            queue.push(tag, IoOp::Read { file: Arc::clone(&file), offset: 0, buf }).unwrap();
            assert_eq!(queue.in_flight() as u64, tag + 1);
        }
        queue.wait(0, &mut out).unwrap();
        assert_eq!(queue.in_flight() + out.len(), 5);
        queue.wait(1, &mut out).unwrap();
        assert!(!out.is_empty());
        while queue.in_flight() > 0 {
            queue.wait(1, &mut out).unwrap();
        }
        assert_eq!(out.len(), 5);
    }
}

#[test]
fn dropping_a_queue_finishes_its_work() {
    for world in worlds() {
        let file = world.create("f");
        let mut queue = world.env.queue(64).unwrap();
        for block in 0..20 {
            let buf = filled(IO_ALIGN, 9);
            queue.push(block, IoOp::Write { file: Arc::clone(&file), offset: block * 4096, buf }).unwrap();
        }
        queue.push(20, IoOp::Sync { file }).unwrap();
        drop(queue);
        assert_eq!(world.read("f"), vec![9; 20 * 4096]);
    }
}

#[test]
fn a_queue_may_move_between_threads() {
    for world in worlds().into_iter().filter(|world| !world.is_simulation()) {
        let file = world.env.open(&world.path("f"), OpenMode::CREATE_DIRECT).unwrap();
        let mut queue = world.env.queue(32).unwrap();
        for round in 0..3 {
            let file = Arc::clone(&file);
            let mover = std::thread::spawn(move || {
                for block in 0..20 {
                    let buf = filled(IO_ALIGN, round);
                    queue.push(block, IoOp::Write { file: Arc::clone(&file), offset: block * 4096, buf }).unwrap();
                }
                queue.wait(0, &mut Vec::new()).unwrap();
                queue
            });
            queue = mover.join().unwrap();
            queue.push(99, IoOp::Sync { file: Arc::clone(&file_again(&world)) }).unwrap();
            let done = drain(&mut *queue);
            assert!(done.values().all(|done| done.result.is_ok()));
            assert_eq!(world.read("f"), vec![round; 20 * 4096]);
        }
    }
}

fn file_again(world: &World) -> Arc<dyn File> {
    world.env.open(&world.path("f"), OpenMode::WRITE).unwrap()
}

#[test]
fn time_passes_and_chance_varies() {
    for world in worlds() {
        let env = &world.env;
        let start = env.now();
        env.sleep(Duration::from_millis(2));
        assert!(env.now() - start >= Duration::from_millis(2));
        assert!(env.unix_time() > 1_700_000_000);
        let draws: std::collections::HashSet<u64> = (0..100).map(|_| env.random()).collect();
        assert_eq!(draws.len(), 100);
    }
}

#[test]
fn threads_run_and_join_where_they_exist() {
    for world in worlds() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let started = world.env.spawn("worker", Box::new(move || sender.send(1).unwrap()));
        if world.is_simulation() {
            assert_eq!(started.err().unwrap().class(), Class::Usage);
            continue;
        }
        started.unwrap().join();
        assert_eq!(receiver.recv(), Ok(1));
        world.env.spawn("panics", Box::new(|| panic!("on purpose"))).unwrap().join();
    }
}

#[test]
fn the_default_world_works() {
    let world = World::on_disk(super::default_env());
    world.write("f", b"hello");
    assert_eq!(world.read("f"), b"hello");
    super::poll_pause(Duration::from_micros(1));
}
