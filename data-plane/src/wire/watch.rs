//! Watching the client while a backend works for it.

use std::task::{Context, Poll};

use weir_http::ResponseHead;

use crate::failure::Failure;

/// Looks after the client while its answer is awaited: why to give up, if there is a reason.
pub(crate) trait Watch {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Failure>;
    /// Gets each 1xx answer (RFC 9110, 15.2).
    fn interim(&mut self, head: &ResponseHead);
}
