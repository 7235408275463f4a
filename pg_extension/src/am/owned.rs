//! Rust values that end with a memory context of the server, also when an error jumps over the frames that use them.

use std::ffi::c_void;

use pgrx::pg_guard;
use pgrx::pg_sys;

#[pg_guard]
unsafe extern "C-unwind" fn drop_boxed<T>(value: *mut c_void) {
    // SAFETY: `own` leaked this box, and the callback runs once.
    unsafe { drop(Box::from_raw(value.cast::<T>())) };
}

/// Gives `value` to the present memory context.
pub fn own<'c, T: 'static>(value: T) -> &'c mut T {
    let boxed = Box::into_raw(Box::new(value));
    // SAFETY: the callback lives in the context whose end it is called at.
    unsafe {
        let callback =
            pg_sys::palloc(size_of::<pg_sys::MemoryContextCallback>()).cast::<pg_sys::MemoryContextCallback>();
        (*callback).func = Some(drop_boxed::<T>);
        (*callback).arg = boxed.cast();
        pg_sys::MemoryContextRegisterResetCallback(pg_sys::CurrentMemoryContext, callback);
        &mut *boxed
    }
}
