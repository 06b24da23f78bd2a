//! What is asked of every proxy.

/// One kind of request, sent over and over on connections that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Its name in the reports.
    pub name: &'static str,
    /// What is asked for; the backends answer it, see [`crate::backend`].
    pub path: &'static str,
}

/// An answer that fits any buffer: the cost of a request as such.
pub const SMALL_GET: Workload = Workload { name: "small GET", path: "/small" };
/// An answer of 100 KB: the cost of moving bytes.
pub const LARGE_ANSWER: Workload = Workload { name: "100 KB answer", path: "/large" };

/// Every workload, in the order of the report.
pub const ALL: [Workload; 2] = [SMALL_GET, LARGE_ANSWER];
