//! The memory allocator of Weir's programs: mimalloc, told to give memory back soon.
//!
//! A burst of requests needs memory for each of them at once; afterwards the connections rest and need next to none.
//! mimalloc waits a second before it gives freed pages back, and looks only while somebody allocates: a node that has
//! become quiet would keep the memory of its burst. With a short delay 5,000 connections that did one request and
//! rest cost 1.5 to 2.5 KB each instead of 6 KB, at no measurable price for requests.
//!
//! This is the one crate with `unsafe` code: mimalloc has no safe interface to its options.

use std::ffi::c_long;

pub use mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Milliseconds from the moment a page is free until it goes back to the system.
const DELAY_MS: c_long = 50;

/// Has freed memory given back soon. To be called first thing in `main`. `MIMALLOC_PURGE_DELAY` in the environment has
/// precedence.
pub fn give_back_soon() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: the call stores a number in a static table; the index is one of the table's, and mimalloc reads the
        // option afresh whenever it is used.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, DELAY_MS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // What mimalloc starts with, as its own documentation has it: a second.
        // SAFETY: reads a number from a static table.
        let before = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(before, 1000);
        give_back_soon();
        // SAFETY: as above.
        assert_eq!(unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }, DELAY_MS);
    }
}
