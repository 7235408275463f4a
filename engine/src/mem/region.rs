//! One contiguous region of memory that holds everything threads and processes share.
//!
//! A [`Layout`] is a list of named parts (fixed arrays of plain data and atomics, and raw bytes); its hash makes sure that
//! whoever attaches sees the same parts. There is no allocator inside: each part's size follows from options.
//!
//! Rules this module relies on:
//! 1. Every part type is [`Shared`]: `repr(C)`, valid when zeroed, free of pointers, changed only through atomics. A fresh
//!    region is all zeros, so zero is every part's initial state and creation needs no second step.
//! 2. Parts are disjoint, aligned for their type and inside the region; `Layout` computes them and nobody else does.
//! 3. The memory lives as long as the last clone of [`Region`]; an attached region is kept alive by its maker.
#![expect(unsafe_code, reason = "typed views of one raw mapping")]

use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::base::checksum::key_hash;
use crate::base::limits::IO_ALIGN;
use crate::error::{Error, Result};

/// Types that may live in the region.
///
/// # Safety
/// The type is `repr(C)` (or a primitive atomic), every bit pattern including all zeros is valid, it holds no pointer and
/// no owned memory, and all its fields are atomics (or arrays and structs of such), so that shared access never races.
pub unsafe trait Shared: Sync + Sized + 'static {}

// SAFETY: a primitive atomic meets every clause.
unsafe impl Shared for AtomicU64 {}
// SAFETY: a primitive atomic meets every clause.
unsafe impl Shared for AtomicU32 {}
// SAFETY: a primitive atomic meets every clause.
unsafe impl Shared for AtomicU16 {}
// SAFETY: an array of `Shared` has no padding of its own and meets every clause its items meet.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}

/// Declares a `repr(C)` struct of atomics that lives in the region.
///
/// The macro writes the `Shared` implementation and requires `Shared` of each field, so the unsafe argument is made once.
#[macro_export]
macro_rules! shared_struct {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fmeta:meta])* $fvis:vis $field:ident : $ty:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        $vis struct $name { $($(#[$fmeta])* $fvis $field: $ty,)* }

        #[expect(unsafe_code, reason = "the macro requires Shared of each field")]
        // SAFETY: repr(C), and each field is itself `Shared`, as the function below makes the compiler check.
        unsafe impl $crate::mem::region::Shared for $name {}
        const _: () = {
            const fn is_shared<T: $crate::mem::region::Shared>() {}
            $(is_shared::<$ty>();)*
        };
    };
}

/// Place of a fixed array of `T` in the region.
pub struct Part<T> {
    offset: usize,
    count: usize,
    _of: PhantomData<fn() -> T>,
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Part<T> {}

/// Place of raw bytes in the region, aligned to [`IO_ALIGN`].
#[derive(Clone, Copy, Debug)]
pub struct BytesPart {
    offset: usize,
    len: usize,
}

impl BytesPart {
    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the part has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The parts of a region, in order. Built the same way by everyone who attaches.
#[derive(Clone, Debug)]
pub struct Layout {
    size: usize,
    description: Vec<u8>,
}

shared_struct! {
    /// First bytes of every region: what `attach` checks.
    struct Header {
        magic: AtomicU64,
        layout_hash: AtomicU64,
    }
}

const MAGIC: u64 = u64::from_le_bytes(*b"ssdbregn");
const CACHE_LINE: usize = 64;

impl Default for Layout {
    fn default() -> Self {
        Self::new()
    }
}

impl Layout {
    /// A layout with nothing but the header.
    #[must_use]
    pub fn new() -> Self {
        Self { size: CACHE_LINE, description: Vec::new() }
    }

    fn place(&mut self, name: &str, align: usize, item: usize, count: usize) -> usize {
        let offset = self.size.next_multiple_of(align);
        self.size = offset + item * count;
        self.description.extend_from_slice(name.as_bytes());
        for number in [offset, item, count] {
            self.description.extend_from_slice(&(number as u64).to_le_bytes());
        }
        offset
    }

    /// Adds an array of `count` items, starting on a cache line of its own.
    pub fn part<T: Shared>(&mut self, name: &str, count: usize) -> Part<T> {
        let offset = self.place(name, align_of::<T>().max(CACHE_LINE), size_of::<T>(), count);
        Part { offset, count, _of: PhantomData }
    }

    /// Adds `len` raw bytes aligned to [`IO_ALIGN`].
    pub fn bytes(&mut self, name: &str, len: usize) -> BytesPart {
        BytesPart { offset: self.place(name, IO_ALIGN, 1, len), len }
    }

    /// Bytes that a region of this layout needs.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size.next_multiple_of(IO_ALIGN)
    }

    /// Equal for equal layouts.
    #[must_use]
    pub fn hash(&self) -> u64 {
        key_hash(&self.description)
    }
}

struct Mapping {
    base: NonNull<u8>,
    size: usize,
    owned: bool,
}

// SAFETY: the mapping is plain memory; every access goes through `Shared` types or the raw-byte owners' own rules.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: `base` and `size` are those of the mmap in `Region::map`, unmapped once.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
        }
    }
}

/// The mapped region. Clones share it.
#[derive(Clone)]
pub struct Region {
    mapping: Arc<Mapping>,
}

