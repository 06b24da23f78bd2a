//! Progress on standard error, only if it is a terminal: a spinner for waits longer than 1 s, and a bar for load tests
//! and rollouts.

use std::{
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

/// The spinner appears after this time.
const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(120);

/// Spinner that shows what the program waits for, if the wait is long. Cleared when dropped.
pub(crate) struct Waiting {
    later: Option<JoinHandle<()>>,
    bar: Arc<Mutex<Option<ProgressBar>>>,
}

impl Waiting {
    pub(crate) fn new(message: String) -> Self {
        let bar = Arc::default();
        if !io::stderr().is_terminal() {
            return Self { later: None, bar };
        }
        let shown = Arc::clone(&bar);
        let later = tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            let spinner = ProgressBar::new_spinner().with_message(message);
            spinner.enable_steady_tick(TICK);
            *shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(spinner);
        });
        Self { later: Some(later), bar }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(later) = &self.later {
            later.abort();
        }
        if let Some(bar) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

/// Progress bar. Cleared when dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Creates a bar that is full at `total`, in the format of the template.
    pub(crate) fn new(total: u64, template: &str) -> Self {
        let target = match io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    pub(crate) fn set(&self, done: u64, message: String) {
        self.0.set_position(done);
        self.0.set_message(message);
    }

    /// Hides the bar while `write` runs.
    pub(crate) fn aside(&self, write: impl FnOnce()) {
        self.0.suspend(write);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
