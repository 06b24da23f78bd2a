//! The configuration and its history, as far as the caller may see them: only admins see password hashes.
//!
//! The caller is taken from the running call ([`trail`]), so that no handler can forget the check. Outside of a call,
//! hashes are hidden.

use std::{borrow::Cow, sync::Arc};

use weir_snapshot::{Config, config::Route, mask};

use super::App;
use crate::{
    access::{Role, trail},
    current::Current,
    store::Revision,
};

fn sees_hashes() -> bool {
    trail::caller().is_some_and(|caller| caller.role == Role::Admin)
}

/// The newest revision, as far as the caller may see it.
pub struct Shown(Arc<Current>);

impl Shown {
    /// Its number.
    pub fn revision(&self) -> u64 {
        self.0.revision
    }

    /// The whole configuration.
    pub fn config(&self) -> Cow<'_, Config> {
        if sees_hashes() {
            return Cow::Borrowed(&self.0.config);
        }
        let mut config = self.0.config.clone();
        mask::config(&mut config);
        Cow::Owned(config)
    }

    /// Every route.
    pub fn routes(&self) -> Vec<Route> {
        let mut routes = self.0.config.routes.clone();
        if !sees_hashes() {
            routes.iter_mut().for_each(mask::route);
        }
        routes
    }

    /// One route.
    pub fn route(&self, name: &str) -> Option<Route> {
        let mut route = self.0.config.routes.iter().find(|route| route.name == name)?.clone();
        if !sees_hashes() {
            mask::route(&mut route);
        }
        Some(route)
    }
}

impl App {
    /// The newest revision, as far as the caller may see it.
    pub fn shown(&self) -> Shown {
        Shown(self.current())
    }
}

/// A revision, as far as the caller may see it.
pub(super) fn revision(mut revision: Revision) -> Revision {
    if !sees_hashes() {
        revision.changes.iter_mut().for_each(mask::change);
    }
    revision
}