impl Region {
    /// A fresh region private to this process.
    ///
    /// # Errors
    /// I/O when the memory is refused.
    pub fn anonymous(layout: &Layout) -> Result<Self> {
        let region = Self::map(layout, libc::MAP_PRIVATE)?;
        #[cfg(target_os = "linux")]
        {
            let Mapping { base, size, .. } = *region.mapping;
            // SAFETY: advice on our own mapping; a refusal changes nothing.
            unsafe { libc::madvise(base.as_ptr().cast(), size, libc::MADV_HUGEPAGE) };
        }
        Ok(region)
    }

    /// A fresh region that children made by `fork` share with their parent.
    ///
    /// # Errors
    /// I/O when the memory is refused.
    pub fn inherited(layout: &Layout) -> Result<Self> {
        Self::map(layout, libc::MAP_SHARED)
    }

    fn map(layout: &Layout, sharing: libc::c_int) -> Result<Self> {
        let (size, flags) = (layout.size(), sharing | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            let what = Path::new("shared region");
            return Err(Error::io(what, "map", io::Error::last_os_error()));
        }
        let base = NonNull::new(base.cast()).expect("mmap never returns null for a mapping it made");
        let region = Self { mapping: Arc::new(Mapping { base, size, owned: true }) };
        region.stamp(layout);
        Ok(region)
    }

    /// Attaches to memory that somebody else made: zeroed (then it becomes a fresh region) or already a region of the
    /// same layout. Two processes must not attach to zeroed memory at the same moment.
    ///
    /// # Errors
    /// Usage when the memory is too small or holds a region of another layout.
    ///
    /// # Safety
    /// `base` points to `len` bytes, aligned to a page, readable and writable for as long as any clone of the region
    /// lives, and used only by regions.
    pub unsafe fn attach(base: NonNull<u8>, len: usize, layout: &Layout) -> Result<Self> {
        let size = layout.size();
        if len < size {
            return Err(Error::usage(
                format!("shared region has {len} bytes, {size} are needed"),
                "Create the region with the same options that it is attached with.",
            ));
        }
        let region = Self { mapping: Arc::new(Mapping { base, size, owned: false }) };
        let header = region.header();
        match header.magic.load(Ordering::Acquire) {
            0 => region.stamp(layout),
            MAGIC if header.layout_hash.load(Ordering::Relaxed) == layout.hash() => {}
            _ => {
                return Err(Error::usage(
                    "shared region has another layout",
                    "Attach with the same version of the engine and the same options as the region's creator.",
                ));
            }
        }
        Ok(region)
    }

    fn stamp(&self, layout: &Layout) {
        let header = self.header();
        header.layout_hash.store(layout.hash(), Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
    }

    fn header(&self) -> &Header {
        // SAFETY: the mapping is at least a cache line long, page-aligned, and the header is `Shared` (rule 1).
        unsafe { self.mapping.base.cast::<Header>().as_ref() }
    }

    /// The items of `part`.
    #[must_use]
    pub fn part<T: Shared>(&self, part: Part<T>) -> &[T] {
        assert!(part.offset + part.count * size_of::<T>() <= self.mapping.size, "a part of another layout");
        // SAFETY: the assertion keeps the address inside the mapping.
        let first = unsafe { self.mapping.base.add(part.offset) };
        // SAFETY: rules 1 and 2: aligned, in bounds, and any bits are valid values of a `Shared` type.
        unsafe { slice::from_raw_parts(first.cast().as_ptr(), part.count) }
    }

    /// The first of the raw bytes of `part`. Whoever laid out the part makes the rules for access to it.
    #[must_use]
    pub fn bytes(&self, part: BytesPart) -> NonNull<u8> {
        assert!(part.offset + part.len <= self.mapping.size, "a part of another layout");
        // SAFETY: the assertion keeps the address inside the mapping.
        unsafe { self.mapping.base.add(part.offset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    shared_struct! {
        struct Pair {
            a: AtomicU64,
            b: AtomicU32,
        }
    }

    #[test]
    fn parts_are_zeroed_aligned_and_apart() {
        let mut layout = Layout::new();
        let pairs = layout.part::<Pair>("pairs", 3);
        let bytes = layout.bytes("bytes", 100);
        let region = Region::anonymous(&layout).unwrap();
        let items = region.part(pairs);
        assert_eq!(items.len(), 3);
        assert!(items.iter().all(|p| p.a.load(Ordering::Relaxed) == 0 && p.b.load(Ordering::Relaxed) == 0));
        assert_eq!(items.as_ptr().addr() % CACHE_LINE, 0);
        assert_eq!(region.bytes(bytes).addr().get() % IO_ALIGN, 0);
        items[2].a.store(7, Ordering::Relaxed);
        assert_eq!(region.clone().part(pairs)[2].a.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn attaching_checks_the_layout() {
        let mut layout = Layout::new();
        let part = layout.part::<AtomicU64>("numbers", 8);
        let owner = Region::anonymous(&layout).unwrap();
        let Mapping { base, size, .. } = *owner.mapping;
        // SAFETY: `owner` keeps the memory for the whole test.
        let again = unsafe { Region::attach(base, size, &layout) }.unwrap();
        owner.part(part)[0].store(1, Ordering::Relaxed);
        assert_eq!(again.part(part)[0].load(Ordering::Relaxed), 1);

        let mut other = Layout::new();
        other.part::<AtomicU64>("numbers", 9);
        // SAFETY: as above.
        let refused = unsafe { Region::attach(base, size, &other) }.err().unwrap();
        assert_eq!(refused.to_string(), "shared region has another layout");
    }
}
