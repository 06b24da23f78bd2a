//! A value alone in its cache lines.

/// A value that has its cache lines to itself, because all workers write to it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub(crate) T);
