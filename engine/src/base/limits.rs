//! Every capacity of the engine, with the arithmetic behind it.

/// Unit of direct I/O: offset, length and memory of every direct read and write are multiples of it. 4 KiB is the
/// physical sector of today's NVMe drives and a multiple of the 512 bytes that older ones ask for.
pub const IO_ALIGN: usize = 4096;

/// Smallest and largest block size that options accept, in bytes before compression.
pub const BLOCK_SIZE_MIN: usize = 4 << 10;
/// See [`BLOCK_SIZE_MIN`].
pub const BLOCK_SIZE_MAX: usize = 64 << 10;

/// Longest user key: its length fits 16 bits with room for the tree prefix. A block that holds a single entry may exceed
/// the block limit (see docs/formats/block.md), so long keys need no other provision.
pub const KEY_LEN_MAX: usize = 16 << 10;

/// Longest value. The whole value travels through memory in one piece.
pub const VALUE_LEN_MAX: usize = 64 << 20;

/// Longest name of a tree. Every manifest begins with all names.
pub const TREE_NAME_LEN_MAX: usize = 1 << 10;

/// Levels of the tree, L0 to L6: with a factor of 10 between levels and 64 MiB at the base, 6 sorted levels hold
/// 64 MiB × 10⁵ = 6.4 TiB before the last level must grow past its target.
pub const LEVEL_COUNT: usize = 7;

/// Most memtables (the active one and those waiting for their flush). Sixteen 4-bit indices fill one atomic word.
pub const MEMTABLES_MAX: usize = 15;

const _: () = assert!(KEY_LEN_MAX + 16 <= u16::MAX as usize);
const _: () = assert!(BLOCK_SIZE_MIN.is_multiple_of(IO_ALIGN) && BLOCK_SIZE_MAX.is_multiple_of(IO_ALIGN));
const _: () = assert!(MEMTABLES_MAX < 16);
