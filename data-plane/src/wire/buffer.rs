//! Memory that each worker reuses, so that a request allocates almost nothing.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    rc::Rc,
};

/// The size of one read from a socket. Measured: 32 KiB and 128 KiB cost more per byte.
pub(crate) const SIZE: usize = 64 << 10;

/// Most unused buffers of a worker.
const KEEP: usize = 64;

/// A worker's unused buffers.
#[derive(Default)]
pub(crate) struct Buffers {
    unused: RefCell<Vec<Box<[u8]>>>,
}

impl Buffers {
    /// A buffer of [`SIZE`] bytes with old content.
    pub(crate) fn take(self: &Rc<Self>) -> Buffer {
        let bytes = self.unused.borrow_mut().pop().unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
        Buffer { bytes, owner: Rc::clone(self) }
    }
}

/// Values that keep their memory from request to request.
pub(crate) struct FreeList<T>(RefCell<Vec<T>>);

impl<T> Default for FreeList<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T: Default> FreeList<T> {
    /// A used or a new value, with any content.
    pub(crate) fn take(&self) -> T {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a value for reuse.
    pub(crate) fn put(&self, value: T) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < KEEP {
            spare.push(value);
        }
    }
}

/// A buffer that returns to its worker when it is dropped.
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    owner: Rc<Buffers>,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut unused = self.owner.unused.borrow_mut();
        if unused.len() < KEEP {
            unused.push(std::mem::take(&mut self.bytes));
        }
    }
}
